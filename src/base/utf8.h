#pragma once
/// One step through bytes that may or may not be UTF-8, and characters as bytes.
/// Source: The Unicode Standard 16.0, table 3-7 (well-formed byte sequences).

#include <cstddef>
#include <cstdint>
#include <string>

namespace base {

/// What stands at a place in the bytes.
enum class Utf8 : std::uint8_t {
  kWhole,    // a well-formed character
  kInvalid,  // a byte that is part of no character
  kCut,      // the beginning of a character, cut off by the end of the bytes
};

struct Utf8Step {
  Utf8 kind;
  std::uint8_t bytes;  // of the character; 1 for kInvalid and kCut
  char32_t code;       // of the character; 0 for kInvalid and kCut
};

/// Looks at [p, end), which must not be empty.
inline Utf8Step utf8_step(const char* p, const char* end) {
  const auto lead = static_cast<std::uint8_t>(*p);
  if (lead < 0x80) return {Utf8::kWhole, 1, lead};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8::kInvalid, 1, 0};
  const std::uint8_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies past U+10FFFF.
  std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t code = lead & (0x7FU >> length);
  for (std::ptrdiff_t i = 1; i < length; ++i) {
    if (p + i == end) return {Utf8::kCut, 1, 0};
    const auto byte = static_cast<std::uint8_t>(p[i]);
    if (byte < low || byte > high) return {Utf8::kInvalid, 1, 0};
    code = code << 6 | (byte & 0x3FU);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8::kWhole, length, code};
}

/// Writes the UTF-8 form of a code point below U+110000 to `out`, at most four bytes; returns their
/// end.
inline char* put_utf8(char* out, char32_t code) {
  const auto put = [&out](char32_t byte) { *out++ = static_cast<char>(byte); };
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

/// Appends it to a string.
inline void append_utf8(std::string& out, char32_t code) {
  char bytes[4];
  out.append(bytes, put_utf8(bytes, code));
}

}  // namespace base
