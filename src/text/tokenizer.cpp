// The door's classes: the vocabulary's questions, and encoding through a cache of pieces.

#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/text.h"
#include "text/vocabulary.h"

namespace text {
namespace {

constexpr std::string_view kVocabFile = "vocab.json";
constexpr std::string_view kMergesFile = "merges.txt";

/// The ids of pieces seen before: sets of two entries, the one used last in front. Bounded, and
/// forgetting is harmless.
template <std::size_t kKeyBytes, std::size_t kIds, std::size_t kSets>
class PieceCache {
 public:
  static constexpr std::size_t kMaxBytes = kKeyBytes - 1;
  static constexpr std::size_t kMaxIds = kIds;

  /// A piece, zero-padded, its length in the last byte; never all zeros.
  struct Key {
    std::array<std::uint64_t, kKeyBytes / 8> words;
    bool operator==(const Key& other) const {
      std::uint64_t difference = 0;  // without branches or calls: this is the hottest comparison
      for (std::size_t i = 0; i < words.size(); ++i) difference |= words[i] ^ other.words[i];
      return difference == 0;
    }
  };
  struct Entry {
    Key key{};
    std::array<TokenId, kIds> ids{};
    std::uint16_t count = 0;
  };

  PieceCache() : sets_(kSets) {}

  /// The key of a piece of 1 to kMaxBytes bytes; `readable` bytes from it on may be looked at.
  static Key key_of(const char* piece, std::size_t bytes, std::size_t readable) {
    static_assert(std::endian::native == std::endian::little);  // for the masks and the length
    Key key{};
    if (kKeyBytes == 16 && readable >= kKeyBytes) {
      // Loading a fixed size and masking beats copying a variable one.
      std::memcpy(key.words.data(), piece, kKeyBytes);
      const std::uint64_t ones = ~std::uint64_t{0};
      key.words[0] &= bytes < 8 ? ~(ones << 8 * bytes) : ones;
      key.words[1] &= bytes > 8 ? ~(ones << 8 * (bytes - 8)) : 0;
    } else {
      std::memcpy(key.words.data(), piece, bytes);
    }
    key.words.back() |= std::uint64_t{bytes} << 56;
    return key;
  }

  /// Null where the piece is not there. Valid until the next call.
  const Entry* find(const Key& key) {
    auto& [front, back] = sets_[set_of(key)];
    if (front.key == key) return &front;
    if (back.key != key) return nullptr;
    std::swap(front, back);
    return &front;
  }

  void insert(const Key& key, const TokenId* ids, std::size_t count) {
    assert(count <= kIds);
    auto& [front, back] = sets_[set_of(key)];
    back = front;
    front.key = key;
    std::copy(ids, ids + count, front.ids.begin());
    front.count = static_cast<std::uint16_t>(count);
  }

 private:
  static std::size_t set_of(const Key& key) {
    // Folded 64 x 64 -> 128 bit products spread every bit of the key (the idea of wyhash).
    std::uint64_t hash = 0;
    for (std::size_t i = 0; i < key.words.size(); i += 2) {
      const auto product =
          static_cast<unsigned __int128>(key.words[i] ^ hash ^ 0x9E3779B97F4A7C15ULL) *
          (key.words[i + 1] ^ 0xC2B2AE3D27D4EB4FULL);
      hash = static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
    }
    return hash % kSets;
  }
  std::vector<std::array<Entry, 2>> sets_;
};

/// Nearly all pieces of prose: 2 MiB, about a second-level cache.
using ShortCache = PieceCache<16, 7, std::size_t{1} << 15>;
/// Long words, and scripts whose characters take several bytes or ids: 1 MiB.
using LongCache = PieceCache<64, 31, std::size_t{1} << 12>;
static_assert(sizeof(ShortCache::Entry) == 32 && sizeof(LongCache::Entry) == 128);

std::vector<std::string_view> split_at_end_of_text(std::string_view bytes) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = bytes.find(kEndOfText);
    parts.push_back(bytes.substr(0, at));
    if (at == std::string_view::npos) return parts;
    bytes.remove_prefix(at + kEndOfText.size());
  }
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Tables> tables) : tables_(std::move(tables)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

const Tokenizer& Tokenizer::gpt2() {
  static const Tokenizer tokenizer(tables_from_vocab_bpe(embedded_vocab_bpe()));
  return tokenizer;
}

Tokenizer Tokenizer::load(const base::Path& folder) {
  const base::Path vocab = folder / kVocabFile;
  const base::Path merges = folder / kMergesFile;
  const std::string vocab_json = base::read_file(vocab);
  const std::string merges_txt = base::read_file(merges);
  return Tokenizer(tables_from_files(vocab_json, vocab.string(), merges_txt, merges.string()));
}

bool Tokenizer::present(const base::Path& folder) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(folder / kVocabFile, ignored) &&
         std::filesystem::is_regular_file(folder / kMergesFile, ignored);
}

std::size_t Tokenizer::vocab_size() const { return tables_->size(); }

std::optional<TokenId> Tokenizer::end_of_text() const { return tables_->end_of_text; }

std::string_view Tokenizer::token_bytes(TokenId id) const {
  if (id >= vocab_size()) {
    base::fail("token id {} is out of range: the vocabulary has ids 0 to {}", id, vocab_size() - 1);
  }
  return tables_->bytes(id);
}

std::string Tokenizer::decode(std::span<const TokenId> ids) const {
  std::string bytes;
  bytes.reserve(ids.size() * 4);  // English has about four bytes a token
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= vocab_size()) {
      base::fail(
          "token id {} at position {} (from 0) is out of range: the vocabulary has ids 0 to {}",
          ids[i], i, vocab_size() - 1);
    }
    bytes += tables_->bytes(ids[i]);
  }
  return bytes;
}

std::uint64_t Tokenizer::hash() const {
  // Lengths and merges as little-endian numbers, so that neighbours cannot trade bytes.
  std::string content;
  const auto put = [&content](std::size_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) content += static_cast<char>(value >> 8 * i & 0xFF);
  };
  put(vocab_size(), 4);
  for (std::size_t id = 0; id < vocab_size(); ++id) {
    put(tables_->bytes(id).size(), 4);
    content += tables_->bytes(id);
  }
  for (const Merge& merge : tables_->merges) {
    put(merge.left, 2);
    put(merge.right, 2);
  }
  return base::fnv1a64(base::as_bytes(content));
}

void Tokenizer::write_files(const base::Path& folder) const {
  base::create_folders(folder);
  base::write_file(folder / kVocabFile, to_vocab_json(*tables_));
  base::write_file(folder / kMergesFile, to_merges_txt(*tables_));
}

struct Encoder::State {
  explicit State(const Tokenizer::Tables& t) : tables(t), merger(t) {}

  /// Appends the ids of a whole text without special tokens.
  void encode(std::string_view bytes, std::vector<TokenId>& ids);
  /// Appends the ids of a piece that `short_cache` lacks, and keeps them.
  void encode_unseen(std::string_view piece, std::vector<TokenId>& ids);

  const Tokenizer::Tables& tables;
  Merger merger;
  ShortCache short_cache;
  LongCache long_cache;
};

void Encoder::State::encode(std::string_view bytes, std::vector<TokenId>& ids) {
  // Ids gather in a block of their own: appending a few at a time to a vector costs more.
  std::array<TokenId, 4096> block;
  std::size_t used = 0;
  const auto flush = [&] {
    ids.insert(ids.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(used));
    used = 0;
  };
  const char* p = bytes.data();
  const char* const end = p + bytes.size();
  while (p < end) {
    const char* const next = piece_end(p, end);
    const auto length = static_cast<std::size_t>(next - p);
    const ShortCache::Entry* entry = nullptr;
    if (length <= ShortCache::kMaxBytes) {
      entry = short_cache.find(ShortCache::key_of(p, length, static_cast<std::size_t>(end - p)));
    }
    if (entry != nullptr) {
      if (used + ShortCache::kMaxIds > block.size()) flush();
      std::copy(entry->ids.begin(), entry->ids.end(), block.data() + used);
      used += entry->count;
    } else {
      flush();
      encode_unseen({p, length}, ids);
    }
    p = next;
  }
  flush();
}

void Encoder::State::encode_unseen(std::string_view piece, std::vector<TokenId>& ids) {
  const bool cacheable = piece.size() <= LongCache::kMaxBytes;
  const bool maybe_in_long = cacheable && piece.size() > ShortCache::kMaxIds;
  LongCache::Key long_key{};
  if (maybe_in_long) {
    long_key = LongCache::key_of(piece.data(), piece.size(), piece.size());
    if (const auto* entry = long_cache.find(long_key)) {
      ids.insert(ids.end(), entry->ids.begin(), entry->ids.begin() + entry->count);
      return;
    }
  }
  const std::size_t before = ids.size();
  merger.merge(piece, ids);
  const TokenId* const added = ids.data() + before;
  const std::size_t count = ids.size() - before;
  if (piece.size() <= ShortCache::kMaxBytes && count <= ShortCache::kMaxIds) {
    short_cache.insert(ShortCache::key_of(piece.data(), piece.size(), piece.size()), added, count);
  } else if (maybe_in_long && count <= LongCache::kMaxIds) {
    long_cache.insert(long_key, added, count);
  }
}

Encoder::Encoder(const Tokenizer& tokenizer)
    : state_(std::make_unique<State>(tokenizer.tables())) {}
Encoder::~Encoder() = default;
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder& Encoder::operator=(Encoder&&) noexcept = default;

void Encoder::encode(std::string_view bytes, std::vector<TokenId>& ids, SpecialTokens special) {
  const auto end_of_text = state_->tables.end_of_text;
  if (special == SpecialTokens::kAsText || !end_of_text) {
    state_->encode(bytes, ids);
    return;
  }
  const auto parts = split_at_end_of_text(bytes);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) ids.push_back(*end_of_text);
    state_->encode(parts[i], ids);
  }
}

std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view bytes,
                            SpecialTokens special) {
  std::vector<TokenId> ids;
  Encoder(tokenizer).encode(bytes, ids, special);
  return ids;
}

}  // namespace text
