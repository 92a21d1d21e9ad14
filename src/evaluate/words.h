#pragma once
/// Characters and words as Python's str has them: what lm-eval's figures and prompts are made with.
/// Private to the room.

#include <cstdint>
#include <string>
#include <string_view>

namespace evaluate {

/// Bytes of the white space at the beginning of `text`, one character of it; 0 where there is none.
/// Source: Python's str.isspace(): Unicode's White_Space and U+001C to U+001F.
std::size_t space_at(std::string_view text);
/// The text without white space at its end, as str.rstrip().
std::string_view without_trailing_space(std::string_view text);
/// The text without white space at either end, as str.strip().
std::string_view strip(std::string_view text);
/// len(re.split(r"\s+", text)): a run of white space at an end has an empty word beyond it.
std::int64_t count_words(std::string_view text);
/// Code points of well-formed UTF-8.
std::int64_t count_characters(std::string_view text);
/// The first character in title case, the rest in lower case, as str.capitalize(); `text` is
/// well-formed UTF-8. Characters keep their number: the few that Python spells as two, such as
/// U+00DF at the beginning, stay as they are. Throws Error where the C library has no C.UTF-8.
std::string capitalize(std::string_view text);

}  // namespace evaluate
