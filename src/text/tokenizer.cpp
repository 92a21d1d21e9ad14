// The door's Tokenizer: the vocabulary's questions, and decoding.

#include <cstring>
#include <utility>

#include "base/error.h"
#include "text/text.h"
#include "text/vocabulary.h"

namespace text {
namespace {

constexpr std::string_view kVocabFile = "vocab.json";
constexpr std::string_view kMergesFile = "merges.txt";

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Tables> tables) : tables_(std::move(tables)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const base::Path& folder) {
  const base::Path vocab = folder / kVocabFile;
  const base::Path merges = folder / kMergesFile;
  const std::string vocab_json = base::read_file(vocab);
  const std::string merges_txt = base::read_file(merges);
  const Vocabulary vocabulary =
      vocabulary_from_files(vocab_json, vocab.string(), merges_txt, merges.string());
  return Tokenizer(std::make_unique<Tables>(make_image(vocabulary, merges.string())));
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
  const Tables& t = *tables_;
  std::size_t total = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= t.size()) {
      base::fail(
          "token id {} at position {} (from 0) is out of range: the vocabulary has ids 0 to {}",
          ids[i], i, vocab_size() - 1);
    }
    total += t.begins[ids[i] + 1U] - t.begins[ids[i]];
  }
  std::string bytes(total, '\0');
  char* out = bytes.data();
  const char* const end = out + total;
  for (const TokenId id : ids) {
    const char* const token = t.pool + t.begins[id];
    const std::size_t size = t.begins[id + 1U] - t.begins[id];
    // Nearly all tokens fit a fixed copy, which beats one of a size that nobody can predict; the
    // next token overwrites what is too much.
    if (size <= Tables::kReadable && static_cast<std::size_t>(end - out) >= Tables::kReadable) {
      std::memcpy(out, token, Tables::kReadable);
    } else {
      std::memcpy(out, token, size);
    }
    out += size;
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
  for (const Merge& merge : tables_->list) {
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

void Tokenizer::write_tokenizer_json(const base::Path& folder) const {
  base::create_folders(folder);
  base::write_file(folder / "tokenizer.json", to_tokenizer_json(*tables_));
}

}  // namespace text
