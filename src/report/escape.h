#pragma once
/// Text of any bytes as text that a format can hold.

#include <string>
#include <string_view>

namespace report {

/// Bytes of the UTF-8 character at the front of `text`, which is not empty; 0 where there is none.
std::size_t utf8_character(std::string_view text);

/// `text` as UTF-8: each byte that belongs to no character becomes U+FFFD.
std::string as_utf8(std::string_view text);

/// `text` as XML character data or attribute value; what XML cannot hold becomes a space.
std::string xml_escaped(std::string_view text);

/// JSON inside a <script> element: "<", ">" and "&" as escapes, so that no tag or comment begins or
/// ends there.
std::string script_escaped(std::string_view json);

}  // namespace report
