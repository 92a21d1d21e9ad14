// UTF-8 checked by hand, and the escapes of XML and of scripts.

#include "report/escape.h"

#include <algorithm>
#include <cstdint>

namespace report {

std::size_t utf8_character(std::string_view text) {
  const auto byte = [&](std::size_t i) -> std::uint32_t {
    return static_cast<unsigned char>(text[i]);
  };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return 0;
  std::uint32_t code = lead & (0x7fU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr std::uint32_t kFirstOfSize[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return surrogate || code < kFirstOfSize[size] || code > 0x10ffff ? 0 : size;
}

std::string as_utf8(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t size = utf8_character(text);
    result += size == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(0, size);
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return result;
}

namespace {

/// Control characters but white space, and U+FFFE and U+FFFF, which end in these bytes.
bool outside_xml(std::string_view character) {
  if (character.size() == 1) {
    const auto byte = static_cast<unsigned char>(character[0]);
    return byte < 0x20 || byte == 0x7f;
  }
  // The last 16 bits of U+nFFFE and U+nFFFF, for every plane n.
  const auto at = [&](std::size_t from_end) {
    return static_cast<unsigned char>(character[character.size() - from_end]);
  };
  return character.size() >= 3 && at(1) >= 0xbe && at(2) == 0xbf && (at(3) & 0x0f) == 0x0f;
}

}  // namespace

std::string xml_escaped(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t size = utf8_character(text);
    const std::string_view character = text.substr(0, std::max<std::size_t>(size, 1));
    if (size == 0 || outside_xml(character)) {
      result += ' ';
    } else if (character == "&") {
      result += "&amp;";
    } else if (character == "<") {
      result += "&lt;";
    } else if (character == ">") {
      result += "&gt;";
    } else if (character == "\"") {
      result += "&quot;";
    } else {
      result += character;
    }
    text.remove_prefix(character.size());
  }
  return result;
}

std::string script_escaped(std::string_view json) {
  std::string result;
  for (const char c : json) {
    switch (c) {
      case '<':
        result += "\\u003c";
        break;
      case '>':
        result += "\\u003e";
        break;
      case '&':
        result += "\\u0026";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace report
