// Strings, numbers and words of JSON, checked byte by byte.

#include "data/json_scanner.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <optional>

#include "base/utf8.h"

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

}  // namespace

std::string_view decode_json_string(char* begin, const char* end) {
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
        out = base::put_utf8(out, character->code);
        at += character->bytes;
        break;
      }
      default:
        *out++ = kind;
    }
  }
  return {begin, static_cast<std::size_t>(out - begin)};
}

std::string JsonScanner::syntax_error() const {
  if (depth_exceeded_) return fmt::format("nested deeper than {} levels", kMaxDepth);
  return fmt::format("not valid JSON at byte {} of the line", at_ - begin_ + 1);
}

bool JsonScanner::can_begin(int depth) {
  if (depth > kMaxDepth) depth_exceeded_ = true;
  return !depth_exceeded_ && at_ != end_;
}

std::string_view JsonScanner::type() const {
  switch (*at_) {
    case '"':
      return "string";
    case '{':
      return "object";
    case '[':
      return "array";
    case 't':
    case 'f':
      return "boolean";
    case 'n':
      return "null";
    default:
      return "number";
  }
}

bool JsonScanner::skip_value(int depth) {
  if (!can_begin(depth)) return false;
  switch (*at_) {
    case '"':
      return string();
    case '{':
      return members([&](std::string_view) { return skip_value(depth + 1); });
    case '[':
      return elements([&] { return skip_value(depth + 1); });
    case 't':
      return word("true");
    case 'f':
      return word("false");
    case 'n':
      return word("null");
    default:
      return number();
  }
}

bool JsonScanner::is_key(std::string_view key, std::string_view name) {
  if (key == name) return true;
  if (key.find('\\') == std::string_view::npos) return false;
  std::string copy(key);
  return decode_json_string(copy.data(), copy.data() + copy.size()) == name;
}

bool JsonScanner::string() {
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

bool JsonScanner::word(std::string_view expected) {
  for (const char c : expected) {
    if (!take(c)) return false;
  }
  return true;
}

bool JsonScanner::digits() {
  const char* first = at_;
  while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
  return at_ != first;
}

bool JsonScanner::number() {
  take('-');
  if (!take('0') && !digits()) return false;
  if (take('.') && !digits()) return false;
  if (take('e') || take('E')) {
    if (!take('+')) take('-');
    return digits();
  }
  return true;
}

}  // namespace data
