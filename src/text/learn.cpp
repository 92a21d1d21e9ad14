// Counting and merging. A pair's occurrences are known by word, so that a merge visits only the
// words that hold it; a heap with outdated entries gives the commonest pair.

#include "text/learn.h"

#include <algorithm>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "text/cpu/isa.h"
#include "text/text.h"
#include "text/vocabulary.h"

namespace text {

// ---- counting -------------------------------------------------------------------------------

/// An open table of pieces; their bytes lie in one pool.
struct PieceCounts::State {
  struct Slot {
    std::uint64_t hash = 0;
    std::uint64_t begin = 0;
    std::uint64_t count = 0;  // 0: free
    std::uint32_t bytes = 0;
  };
  std::vector<Slot> slots = std::vector<Slot>(1U << 12);
  std::string pool;
  std::size_t used = 0;
  std::uint64_t total = 0;

  std::string_view bytes_of(const Slot& slot) const {
    return std::string_view(pool).substr(slot.begin, slot.bytes);
  }

  static std::uint64_t hash_of(std::string_view piece) {
    return std::hash<std::string_view>{}(piece);
  }

  Slot& find(std::string_view piece, std::uint64_t hash) {
    const std::size_t mask = slots.size() - 1;
    std::size_t i = hash & mask;
    while (slots[i].count != 0 && (slots[i].hash != hash || bytes_of(slots[i]) != piece)) {
      i = (i + 1) & mask;
    }
    return slots[i];
  }

  void count(std::string_view piece, std::uint64_t hash, std::uint64_t times) {
    total += times;
    Slot* slot = &find(piece, hash);
    if (slot->count == 0) {
      if (2 * (used + 1) > slots.size()) {
        grow();
        slot = &find(piece, hash);
      }
      *slot = {hash, pool.size(), 0, static_cast<std::uint32_t>(piece.size())};
      pool.append(piece);
      ++used;
    }
    slot->count += times;
  }

  void grow() {
    std::vector<Slot> old(2 * slots.size());
    old.swap(slots);
    const std::size_t mask = slots.size() - 1;
    for (const Slot& slot : old) {
      if (slot.count == 0) continue;
      std::size_t i = slot.hash & mask;
      while (slots[i].count != 0) i = (i + 1) & mask;
      slots[i] = slot;
    }
  }
};

PieceCounts::PieceCounts() : state_(std::make_unique<State>()) {}
PieceCounts::~PieceCounts() = default;
PieceCounts::PieceCounts(PieceCounts&&) noexcept = default;
PieceCounts& PieceCounts::operator=(PieceCounts&&) noexcept = default;

std::size_t PieceCounts::size() const { return state_->used; }
std::uint64_t PieceCounts::total() const { return state_->total; }
void PieceCounts::clear() { *state_ = State(); }

void PieceCounts::add(std::string_view text) {
  if (text.empty()) return;
  const auto count = [&](std::size_t begin, std::size_t end) {
    const std::string_view piece = text.substr(begin, end - begin);
    if (piece.size() <= kMostBytes) state_->count(piece, State::hash_of(piece), 1);
  };
  const cpu::Kernels& kernels = cpu::chosen_kernels();
  cpu::CutState cutting{};
  std::vector<std::uint16_t> positions(cpu::kPositions);
  const std::size_t blocks = text.size() / cpu::kBlockBytes + 1;  // and one behind the last byte
  constexpr std::size_t kAtOnce = cpu::kChunkBytes / cpu::kBlockBytes;
  std::size_t piece = 0;
  for (std::size_t done = 0; done < blocks; done += kAtOnce) {
    const std::size_t begin = done * cpu::kBlockBytes;
    const std::size_t starts = kernels.cut(cutting, text.data(), text.size(), begin,
                                           std::min(kAtOnce, blocks - done), positions.data());
    for (std::size_t i = 0; i < starts; ++i) {
      const std::size_t start = begin + positions[i] - 1;
      if (start > piece && start < text.size()) {
        count(piece, start);
        piece = start;
      }
    }
  }
  count(piece, text.size());
}

void PieceCounts::add(const PieceCounts& other) {
  const State& from = *other.state_;
  for (const State::Slot& slot : from.slots) {
    if (slot.count != 0) state_->count(from.bytes_of(slot), slot.hash, slot.count);
  }
}

void PieceCounts::keep_commonest(std::size_t pieces) {
  for (std::uint64_t rare = 1; state_->used > pieces; ++rare) {
    State kept;
    for (const State::Slot& slot : state_->slots) {
      if (slot.count > rare) kept.count(state_->bytes_of(slot), slot.hash, slot.count);
    }
    kept.total = state_->total;
    *state_ = std::move(kept);
  }
}

// ---- merging --------------------------------------------------------------------------------

namespace {

using Pair = std::uint32_t;  // left << 16 | right
Pair pair_of(TokenId left, TokenId right) { return Pair{left} << 16 | right; }

class Learner {
 public:
  Learner(const PieceCounts& counts, const std::array<TokenId, 256>& byte_ids) {
    take_words(counts.state(), byte_ids);
    for (std::uint32_t w = 0; w < words_.size(); ++w) {
      const Word& word = words_[w];
      for (std::uint32_t i = 0; i + 1 < word.length; ++i) {
        const TokenId* at = &symbols_[word.begin + i];
        change(pair_of(at[0], at[1]), static_cast<std::int64_t>(word.count), w);
      }
    }
    for (const auto& [pair, known] : pairs_) queue_.push({known.count, pair});
  }

  /// The commonest pair, if it occurs `min_frequency` times.
  std::optional<Pair> next(std::uint64_t min_frequency) {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(top.pair);
      if (found == pairs_.end()) continue;
      if (found->second.count != top.count) {  // outdated
        if (found->second.count > 0) queue_.push({found->second.count, top.pair});
        continue;
      }
      if (top.count < static_cast<std::int64_t>(min_frequency)) return std::nullopt;
      return top.pair;
    }
    return std::nullopt;
  }

  /// Joins all occurrences of a pair.
  void merge(Pair pair, TokenId joined) {
    std::vector<std::uint32_t> words = std::move(pairs_.at(pair).words);
    pairs_.erase(pair);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    fresh_.clear();
    for (const std::uint32_t w : words) merge_in(w, pair, joined);
    std::sort(fresh_.begin(), fresh_.end());
    fresh_.erase(std::unique(fresh_.begin(), fresh_.end()), fresh_.end());
    for (const Pair other : fresh_) {
      const auto found = pairs_.find(other);
      if (found != pairs_.end()) queue_.push({found->second.count, other});
    }
  }

 private:
  struct Word {
    std::uint64_t begin;
    std::uint64_t count;
    std::uint32_t length;
  };
  struct Known {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  // that hold the pair, or did
  };
  struct Candidate {
    std::int64_t count;
    Pair pair;
    /// Larger counts first, then lower ids.
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  /// In order of their bytes: the table's order depends on what was added when.
  void take_words(const PieceCounts::State& counts, const std::array<TokenId, 256>& byte_ids) {
    std::vector<const PieceCounts::State::Slot*> slots;
    for (const auto& slot : counts.slots) {
      if (slot.count != 0 && slot.bytes > 1) slots.push_back(&slot);
    }
    std::sort(slots.begin(), slots.end(), [&](const auto* a, const auto* b) {
      return counts.bytes_of(*a) < counts.bytes_of(*b);
    });
    for (const auto* slot : slots) {
      words_.push_back({symbols_.size(), slot->count, slot->bytes});
      for (const char c : counts.bytes_of(*slot)) {
        symbols_.push_back(byte_ids[static_cast<std::uint8_t>(c)]);
      }
    }
  }

  void change(Pair pair, std::int64_t by, std::uint32_t word) {
    Known& known = pairs_[pair];
    known.count += by;
    if (by > 0 && (known.words.empty() || known.words.back() != word)) known.words.push_back(word);
  }

  void merge_in(std::uint32_t w, Pair pair, TokenId joined) {
    Word& word = words_[w];
    const auto count = static_cast<std::int64_t>(word.count);
    TokenId* const symbols = &symbols_[word.begin];
    std::uint32_t to = 0;
    for (std::uint32_t i = 0; i < word.length; ++to) {
      if (i + 1 == word.length || pair_of(symbols[i], symbols[i + 1]) != pair) {
        symbols[to] = symbols[i++];
        continue;
      }
      if (to > 0) replace(pair_of(symbols[to - 1], symbols[i]), pair, -count, w);
      if (i + 2 < word.length) replace(pair_of(symbols[i + 1], symbols[i + 2]), pair, -count, w);
      symbols[to] = joined;
      if (to > 0) replace(pair_of(symbols[to - 1], joined), pair, count, w);
      if (i + 2 < word.length) replace(pair_of(joined, symbols[i + 2]), pair, count, w);
      i += 2;
    }
    word.length = to;
  }

  /// A neighbouring pair comes or goes. The joined pair itself is gone already: where it overlaps
  /// itself (a a a), nothing is left to count.
  void replace(Pair other, Pair joined_pair, std::int64_t by, std::uint32_t word) {
    if (other == joined_pair) return;
    change(other, by, word);
    if (by > 0) fresh_.push_back(other);
  }

  std::vector<Word> words_;
  std::vector<TokenId> symbols_;
  std::unordered_map<Pair, Known> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> fresh_;
};

/// The bytes as GPT-2 numbers them, with room for merges.
Vocabulary bytes_alone(std::size_t vocab_size) {
  Vocabulary vocabulary;
  vocabulary.begins.push_back(0);
  vocabulary.reserve_pairs(vocab_size);
  for (std::size_t id = 0; id < 256; ++id) {
    const std::uint8_t byte = kByteAlphabet.in_order_of_id[id];
    const char as_char = static_cast<char>(byte);
    vocabulary.append_token({&as_char, 1});
    vocabulary.byte_ids[byte] = static_cast<TokenId>(id);
  }
  return vocabulary;
}

}  // namespace

Tokenizer learn_tokenizer(const PieceCounts& counts, const LearnOptions& options,
                          const std::function<void(std::size_t)>& progress) {
  if (options.vocab_size < 257 || options.vocab_size > 65536) {
    base::fail("vocabulary size: expected 257 to 65536 (256 bytes, merges and {}), got {}",
               kEndOfText, options.vocab_size);
  }
  Vocabulary vocabulary = bytes_alone(options.vocab_size);
  Learner learner(counts, vocabulary.byte_ids);
  std::unordered_map<std::string, TokenId> known;  // two pairs may spell the same token
  while (vocabulary.size() + 1 < options.vocab_size) {
    const auto pair = learner.next(options.min_frequency);
    if (!pair) break;
    const auto left = static_cast<TokenId>(*pair >> 16);
    const auto right = static_cast<TokenId>(*pair & 0xFFFF);
    std::string bytes(vocabulary.bytes(left));
    bytes += vocabulary.bytes(right);
    const auto [entry, is_new] =
        known.try_emplace(std::move(bytes), static_cast<TokenId>(vocabulary.size()));
    if (is_new) vocabulary.append_token(entry->first);
    vocabulary.append_merge({left, right, entry->second});
    learner.merge(*pair, entry->second);
    if (progress && vocabulary.size() % 256 == 0) progress(vocabulary.size());
  }
  vocabulary.end_of_text = static_cast<TokenId>(vocabulary.size());
  vocabulary.append_token(kEndOfText);
  return Tokenizer(
      std::make_unique<Tokenizer::Tables>(make_image(vocabulary, "the learnt merges")));
}

}  // namespace text
