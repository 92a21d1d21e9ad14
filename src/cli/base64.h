#pragma once
/// Base64 as RFC 4648, section 4 has it: the standard alphabet, padded, no line breaks. Private to
/// the room: JSON carries bytes that are no UTF-8 this way.

#include <optional>
#include <string>
#include <string_view>

namespace cli {

std::string to_base64(std::string_view bytes);
/// The bytes, or nothing where `base64` is not exactly what to_base64 writes.
std::optional<std::string> from_base64(std::string_view base64);

}  // namespace cli
