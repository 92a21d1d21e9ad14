#pragma once
/// A tokenizer's tables and how the files spell bytes. Private to the room.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/text.h"

namespace text {

/// The files spell every byte as one printable character: itself where Latin-1 prints it, otherwise
/// the next of U+0100, U+0101, ... in order of byte ("Ġ" is the space).
/// Source: OpenAI, gpt-2/src/encoder.py, bytes_to_unicode.
struct ByteAlphabet {
  static constexpr std::uint16_t kNoByte = 0xFFFF;
  std::array<std::uint16_t, 256> code_of{};        // byte -> code point
  std::array<std::uint16_t, 256 + 68> byte_of{};   // code point -> byte, or kNoByte
  std::array<std::uint8_t, 256> in_order_of_id{};  // GPT-2's id -> byte: printable ones first
};
extern const ByteAlphabet kByteAlphabet;

/// Appends the file's spelling of `bytes`.
void append_spelling(std::string& out, std::string_view bytes);
/// Appends the bytes that `spelling` stands for; false (and `out` as it was) where it has a
/// character outside the alphabet.
bool append_bytes_of(std::string& out, std::string_view spelling);

/// rank of a pair of neighbouring tokens: an open-addressing table, read in the innermost loop.
class PairRanks {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  /// Room for `pairs` pairs at most a third full: most look-ups are misses and end at a hole.
  explicit PairRanks(std::size_t pairs);
  /// False where the pair has a rank already.
  bool insert(TokenId left, TokenId right, std::uint32_t rank);
  /// kNone for a pair that no merge joins.
  std::uint32_t find(TokenId left, TokenId right) const {
    const std::uint32_t key = key_of(left, right);
    for (std::size_t i = slot_of(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key || slots_[i].rank == kNone) return slots_[i].rank;
    }
  }

 private:
  struct Slot {
    std::uint32_t key;
    std::uint32_t rank;  // kNone: a hole
  };
  static std::uint32_t key_of(TokenId left, TokenId right) {
    return std::uint32_t{left} << 16 | right;
  }
  std::size_t slot_of(std::uint32_t key) const {
    return (key * 0x9E3779B97F4A7C15ULL) >> shift_;  // Fibonacci hashing: 2^64 / golden ratio
  }
  std::vector<Slot> slots_;
  std::size_t mask_;
  int shift_;
};

/// One line of merges.txt.
struct Merge {
  TokenId left;
  TokenId right;
  TokenId result;
};

struct Tokenizer::Tables {
  std::string pool;                   // every token's bytes, one after another
  std::vector<std::uint32_t> begins;  // token id -> where its bytes begin; one more at the end
  std::vector<TokenId> literal;       // ids whose files spell them as they are, ascending
  std::array<TokenId, 256> byte_ids;  // byte -> its token
  std::vector<Merge> merges;          // in order of rank
  PairRanks ranks{0};
  std::optional<TokenId> end_of_text;

  std::size_t size() const { return begins.size() - 1; }
  std::string_view bytes(std::size_t id) const {
    return std::string_view(pool).substr(begins[id], begins[id + 1] - begins[id]);
  }
  bool is_literal(TokenId id) const;
  void append_token(std::string_view bytes);
};

/// The tables of GPT-2's vocabulary from its merge list: ids 0 to 255 are the bytes, 256 + i is
/// merge i, the last is <|endoftext|>.
std::unique_ptr<Tokenizer::Tables> tables_from_vocab_bpe(std::string_view vocab_bpe);

/// The tables of a vocabulary and its merges. `vocab_name` and `merges_name` are for messages.
/// Throws Error naming the file and the entry or line where they are inconsistent.
std::unique_ptr<Tokenizer::Tables> tables_from_files(std::string_view vocab_json,
                                                     const std::string& vocab_name,
                                                     std::string_view merges_txt,
                                                     const std::string& merges_name);

/// What vocab.json holds: (spelling, id) in the order of the file.
std::vector<std::pair<std::string, TokenId>> parse_vocab_json(std::string_view json,
                                                              const std::string& name);
/// vocab.json as Python's json.dumps writes the mapping in order of id.
std::string to_vocab_json(const Tokenizer::Tables& tables);
/// merges.txt with its version line.
std::string to_merges_txt(const Tokenizer::Tables& tables);

/// assets/vocab.bpe, part of the program.
std::string_view embedded_vocab_bpe();

}  // namespace text
