// Vocabularies: GPT-2's from its merge list alone, others from vocab.json and merges.txt.

#include "text/vocabulary.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <functional>
#include <limits>

#include "base/error.h"
#include "base/utf8.h"

namespace text {
namespace {

constexpr ByteAlphabet make_byte_alphabet() {
  ByteAlphabet a;
  a.byte_of.fill(ByteAlphabet::kNoByte);
  const auto printable = [](unsigned b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
  };
  std::uint16_t next_code = 0x100;
  std::size_t next_id = 0;
  for (const bool first_round : {true, false}) {
    for (unsigned b = 0; b < 256; ++b) {
      if (printable(b) != first_round) continue;
      a.code_of[b] = first_round ? static_cast<std::uint16_t>(b) : next_code++;
      a.byte_of[a.code_of[b]] = static_cast<std::uint16_t>(b);
      a.in_order_of_id[next_id++] = static_cast<std::uint8_t>(b);
    }
  }
  return a;
}

/// Tokens by their bytes, for as long as the merges are read. It reads the vocabulary's pool.
class TokenIndex {
 public:
  TokenIndex(const Vocabulary& vocabulary, std::size_t tokens)
      : vocabulary_(vocabulary), slots_(std::bit_ceil(2 * tokens + 1)) {}

  void insert(TokenId id) {
    const std::uint32_t hash = hash_of(vocabulary_.bytes(id));
    std::size_t i = hash & mask();
    while (slots_[i].used) i = (i + 1) & mask();
    slots_[i] = {hash, id, true};
  }

  std::optional<TokenId> find(std::string_view bytes) const {
    const std::uint32_t hash = hash_of(bytes);
    for (std::size_t i = hash & mask(); slots_[i].used; i = (i + 1) & mask()) {
      if (slots_[i].hash == hash && vocabulary_.bytes(slots_[i].id) == bytes) return slots_[i].id;
    }
    return std::nullopt;
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    TokenId id = 0;
    bool used = false;
  };
  static std::uint32_t hash_of(std::string_view bytes) {
    std::uint64_t hash = 0;
    for (const char c : bytes) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x9E3779B97F4A7C15ULL;
    return static_cast<std::uint32_t>(hash >> 32);
  }
  std::size_t mask() const { return slots_.size() - 1; }
  const Vocabulary& vocabulary_;
  std::vector<Slot> slots_;
};

/// One merge of a merge list: both halves as bytes, and as one string.
struct MergeLine {
  std::string joined;
  std::size_t left_bytes;
  std::size_t number;  // of the line, from 1
  std::string_view left() const { return std::string_view(joined).substr(0, left_bytes); }
  std::string_view right() const { return std::string_view(joined).substr(left_bytes); }
};

/// Calls visit(const MergeLine&) for each merge. The version line may be missing; empty lines and
/// carriage returns are skipped.
template <class Visit>
void for_each_merge(std::string_view text, const std::string& name, Visit&& visit) {
  MergeLine merge{{}, 0, 0};
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    ++merge.number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (merge.number == 1 && line.starts_with("#version"))) continue;
    const std::size_t space = std::min(line.find(' '), line.size());
    merge.joined.clear();
    const bool left = append_bytes_of(merge.joined, line.substr(0, space));
    merge.left_bytes = merge.joined.size();
    const bool right = append_bytes_of(merge.joined, line.substr(std::min(space + 1, line.size())));
    if (!left || !right || merge.left_bytes == 0 || merge.left_bytes == merge.joined.size()) {
      base::fail("{}, line {}: expected two tokens in byte-level spelling and one space, got '{}'",
                 name, merge.number, line);
    }
    visit(merge);
  }
}

std::string spelling_of(std::string_view bytes) {
  std::string out;
  append_spelling(out, bytes);
  return out;
}

/// Adds one merge of three known tokens.
void add_merge(Vocabulary& vocabulary, const std::string& name, std::size_t line, Merge merge) {
  if (!vocabulary.append_merge(merge)) {
    base::fail("{}, line {}: expected each merge once, got '{} {}' again", name, line,
               spelling_of(vocabulary.bytes(merge.left)),
               spelling_of(vocabulary.bytes(merge.right)));
  }
}

/// Puts the tokens in order of id and refuses holes and doubles.
std::vector<const std::string*> in_order_of_id(
    const std::vector<std::pair<std::string, TokenId>>& entries, const std::string& name) {
  std::vector<const std::string*> tokens(entries.size(), nullptr);
  for (const auto& [spelling, id] : entries) {
    if (id >= tokens.size()) {
      base::fail("{}: token '{}' has id {}, expected ids 0 to {} for {} tokens", name, spelling, id,
                 tokens.size() - 1, tokens.size());
    }
    if (tokens[id] != nullptr) {
      base::fail("{}: expected each id once, got id {} for '{}' and for '{}'", name, id,
                 *tokens[id], spelling);
    }
    tokens[id] = &spelling;
  }
  return tokens;
}

void find_byte_tokens(Vocabulary& vocabulary, const TokenIndex& index, const std::string& name) {
  for (std::size_t b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const auto id = index.find({&byte, 1});
    if (!id) {
      base::fail("{}: expected a token for every byte, byte 0x{:02x} ('{}') has none", name, b,
                 spelling_of({&byte, 1}));
    }
    vocabulary.byte_ids[b] = *id;
  }
}

std::size_t count_lines(std::string_view text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
}

}  // namespace

constinit const ByteAlphabet kByteAlphabet = make_byte_alphabet();

void append_spelling(std::string& out, std::string_view bytes) {
  for (const char c : bytes)
    base::append_utf8(out, kByteAlphabet.code_of[static_cast<std::uint8_t>(c)]);
}

bool append_bytes_of(std::string& out, std::string_view spelling) {
  const std::size_t size_before = out.size();
  const char* p = spelling.data();
  const char* const end = p + spelling.size();
  while (p < end) {
    const base::Utf8Step step = base::utf8_step(p, end);
    const bool known = step.kind == base::Utf8::kWhole &&
                       step.code < kByteAlphabet.byte_of.size() &&
                       kByteAlphabet.byte_of[step.code] != ByteAlphabet::kNoByte;
    if (!known) {
      out.resize(size_before);
      return false;
    }
    out += static_cast<char>(kByteAlphabet.byte_of[step.code]);
    p += step.bytes;
  }
  return true;
}

void Vocabulary::append_token(std::string_view bytes) {
  pool += bytes;
  begins.push_back(static_cast<std::uint32_t>(pool.size()));
}

void Vocabulary::reserve_pairs(std::size_t merges_at_most) {
  cpu::PairBucket empty;
  std::memset(&empty, 0xFF, sizeof(empty));  // kNoRank everywhere
  pairs.assign(std::bit_ceil(merges_at_most / 7 + 2), empty);
  merges.reserve(merges_at_most);
}

bool Vocabulary::append_merge(Merge merge) {
  const std::uint32_t key = std::uint32_t{merge.left} << 16 | merge.right;
  const int shift = 32 - std::countr_zero(pairs.size());
  std::size_t at = (key * cpu::kPairHash) >> shift;
  for (;; at = (at + 1) % pairs.size()) {
    cpu::PairBucket& bucket = pairs[at];
    for (std::size_t i = 0; i < cpu::PairBucket::kPairs; ++i) {
      if (bucket.ranks[i] == cpu::kNoRank) {
        bucket.keys[i] = key;
        bucket.ranks[i] = static_cast<std::uint16_t>(merges.size());
        merges.push_back(merge);
        return true;
      }
      if (bucket.keys[i] == key) return false;
    }
    bucket.ranks[cpu::PairBucket::kPairs] = cpu::kLookOn;
  }
}

Vocabulary vocabulary_from_vocab_bpe(std::string_view vocab_bpe) {
  const std::string name = "the built-in vocab.bpe";
  Vocabulary vocabulary;
  const std::size_t lines = count_lines(vocab_bpe);
  vocabulary.pool.reserve(vocab_bpe.size());
  vocabulary.begins.reserve(256 + lines + 2);
  vocabulary.begins.push_back(0);
  vocabulary.reserve_pairs(lines);
  TokenIndex index(vocabulary, 256 + lines);
  for (std::size_t id = 0; id < 256; ++id) {
    const std::uint8_t byte = kByteAlphabet.in_order_of_id[id];
    const char as_char = static_cast<char>(byte);
    vocabulary.append_token({&as_char, 1});
    vocabulary.byte_ids[byte] = static_cast<TokenId>(id);
    index.insert(static_cast<TokenId>(id));
  }
  for_each_merge(vocab_bpe, name, [&](const MergeLine& merge) {
    const auto left = index.find(merge.left());
    const auto right = index.find(merge.right());
    assert(left && right);
    const auto id = static_cast<TokenId>(vocabulary.size());
    vocabulary.append_token(merge.joined);
    index.insert(id);
    add_merge(vocabulary, name, merge.number, {*left, *right, id});
  });
  vocabulary.end_of_text = static_cast<TokenId>(vocabulary.size());
  vocabulary.append_token(kEndOfText);
  return vocabulary;
}

Vocabulary vocabulary_from_files(std::string_view vocab_json, const std::string& vocab_name,
                                 std::string_view merges_txt, const std::string& merges_name) {
  const auto entries = parse_vocab_json(vocab_json, vocab_name);
  Vocabulary vocabulary;
  TokenIndex index(vocabulary, entries.size());
  vocabulary.begins.push_back(0);
  TokenId id = 0;
  for (const std::string* const spelling : in_order_of_id(entries, vocab_name)) {
    std::string bytes;
    const bool spells_bytes = append_bytes_of(bytes, *spelling);
    vocabulary.append_token(spells_bytes ? bytes : *spelling);
    if (*spelling == kEndOfText) vocabulary.end_of_text = id;
    if (spells_bytes) {
      if (index.find(bytes)) {
        base::fail("{}: expected each token once, got '{}' again", vocab_name, *spelling);
      }
      index.insert(id);
    } else {
      vocabulary.literal.push_back(id);
    }
    ++id;
  }
  find_byte_tokens(vocabulary, index, vocab_name);
  vocabulary.reserve_pairs(count_lines(merges_txt));
  for_each_merge(merges_txt, merges_name, [&](const MergeLine& merge) {
    const auto known = [&](std::string_view bytes) {
      const auto token = index.find(bytes);
      if (!token) {
        base::fail("{}, line {}: expected tokens of {}, got '{}'", merges_name, merge.number,
                   vocab_name, spelling_of(bytes));
      }
      return *token;
    };
    add_merge(vocabulary, merges_name, merge.number,
              {known(merge.left()), known(merge.right()), known(merge.joined)});
  });
  return vocabulary;
}

}  // namespace text
