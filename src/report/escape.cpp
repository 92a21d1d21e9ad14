// What is not UTF-8 replaced, and the escapes of XML and of scripts.

#include "report/escape.h"

#include <algorithm>

#include "base/utf8.h"

namespace report {

std::size_t utf8_character(std::string_view text) {
  const base::Utf8Step step = base::utf8_step(text.data(), text.data() + text.size());
  return step.kind == base::Utf8::kWhole ? step.bytes : 0;
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
