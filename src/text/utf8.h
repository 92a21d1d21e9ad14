#pragma once
/// One step through bytes that may or may not be UTF-8. Private to the room.
/// Source: The Unicode Standard 16.0, table 3-7 (well-formed byte sequences).

#include <cstddef>
#include <cstdint>
#include <string>

namespace text {

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

/// Appends the UTF-8 form of a code point below U+110000.
void append_utf8(std::string& out, char32_t code);

}  // namespace text
