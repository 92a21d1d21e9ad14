// Cuts found from the two bytes beside them.

#include "prepare/cut.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace prepare {
namespace {

enum class ByteClass : std::uint8_t { kOther, kLetter, kDigit, kSpace, kPartOfCharacter };

ByteClass class_of(char c) {
  const auto byte = static_cast<std::uint8_t>(c);
  if (byte >= 0x80) return ByteClass::kPartOfCharacter;
  if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') return ByteClass::kLetter;
  if (byte >= '0' && byte <= '9') return ByteClass::kDigit;
  if (byte == ' ' || (byte >= '\t' && byte <= '\r')) return ByteClass::kSpace;
  return ByteClass::kOther;
}

/// Whether the bytes end in one of the 19 characters of White_Space outside ASCII.
/// Source: The Unicode Standard 16.0, PropList.txt.
bool ends_in_wide_space(std::string_view text) {
  using namespace std::string_view_literals;
  constexpr std::array kSpaces = {"\xC2\x85"sv,     "\xC2\xA0"sv,  // U+0085, U+00A0
                                  "\xE1\x9A\x80"sv,                // U+1680
                                  "\xE2\x80\xA8"sv, "\xE2\x80\xA9"sv,
                                  "\xE2\x80\xAF"sv,                     // U+2028, U+2029, U+202F
                                  "\xE2\x81\x9F"sv, "\xE3\x80\x80"sv};  // U+205F, U+3000
  const auto is_end = [text](std::string_view space) { return text.ends_with(space); };
  if (std::any_of(kSpaces.begin(), kSpaces.end(), is_end)) return true;
  if (text.size() < 3 || !text.substr(0, text.size() - 1).ends_with("\xE2\x80"sv)) return false;
  const auto last = static_cast<std::uint8_t>(text.back());
  return last >= 0x80 && last <= 0x8A;  // U+2000 to U+200A
}

bool can_cut(std::string_view text, std::size_t at) {
  const ByteClass before = class_of(text[at - 1]);
  const ByteClass after = class_of(text[at]);
  if (after == ByteClass::kSpace) {
    if (before != ByteClass::kPartOfCharacter) return before != ByteClass::kSpace;
    // The start of a character may lie before the text: then nothing is known.
    return at >= 3 && !ends_in_wide_space(text.substr(0, at));
  }
  const bool in_run = before == ByteClass::kLetter || before == ByteClass::kDigit;
  return in_run && after != before && after != ByteClass::kPartOfCharacter;
}

}  // namespace

std::size_t last_cut(std::string_view text) {
  for (std::size_t at = text.size(); at-- > 1;) {
    if (can_cut(text, at)) return at;
  }
  return 0;
}

}  // namespace prepare
