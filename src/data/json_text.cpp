// One pass over the line, nothing kept but the place of the string that is wanted. A general parser
// builds a tree first, and would be slower than the tokenizer it feeds.

#include "data/json_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <cstring>
#include <optional>

namespace data {
namespace {

constexpr int kMaxDepth = 1000;  // of nesting: a bound for the stack

bool is_plain(char c) { return c != '"' && c != '\\' && static_cast<unsigned char>(c) >= 0x20; }

/// The first quote, backslash or control character.
const char* skip_plain(const char* at, const char* end) {
  constexpr std::ptrdiff_t kStep = 32;  // a loop of fixed length becomes vector instructions
  while (end - at >= kStep) {
    unsigned special = 0;
    for (std::ptrdiff_t i = 0; i < kStep; ++i) special |= is_plain(at[i]) ? 0U : 1U;
    if (special != 0) break;
    at += kStep;
  }
  while (at != end && is_plain(*at)) ++at;
  return at;
}

/// Four hexadecimal digits, or nothing.
std::optional<std::uint32_t> hex4(const char* at, const char* end) {
  if (end - at < 4) return std::nullopt;
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = at[i];
    const char lower = static_cast<char>(c | 0x20);
    if (c >= '0' && c <= '9') {
      value = value * 16 + static_cast<std::uint32_t>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value * 16 + static_cast<std::uint32_t>(lower - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  return value;
}

/// A \u escape (`at` stands behind the u): its character and its length, or nothing where it is not
/// one or is half of a pair.
struct Escape {
  std::uint32_t code;
  std::ptrdiff_t bytes;
};
std::optional<Escape> unicode_escape(const char* at, const char* end) {
  const auto first = hex4(at, end);
  if (!first || (*first >= 0xDC00 && *first < 0xE000)) return std::nullopt;
  if (*first < 0xD800 || *first >= 0xE000) return Escape{*first, 4};
  if (end - at < 10 || at[4] != '\\' || at[5] != 'u') return std::nullopt;
  const auto second = hex4(at + 6, end);
  if (!second || *second < 0xDC00 || *second >= 0xE000) return std::nullopt;
  return Escape{0x10000 + ((*first - 0xD800) << 10) + (*second - 0xDC00), 10};
}

char* put_utf8(char* out, std::uint32_t code) {
  const auto put = [&out](std::uint32_t byte) { *out++ = static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
  return out;
}

/// Replaces the escapes of a string that was checked; the text is never longer than what it was.
std::string_view decode(char* begin, const char* end) {
  char* out = begin;
  for (const char* at = begin; at != end;) {
    const auto* escape =
        static_cast<const char*>(std::memchr(at, '\\', static_cast<std::size_t>(end - at)));
    const char* stop = escape != nullptr ? escape : end;
    if (out != at) std::memmove(out, at, static_cast<std::size_t>(stop - at));
    out += stop - at;
    at = stop;
    if (at == end) break;
    const char kind = at[1];
    at += 2;
    switch (kind) {
      case 'b':
        *out++ = '\b';
        break;
      case 'f':
        *out++ = '\f';
        break;
      case 'n':
        *out++ = '\n';
        break;
      case 'r':
        *out++ = '\r';
        break;
      case 't':
        *out++ = '\t';
        break;
      case 'u': {
        const auto character = unicode_escape(at, end);
        out = put_utf8(out, character->code);
        at += character->bytes;
        break;
      }
      default:
        *out++ = kind;
    }
  }
  return {begin, static_cast<std::size_t>(out - begin)};
}

class Parser {
 public:
  Parser(std::span<char> line, const std::vector<std::string>& field)
      : begin_(line.data()), at_(begin_), end_(begin_ + line.size()), field_(field) {}

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
    text = decode(text_begin_, text_end_);
    return "";
  }

 private:
  static constexpr std::size_t kElsewhere = SIZE_MAX;

  std::string syntax_error() const {
    if (depth_exceeded_) return fmt::format("nested deeper than {} levels", kMaxDepth);
    return fmt::format("not valid JSON at byte {} of the line", at_ - begin_ + 1);
  }
  void space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
  }
  bool take(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  /// A value with `matched` names of the field behind it (kElsewhere: it is none of our business).
  bool value(std::size_t matched, int depth) {
    if (depth > kMaxDepth) depth_exceeded_ = true;
    if (depth_exceeded_ || at_ == end_) return false;
    if (*at_ == '"') {
      char* begin = at_ + 1;
      if (!string()) return false;
      if (matched == field_.size()) {
        text_begin_ = begin;
        text_end_ = at_ - 1;
      } else {
        note("string", matched);
      }
      return true;
    }
    switch (*at_) {
      case '{':
        if (matched == field_.size()) note("object", matched);
        return object(matched < field_.size() ? matched : kElsewhere, depth);
      case '[':
        note("array", matched);
        return array(depth);
      case 't':
        note("boolean", matched);
        return word("true");
      case 'f':
        note("boolean", matched);
        return word("false");
      case 'n':
        note("null", matched);
        return word("null");
      default:
        note("number", matched);
        return number();
    }
  }

  /// Remembers that something on the way to the text is of another type.
  void note(std::string_view type, std::size_t matched) {
    if (matched == kElsewhere) return;
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
    ++at_;
    space();
    if (take('}')) return true;
    for (;;) {
      const char* key = at_ + 1;
      if (at_ == end_ || *at_ != '"' || !string()) return false;
      const bool ours =
          matched != kElsewhere && is_key({key, static_cast<std::size_t>(at_ - 1 - key)}, matched);
      space();
      if (!take(':')) return false;
      space();
      if (ours) {  // the last of equal keys counts
        text_begin_ = nullptr;
        wrong_.clear();
      }
      if (!value(ours ? matched + 1 : kElsewhere, depth + 1)) return false;
      space();
      if (take('}')) return true;
      if (!take(',')) return false;
      space();
    }
  }

  bool is_key(std::string_view key, std::size_t matched) const {
    if (key == field_[matched]) return true;
    if (key.find('\\') == std::string_view::npos) return false;
    std::string copy(key);
    return decode(copy.data(), copy.data() + copy.size()) == field_[matched];
  }

  bool array(int depth) {
    ++at_;
    space();
    if (take(']')) return true;
    for (;;) {
      if (!value(kElsewhere, depth + 1)) return false;
      space();
      if (take(']')) return true;
      if (!take(',')) return false;
      space();
    }
  }

  /// A string with its quotes, checked.
  bool string() {
    ++at_;
    for (;;) {
      at_ += skip_plain(at_, end_) - at_;
      if (at_ == end_) return false;
      if (*at_ == '"') {
        ++at_;
        return true;
      }
      if (*at_ != '\\' || at_ + 1 == end_) return false;
      const char kind = at_[1];
      if (kind == 'u') {
        const auto escape = unicode_escape(at_ + 2, end_);
        if (!escape) return false;
        at_ += 2 + escape->bytes;
      } else if (std::strchr("\"\\/bfnrt", kind) != nullptr && kind != '\0') {
        at_ += 2;
      } else {
        return false;
      }
    }
  }

  bool word(std::string_view expected) {
    for (const char c : expected) {
      if (!take(c)) return false;
    }
    return true;
  }
  bool digits() {
    const char* first = at_;
    while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
    return at_ != first;
  }
  bool number() {
    take('-');
    if (!take('0') && !digits()) return false;
    if (take('.') && !digits()) return false;
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      return digits();
    }
    return true;
  }

  char* begin_;
  char* at_;
  char* end_;
  const std::vector<std::string>& field_;
  char* text_begin_ = nullptr;
  char* text_end_ = nullptr;
  std::string wrong_;
  bool depth_exceeded_ = false;
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
