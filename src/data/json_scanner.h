#pragma once
/// JSON read front to back, nothing kept: what the readers of lines have in common. Private to the
/// room.
///
/// Law: the whole line is checked against RFC 8259, but bytes that are not UTF-8 are kept.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace data {

/// Replaces the escapes of a string that was checked, in place: the text is never longer than what
/// it was.
std::string_view decode_json_string(char* begin, const char* end);

class JsonScanner {
 protected:
  explicit JsonScanner(std::span<char> line)
      : begin_(line.data()), at_(begin_), end_(begin_ + line.size()) {}

  /// What is wrong where a function has returned false.
  std::string syntax_error() const;
  void space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
  }
  bool take(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  /// True when a value may begin here, so deep.
  bool can_begin(int depth);
  /// "string", "object", ...: what begins here, if it is valid.
  std::string_view type() const;
  /// Passes over a value.
  bool skip_value(int depth);
  /// Passes over a string, with its quotes.
  bool string();
  /// Whether a key, escapes and all, is this name.
  static bool is_key(std::string_view key, std::string_view name);

  /// Passes over an object; member(key) passes over the value that begins here.
  template <class Member>
  bool members(Member&& member) {
    ++at_;
    space();
    if (take('}')) return true;
    for (;;) {
      const char* key = at_ + 1;
      if (at_ == end_ || *at_ != '"' || !string()) return false;
      const std::string_view name(key, static_cast<std::size_t>(at_ - 1 - key));
      space();
      if (!take(':')) return false;
      space();
      if (!member(name)) return false;
      space();
      if (take('}')) return true;
      if (!take(',')) return false;
      space();
    }
  }
  /// Passes over an array; element() passes over the value that begins here.
  template <class Element>
  bool elements(Element&& element) {
    ++at_;
    space();
    if (take(']')) return true;
    for (;;) {
      if (!element()) return false;
      space();
      if (take(']')) return true;
      if (!take(',')) return false;
      space();
    }
  }

  char* begin_;
  char* at_;
  char* end_;

 private:
  bool word(std::string_view expected);
  bool digits();
  bool number();

  bool depth_exceeded_ = false;
};

}  // namespace data
