#pragma once
/// What text is cut by, into the pieces that merges never cross; cpu/cut.inc does it. Private to
/// the room.
///
/// The pieces are the successive matches of GPT-2's pattern
///
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// under Unicode 16.0. A byte that is part of no well-formed UTF-8 character is a piece of its own:
/// it is neither white space nor joined by anything beside it.
/// Source of the pattern: OpenAI, gpt-2/src/encoder.py (2019).

#include <cstdint>

namespace text {

/// The pattern's classes of characters: \p{L}, \p{N}, White_Space and the rest.
enum class CharClass : std::uint8_t { kOther, kLetter, kNumber, kSpace };

/// The class of a code point.
CharClass class_of(char32_t code);

}  // namespace text
