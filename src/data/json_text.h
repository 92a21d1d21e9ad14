#pragma once
/// The text of a JSON line. Private to the room.

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace data {

/// "a.b" -> a, b.
std::vector<std::string> split_field(std::string_view field);

/// The string behind the names of `field` in the object `line`, decoded in place: `text` lies
/// inside `line`, whose content is lost. Of equal keys the last counts. Bytes that are not UTF-8
/// are kept. Returns what is wrong, or "". The whole line is checked against RFC 8259.
std::string find_text(std::span<char> line, const std::vector<std::string>& field,
                      std::string_view& text);

}  // namespace data
