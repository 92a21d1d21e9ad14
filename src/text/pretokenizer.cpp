// The pattern's classes: a table for ASCII, two-stage tables for the rest.

#include "text/pretokenizer.h"

#include <cstddef>
#include <string_view>

#include "text/cpu/table.h"

namespace text {
namespace {

#include "text/unicode_tables.inc"

constexpr CharClass table_class(char32_t code) {
  if (code >= kClassLimit) return CharClass::kOther;
  const std::size_t cell = std::size_t{kClassBlock[code / 128]} * 128 + code % 128;
  return static_cast<CharClass>(kClassBits[cell / 32] >> (cell % 32 * 2) & 3);
}

constexpr std::uint8_t flags_of(char c) {
  const CharClass char_class = table_class(static_cast<char32_t>(c));
  const auto is_one_of = [c](std::string_view letters) {
    return letters.find(c) != std::string_view::npos;
  };
  int flags = 0;
  if (char_class == CharClass::kLetter) flags |= cpu::kLetter;
  if (char_class == CharClass::kNumber) flags |= cpu::kNumber;
  if (char_class == CharClass::kSpace) flags |= cpu::kSpace;
  if (is_one_of("' ")) flags |= cpu::kApostrophe;
  if (is_one_of("stmd")) flags |= cpu::kStmd;
  if (is_one_of("rv")) flags |= cpu::kRv;
  if (c == 'e') flags |= cpu::kE;
  if (c == 'l') flags |= cpu::kL;
  return static_cast<std::uint8_t>(flags);
}

constexpr cpu::ByteFlags make_byte_flags() {
  cpu::ByteFlags flags{};
  for (int c = 0; c < 128; ++c) flags.of[c] = flags_of(static_cast<char>(c));
  return flags;
}

}  // namespace

CharClass class_of(char32_t code) { return table_class(code); }

namespace cpu {

constinit const Classes kClasses = {kClassBlock, kClassBits, kClassLimit};
constinit const ByteFlags kByteFlags = make_byte_flags();

}  // namespace cpu
}  // namespace text
