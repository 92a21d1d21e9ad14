#pragma once
/// Bytes <-> token ids: GPT-2's byte-level byte-pair encoding.
///
/// Law: knows ids and strings, nothing of floats, shards or models. Exact: the same ids as OpenAI's
/// encoder for every valid UTF-8 text, and decoding any ids that encode() gave returns the very
/// bytes it was given.
///
/// Invalid UTF-8: a byte that is part of no well-formed character (Unicode 16.0, table 3-7) becomes
/// its own single-byte token. No merge joins it to a neighbour; it is no white space, and a space
/// before it stays a token of its own.
///
/// Source: Radford et al. 2019 (GPT-2), section 2.2; Sennrich, Haddow, Birch 2016
/// (arXiv:1508.07909).

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "text/learn.h"

namespace text {

/// A token id. Vocabularies have at most 65,536 entries, the width of a shard's token.
using TokenId = std::uint16_t;

/// The spelling of GPT-2's only special token.
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

/// Whether special tokens spelled out in a text become their id or stay ordinary text.
enum class SpecialTokens { kAsText, kAllowed };

/// A vocabulary and its merges. Immutable, so one object serves any number of threads.
class Tokenizer {
 public:
  /// GPT-2's own vocabulary (50,257 entries), embedded in the program; needs no file.
  static const Tokenizer& gpt2();
  /// Reads `folder`/vocab.json and `folder`/merges.txt (Hugging Face's files): up to 65,536 tokens
  /// with ids from 0 on without holes, every single byte among them, so that any text can be
  /// encoded. merges.txt may lack its version line, the vocabulary may lack <|endoftext|>.
  /// Throws Error naming the file, and the line or entry, when either is missing or inconsistent.
  static Tokenizer load(const base::Path& folder);
  /// True when `folder` holds both files.
  static bool present(const base::Path& folder);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Number of ids, special tokens included.
  std::size_t vocab_size() const;
  /// Id of <|endoftext|> (50256 in GPT-2's), or nothing where the vocabulary has none.
  std::optional<TokenId> end_of_text() const;
  /// The bytes a token stands for; a special token's are its spelling.
  /// Throws Error when id >= vocab_size().
  std::string_view token_bytes(TokenId id) const;
  /// The bytes of a sequence of ids. Throws Error naming the position of an id out of range.
  std::string decode(std::span<const TokenId> ids) const;
  /// A 64-bit hash of the whole vocabulary (all tokens' bytes in order of id, and the merges).
  std::uint64_t hash() const;
  /// Writes vocab.json and merges.txt; for gpt2() byte-identical to the published files.
  void write_files(const base::Path& folder) const;
  /// Writes tokenizer.json, which Hugging Face's `tokenizers` loads and encodes the same with.
  void write_tokenizer_json(const base::Path& folder) const;

  struct Tables;  // private to the room
  explicit Tokenizer(std::unique_ptr<const Tables> tables);
  const Tables& tables() const { return *tables_; }

 private:
  friend class Encoder;
  std::unique_ptr<const Tables> tables_;
};

/// Encodes texts with a bounded cache of its own: one object a thread. The cache starts small, so
/// that an encoder for a prompt costs little, and grows with the text.
/// Time is linear in the text's length whatever the text is (O(n log n) in a single word's).
/// GPT2_CPU_ISA forces an instruction set; the ids are the same with each.
class Encoder {
 public:
  static constexpr std::size_t kCacheBytes = std::size_t{64} << 20;

  /// `tokenizer` must outlive the encoder. The cache has at most `cache_bytes`, or 128 kB where
  /// that is more. Throws Error when GPT2_CPU_ISA names something that this processor cannot run.
  explicit Encoder(const Tokenizer& tokenizer, std::size_t cache_bytes = kCacheBytes);
  ~Encoder();
  Encoder(Encoder&&) noexcept;
  Encoder& operator=(Encoder&&) noexcept;

  /// Appends the ids of `bytes` to `ids`.
  void encode(std::string_view bytes, std::vector<TokenId>& ids,
              SpecialTokens special = SpecialTokens::kAsText);
  /// "generic", "avx2" or "avx512".
  std::string_view instruction_set() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Encodes once, with a cache made and thrown away: for prompts, not for corpora.
std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view bytes,
                            SpecialTokens special = SpecialTokens::kAsText);

/// Cuts a text into at most `parts` texts of about the same size, for as many threads: the ids of
/// the parts, one after another, are those of the whole.
std::vector<std::string_view> cut_for_threads(std::string_view bytes, std::size_t parts);

/// Turns ids into text as they come, holding back a character until all its bytes are there.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  /// The bytes that became complete with this id: whole UTF-8 characters, and invalid bytes as they
  /// are as soon as they are known to be invalid. Throws Error for an id out of range.
  std::string push(TokenId id);
  /// What is still held back (the bytes of an unfinished character), as they are.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  std::string held_;
};

/// True when `bytes` is well-formed UTF-8 (Unicode 16.0, table 3-7: no surrogates, no overlongs).
bool is_valid_utf8(std::string_view bytes);

}  // namespace text
