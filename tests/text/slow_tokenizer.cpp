#include "text/slow_tokenizer.h"

#include <functional>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>

namespace text_testing {
namespace {

struct Char {
  char kind;  // 'L', 'N', 'S', 'O', or 'I' for an invalid byte
  char32_t code;
  std::size_t begin;
};

using Chars = std::vector<Char>;
using End = std::optional<std::size_t>;  // an index into Chars where a match ends

/// The character at the front of `bytes`: the one of 1 to 4 bytes that encodes to just these.
std::optional<char32_t> front_of(std::string_view bytes) {
  for (std::size_t length = 1; length <= std::min<std::size_t>(4, bytes.size()); ++length) {
    constexpr std::array<char32_t, 5> kLeadBits = {0, 0x7F, 0x1F, 0x0F, 0x07};
    char32_t code = static_cast<std::uint8_t>(bytes[0]) & kLeadBits[length];
    for (std::size_t i = 1; i < length; ++i) {
      code = code << 6 | (static_cast<std::uint8_t>(bytes[i]) & 0x3FU);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) continue;
    if (utf8_of(code) == bytes.substr(0, length)) return code;
  }
  return std::nullopt;
}

Chars chars_of(std::string_view text) {
  Chars chars;
  for (std::size_t at = 0; at < text.size();) {
    const auto code = front_of(text.substr(at));
    chars.push_back({code ? class_table()[*code] : 'I', code.value_or(0), at});
    at += code ? utf8_of(*code).size() : 1;
  }
  return chars;
}

/// One literal alternative.
End match_literal(const Chars& chars, std::size_t at, std::string_view literal) {
  for (const char c : literal) {
    if (at == chars.size() || chars[at].code != static_cast<char32_t>(c)) return std::nullopt;
    ++at;
  }
  return at;
}

/// class+ greedy, the longest first; `accept` decides whether the rest of the pattern agrees.
End match_run(const Chars& chars, std::size_t at, char kind,
              const std::function<bool(std::size_t)>& accept) {
  std::size_t end = at;
  while (end < chars.size() && chars[end].kind == kind) ++end;
  for (; end > at; --end) {
    if (accept(end)) return end;
  }
  return std::nullopt;
}

/// " ?" and a run: with the space first, without it second.
End match_word(const Chars& chars, std::size_t at, char kind) {
  const auto anything = [](std::size_t) { return true; };
  if (chars[at].code == U' ' && chars[at].kind == 'S') {
    if (const End end = match_run(chars, at + 1, kind, anything)) return end;
  }
  return match_run(chars, at, kind, anything);
}

/// Both halves in one string, and where it is to be cut (tokens are shorter than 256 bytes).
void set_pair_key(std::string& key, const std::string& left, const std::string& right) {
  key.assign(1, static_cast<char>(left.size()));
  key += left;
  key += right;
}

std::size_t match(const Chars& chars, std::size_t at) {
  if (chars[at].kind == 'I') return at + 1;
  for (const char* literal : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (const End end = match_literal(chars, at, literal)) return *end;
  }
  for (const char kind : {'L', 'N', 'O'}) {
    if (const End end = match_word(chars, at, kind)) return *end;
  }
  const auto not_before_text = [&](std::size_t end) {
    return end == chars.size() || chars[end].kind == 'S';
  };
  if (const End end = match_run(chars, at, 'S', not_before_text)) return *end;
  if (const End end = match_run(chars, at, 'S', [](std::size_t) { return true; })) return *end;
  throw std::logic_error("the pattern leaves no character unmatched");
}

}  // namespace

std::string utf8_of(char32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  std::string tail;
  char32_t limit = 0x40;  // what fits in the lead byte
  char32_t lead = 0x80;
  do {
    tail.insert(tail.begin(), static_cast<char>(0x80 | (code & 0x3F)));
    code >>= 6;
    limit >>= 1;
    lead = lead >> 1 | 0x80;
  } while (code >= limit);
  return static_cast<char>(lead | code) + tail;
}

ClassTable::ClassTable() : classes_(0x110000, 'O') {
  std::istringstream lines(base::read_file(GPT2_SOURCE_DIR "/tests/golden/unicode16_classes.txt"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream words(line);
    std::size_t first = 0;
    std::size_t last = 0;
    char kind = 0;
    words >> std::hex >> first >> last >> kind;
    for (std::size_t c = first; c <= last; ++c) classes_[c] = kind;
  }
}

const ClassTable& class_table() {
  static const ClassTable table;
  return table;
}

std::vector<std::string_view> slow_pieces(std::string_view text) {
  const Chars chars = chars_of(text);
  std::vector<std::string_view> pieces;
  for (std::size_t at = 0; at < chars.size();) {
    const std::size_t end = match(chars, at);
    const std::size_t end_byte = end == chars.size() ? text.size() : chars[end].begin;
    pieces.push_back(text.substr(chars[at].begin, end_byte - chars[at].begin));
    at = end;
  }
  return pieces;
}

SlowTokenizer::SlowTokenizer(const std::vector<std::string>& tokens,
                             const std::vector<std::pair<std::string, std::string>>& merges) {
  for (std::size_t i = 0; i < tokens.size(); ++i) ids_[tokens[i]] = static_cast<std::uint16_t>(i);
  std::string key;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    set_pair_key(key, merges[i].first, merges[i].second);
    ranks_[key] = i;
  }
}

const SlowTokenizer& SlowTokenizer::gpt2() {
  static const SlowTokenizer tokenizer = [] {
    // bytes_to_unicode: printable Latin-1 as itself, the other bytes from U+0100 on.
    std::map<std::string, char> byte_of;
    std::vector<std::string> tokens;
    std::vector<std::string> others;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const std::string byte(1, static_cast<char>(b));
      (printable ? tokens : others).push_back(byte);
      const std::size_t code = printable ? static_cast<std::size_t>(b) : 255 + others.size();
      byte_of[utf8_of(static_cast<char32_t>(code))] = static_cast<char>(b);
    }
    tokens.insert(tokens.end(), others.begin(), others.end());
    const auto bytes_of = [&](const std::string& spelling) {
      std::string bytes;
      for (std::size_t at = 0; at < spelling.size();) {
        const std::size_t length = static_cast<std::uint8_t>(spelling[at]) < 0x80 ? 1 : 2;
        bytes += byte_of.at(spelling.substr(at, length));
        at += length;
      }
      return bytes;
    };
    std::vector<std::pair<std::string, std::string>> merges;
    std::istringstream lines(base::read_file(GPT2_SOURCE_DIR "/assets/vocab.bpe"));
    std::string line;
    std::getline(lines, line);  // the version
    while (std::getline(lines, line)) {
      const std::size_t space = line.find(' ');
      merges.emplace_back(bytes_of(line.substr(0, space)), bytes_of(line.substr(space + 1)));
      tokens.push_back(merges.back().first + merges.back().second);
    }
    return SlowTokenizer(tokens, merges);
  }();
  return tokenizer;
}

std::vector<std::uint16_t> SlowTokenizer::encode_piece(std::string_view piece) const {
  std::vector<std::string> parts;
  for (const char c : piece) parts.emplace_back(1, c);
  std::string key;
  for (;;) {
    std::size_t best_rank = std::numeric_limits<std::size_t>::max();
    std::size_t best = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      set_pair_key(key, parts[i], parts[i + 1]);
      const auto found = ranks_.find(key);
      if (found != ranks_.end() && found->second < best_rank) {
        best_rank = found->second;
        best = i;
      }
    }
    if (best_rank == std::numeric_limits<std::size_t>::max()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  std::vector<std::uint16_t> ids;
  for (const std::string& part : parts) ids.push_back(ids_.at(part));
  return ids;
}

std::vector<std::uint16_t> SlowTokenizer::encode(std::string_view text) const {
  std::vector<std::uint16_t> ids;
  for (const std::string_view piece : slow_pieces(text)) {
    const auto more = encode_piece(piece);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

}  // namespace text_testing
