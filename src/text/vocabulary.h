#pragma once
/// A tokenizer's tables and how the files spell bytes. Private to the room.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/cpu/table.h"
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

/// One line of merges.txt.
struct Merge {
  TokenId left;
  TokenId right;
  TokenId result;
};

/// A vocabulary while it is read: what the tables' image is made from.
struct Vocabulary {
  std::string pool;                     // every token's bytes, one after another
  std::vector<std::uint32_t> begins;    // token id -> where its bytes begin; one more at the end
  std::vector<TokenId> literal;         // ids whose files spell them as they are, ascending
  std::array<TokenId, 256> byte_ids{};  // byte -> its token
  std::vector<Merge> merges;            // in order of rank
  std::vector<cpu::PairBucket> pairs;   // rank of two tokens
  std::optional<TokenId> end_of_text;

  std::size_t size() const { return begins.size() - 1; }
  std::string_view bytes(std::size_t id) const {
    return std::string_view(pool).substr(begins[id], begins[id + 1] - begins[id]);
  }
  void append_token(std::string_view bytes);
  /// Makes room in `pairs`, between a third and two thirds full: small enough for a second-level
  /// cache, and look-ups beyond the first line are rare.
  void reserve_pairs(std::size_t merges_at_most);
  /// Adds a merge with the next rank; false where the two tokens have one already.
  bool append_merge(Merge merge);
};

/// A vocabulary as one block of memory without pointers: the loops' tables, ready to use. GPT-2's
/// is made by the build and part of the program, another one's is made when it is loaded.
struct alignas(64) ImageLine {
  std::byte bytes[64];
};
using Image = std::vector<ImageLine>;

/// Throws Error naming `merges_name` when there are more merges than ranks.
Image make_image(const Vocabulary& vocabulary, const std::string& merges_name);

/// Sets the bit of each token of up to 15 bytes that its own bytes merge to, with which an encoder
/// fills its cache. An image works without: it takes longer to make than the bits are worth where a
/// vocabulary is loaded.
void mark_whole_tokens(Image& image);

/// The parts of an image.
struct Tokenizer::Tables {
  /// Of an image that somebody else keeps.
  explicit Tables(std::span<const std::byte> image);
  /// Of an image of its own.
  explicit Tables(Image image);

  std::span<const std::uint32_t> begins;  // as in Vocabulary
  const char* pool;                       // kReadable bytes may be read from each token on
  std::span<const TokenId> literal;
  std::span<const Merge> list;           // the merges in order of rank
  std::span<const std::uint64_t> whole;  // see mark_whole_tokens
  std::optional<TokenId> end_of_text;
  cpu::Merges merges;

  static constexpr std::size_t kReadable = 16;
  std::size_t size() const { return begins.size() - 1; }
  std::string_view bytes(std::size_t id) const {
    return {pool + begins[id], begins[id + 1] - begins[id]};
  }
  bool is_literal(TokenId id) const;

 private:
  void set_parts(std::span<const std::byte> image);
  Image owned_;
};

/// GPT-2's vocabulary from its merge list: ids 0 to 255 are the bytes, 256 + i is merge i, the last
/// is <|endoftext|>.
Vocabulary vocabulary_from_vocab_bpe(std::string_view vocab_bpe);

/// A vocabulary and its merges. `vocab_name` and `merges_name` are for messages.
/// Throws Error naming the file and the entry or line where they are inconsistent.
Vocabulary vocabulary_from_files(std::string_view vocab_json, const std::string& vocab_name,
                                 std::string_view merges_txt, const std::string& merges_name);

/// What vocab.json holds: (spelling, id) in the order of the file.
std::vector<std::pair<std::string, TokenId>> parse_vocab_json(std::string_view json,
                                                              const std::string& name);
/// vocab.json as Python's json.dumps writes the mapping in order of id.
std::string to_vocab_json(const Tokenizer::Tables& tables);
/// merges.txt with its version line.
std::string to_merges_txt(const Tokenizer::Tables& tables);
/// tokenizer.json: the vocabulary with GPT-2's way of cutting, as Hugging Face's `tokenizers` 0.13
/// and later read it.
std::string to_tokenizer_json(const Tokenizer::Tables& tables);

}  // namespace text
