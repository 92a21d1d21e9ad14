#pragma once
/// The tokenizer once more, slowly: the pattern tried alternative by alternative with backtracking,
/// the merges searched one by one in maps of strings. It shares no code with src/text.

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/file.h"

namespace text_testing {

/// UTF-8 of any number below 2^21, surrogates included.
std::string utf8_of(char32_t code);

/// The class of every code point: 'L', 'N', 'S' or 'O', from tests/golden/unicode16_classes.txt.
class ClassTable {
 public:
  ClassTable();
  char operator[](char32_t code) const { return classes_[code]; }

 private:
  std::string classes_;
};
const ClassTable& class_table();

/// The pieces of a text; an invalid byte is one by itself.
std::vector<std::string_view> slow_pieces(std::string_view text);

/// A vocabulary and merges as strings of bytes.
class SlowTokenizer {
 public:
  /// Token i is `tokens[i]`; earlier merges go first.
  SlowTokenizer(const std::vector<std::string>& tokens,
                const std::vector<std::pair<std::string, std::string>>& merges);
  /// GPT-2's, from assets/vocab.bpe.
  static const SlowTokenizer& gpt2();

  std::vector<std::uint16_t> encode(std::string_view text) const;
  std::vector<std::uint16_t> encode_piece(std::string_view piece) const;

 private:
  std::unordered_map<std::string, std::size_t> ranks_;  // by pair_key
  std::unordered_map<std::string, std::uint16_t> ids_;
};

}  // namespace text_testing
