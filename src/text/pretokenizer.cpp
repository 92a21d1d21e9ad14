// The pattern by hand: a table of classes for ASCII, two-stage tables for the rest.

#include "text/pretokenizer.h"

#include <array>
#include <cstddef>

#include "text/utf8.h"

namespace text {
namespace {

#include "text/unicode_tables.inc"

constexpr CharClass table_class(char32_t code) {
  if (code >= kClassLimit) return CharClass::kOther;
  const std::size_t cell = std::size_t{kClassBlock[code / 128]} * 128 + code % 128;
  return static_cast<CharClass>(kClassBits[cell / 32] >> (cell % 32 * 2) & 3);
}

/// Two classes more than the pattern has, for bytes.
constexpr std::uint8_t kInvalidByte = 4;  // part of no character
constexpr std::uint8_t kBeyondAscii = 5;  // look at the whole character
constexpr std::uint8_t kSpaceClass = static_cast<std::uint8_t>(CharClass::kSpace);

/// The class of each byte that is a character by itself.
constexpr auto kByteClass = [] {
  std::array<std::uint8_t, 256> table{};
  table.fill(kBeyondAscii);
  for (std::size_t c = 0; c < 128; ++c) {
    table[c] = static_cast<std::uint8_t>(table_class(static_cast<char32_t>(c)));
  }
  return table;
}();

struct Character {
  std::uint8_t char_class;  // a CharClass or kInvalidByte
  std::uint8_t bytes;
};

inline std::uint8_t byte_class(char byte) { return kByteClass[static_cast<std::uint8_t>(byte)]; }

Character wide_character(const char* p, const char* end) {
  const Utf8Step step = utf8_step(p, end);
  if (step.kind != Utf8::kWhole) return {kInvalidByte, 1};
  return {static_cast<std::uint8_t>(table_class(step.code)), step.bytes};
}

inline Character character_at(const char* p, const char* end) {
  const std::uint8_t of_byte = byte_class(*p);
  if (of_byte != kBeyondAscii) return {of_byte, 1};
  return wide_character(p, end);
}

/// The end of the run of `char_class` that goes on at p.
inline const char* run_end(const char* p, const char* end, std::uint8_t char_class) {
  while (p < end) {
    const Character c = character_at(p, end);
    if (c.char_class != char_class) break;
    p += c.bytes;
  }
  return p;
}

/// Bytes of the contraction at p, where an apostrophe stands; 0 if none does.
inline std::ptrdiff_t contraction_bytes(const char* p, const char* end) {
  const char first = end - p > 1 ? p[1] : '\0';
  const char second = end - p > 2 ? p[2] : '\0';
  switch (first) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return second == 'e' ? 3 : 0;
    case 'l':
      return second == 'l' ? 3 : 0;
    default:
      return 0;
  }
}

/// \s+(?!\S)|\s+ : the run, less its last character where something follows and something is left.
const char* space_end(const char* p, const char* end) {
  const char* last = p;
  const char* q = p;
  while (q < end) {
    const Character c = character_at(q, end);
    if (c.char_class != kSpaceClass) return last == p ? q : last;
    last = q;
    q += c.bytes;
  }
  return q;
}

}  // namespace

CharClass class_of(char32_t code) { return table_class(code); }

const char* piece_end(const char* p, const char* end) {
  if (*p == ' ' && p + 1 < end) {
    const Character next = character_at(p + 1, end);
    if (next.char_class < kSpaceClass) return run_end(p + 1 + next.bytes, end, next.char_class);
    return space_end(p, end);
  }
  if (*p == '\'') {
    if (const std::ptrdiff_t bytes = contraction_bytes(p, end)) return p + bytes;
  }
  const Character first = character_at(p, end);
  if (first.char_class < kSpaceClass) return run_end(p + first.bytes, end, first.char_class);
  if (first.char_class == kInvalidByte) return p + 1;
  return space_end(p, end);
}

}  // namespace text
