// One pass over the line, nothing kept but the place of the string that is wanted. A general parser
// builds a tree first, and would be slower than the tokenizer it feeds.

#include "data/json_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>

#include "data/json_scanner.h"

namespace data {
namespace {

class Parser : JsonScanner {
 public:
  Parser(std::span<char> line, const std::vector<std::string>& field)
      : JsonScanner(line), field_(field) {}

  std::string run(std::string_view& text) {
    space();
    if (!value(0, 0)) return syntax_error();
    space();
    if (at_ != end_) return syntax_error();
    if (!wrong_.empty()) return wrong_;
    if (text_begin_ == nullptr) {
      return fmt::format(
          "the field '{}' is missing; name the field that holds the text with --text-field",
          fmt::join(field_, "."));
    }
    text = decode_json_string(text_begin_, text_end_);
    return "";
  }

 private:
  /// A value with `matched` names of the field behind it.
  bool value(std::size_t matched, int depth) {
    if (!can_begin(depth)) return false;
    const std::string_view is = type();
    if (is == "string" && matched == field_.size()) {
      text_begin_ = at_ + 1;
      if (!string()) return false;
      text_end_ = at_ - 1;
      return true;
    }
    if (is == "object" && matched < field_.size()) return object(matched, depth);
    note(is, matched);
    return skip_value(depth);
  }

  /// Remembers that something on the way to the text is of another type.
  void note(std::string_view type, std::size_t matched) {
    if (matched == 0) {
      wrong_ = fmt::format("expected a JSON object with the field '{}', got {}",
                           fmt::join(field_, "."), type);
      return;
    }
    const auto end = field_.begin() + static_cast<std::ptrdiff_t>(matched);
    wrong_ = fmt::format("field '{}': expected {}, got {}", fmt::join(field_.begin(), end, "."),
                         matched == field_.size() ? "a string" : "an object", type);
  }

  bool object(std::size_t matched, int depth) {
    return members([&](std::string_view key) {
      if (!is_key(key, field_[matched])) return skip_value(depth + 1);
      text_begin_ = nullptr;  // the last of equal keys counts
      wrong_.clear();
      return value(matched + 1, depth + 1);
    });
  }

  const std::vector<std::string>& field_;
  char* text_begin_ = nullptr;
  char* text_end_ = nullptr;
  std::string wrong_;
};

}  // namespace

std::vector<std::string> split_field(std::string_view field) {
  std::vector<std::string> names;
  for (;;) {
    const std::size_t dot = field.find('.');
    names.emplace_back(field.substr(0, dot));
    if (dot == std::string_view::npos) return names;
    field.remove_prefix(dot + 1);
  }
}

std::string find_text(std::span<char> line, const std::vector<std::string>& field,
                      std::string_view& text) {
  return Parser(line, field).run(text);
}

}  // namespace data
