// Merging long pieces: a queue of ranks over a list of tokens.

#include "text/bpe.h"

#include <algorithm>
#include <array>
#include <bit>

#include "text/pages.h"

namespace text {
namespace {

/// What a merge gives.
TokenId result_of(const cpu::Merges& merges, std::uint32_t rank) {
  return merges.results == nullptr ? static_cast<TokenId>(merges.first_result + rank)
                                   : merges.results[rank];
}

/// Positions by rank: of the lowest rank all, in ascending order.
///
/// Each rank has a chain of cache lines that positions are written to as they come. A merge's
/// result is longer than its halves, so that a rank gets no positions from its own merges: its
/// chain is complete when it is opened, unless a lower rank turns up in between.
template <class Index>
class RankQueue {
 public:
  RankQueue() : heads_(kRanks, kNoChunk) {}

  void push(std::uint32_t rank, Index position) {
    std::uint32_t head = heads_[rank];
    if (head == kNoChunk || chunks_[head].count == Chunk::kPositions) {
      words_[rank / 64] |= std::uint64_t{1} << rank % 64;
      summary_[rank / 4096] |= std::uint64_t{1} << rank / 64 % 64;
      heads_[rank] = new_chunk(head);
      head = heads_[rank];
    }
    Chunk& chunk = chunks_[head];
    chunk.positions[chunk.count++] = position;
  }

  /// The lowest rank that has positions; kNoRank: none.
  std::uint32_t lowest() const {
    for (std::size_t s = 0; s < summary_.size(); ++s) {
      if (summary_[s] == 0) continue;
      const std::size_t word = s * 64 + static_cast<std::size_t>(std::countr_zero(summary_[s]));
      return static_cast<std::uint32_t>(word * 64) +
             static_cast<std::uint32_t>(std::countr_zero(words_[word]));
    }
    return cpu::kNoRank;
  }

  /// Moves the positions of a rank to `positions`, in ascending order.
  void take(std::uint32_t rank, std::vector<Index>& positions) {
    positions.clear();
    chain_.clear();
    for (std::uint32_t at = heads_[rank]; at != kNoChunk; at = chunks_[at].previous) {
      chain_.push_back(at);
    }
    for (std::size_t i = chain_.size(); i > 0; --i) {
      const Chunk& chunk = chunks_[chain_[i - 1]];
      positions.insert(positions.end(), chunk.positions, chunk.positions + chunk.count);
    }
    free_.insert(free_.end(), chain_.begin(), chain_.end());
    heads_[rank] = kNoChunk;
    words_[rank / 64] &= ~(std::uint64_t{1} << rank % 64);
    if (words_[rank / 64] == 0) summary_[rank / 4096] &= ~(std::uint64_t{1} << rank / 64 % 64);
    if (!std::is_sorted(positions.begin(), positions.end())) {
      std::sort(positions.begin(), positions.end());
    }
  }

 private:
  static constexpr std::size_t kRanks = 65536;
  static constexpr std::uint32_t kNoChunk = 0xFFFFFFFF;
  struct alignas(64) Chunk {
    static constexpr std::size_t kPositions = (64 - 8) / sizeof(Index);
    std::uint32_t previous;
    std::uint32_t count;
    Index positions[kPositions];
  };
  std::uint32_t new_chunk(std::uint32_t previous) {
    if (free_.empty()) {
      free_.push_back(static_cast<std::uint32_t>(chunks_.size()));
      chunks_.emplace_back();
    }
    const std::uint32_t at = free_.back();
    free_.pop_back();
    chunks_[at].previous = previous;
    chunks_[at].count = 0;
    return at;
  }

  std::vector<std::uint32_t> heads_;
  std::vector<Chunk> chunks_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> chain_;
  std::array<std::uint64_t, kRanks / 64> words_{};  // a bit for each rank with positions
  std::array<std::uint64_t, kRanks / 4096> summary_{};
};

/// A long piece while it is merged: its tokens in a list linked both ways by position.
template <class Index>
class LongPiece {
 public:
  LongPiece(const cpu::Merges& merges, const cpu::Kernels& kernels, std::string_view piece)
      : merges_(merges),
        kernels_(kernels),
        size_(piece.size()),
        memory_(sizeof(Node) * piece.size()),
        nodes_(memory_.as<Node>()) {
    const auto byte = [piece](std::size_t i) { return static_cast<std::uint8_t>(piece[i]); };
    for (std::size_t i = 0; i < size_; ++i) {
      std::uint16_t rank = cpu::kNoRank;
      if (i + 1 < size_) rank = merges.byte_ranks[byte(i) << 8 | byte(i + 1)];
      nodes_[i] = {static_cast<Index>(i == 0 ? kNowhere : i - 1),
                   static_cast<Index>(i + 1 == size_ ? kNowhere : i + 1), merges.byte_ids[byte(i)],
                   rank};
      if (rank != cpu::kNoRank) queue_.push(rank, static_cast<Index>(i));
    }
  }

  void merge() {
    std::vector<Index> positions;
    for (;;) {
      const std::uint32_t rank = queue_.lowest();
      if (rank == cpu::kNoRank) return;
      queue_.take(rank, positions);
      const std::size_t done = merge_rank(rank, positions);
      for (std::size_t i = done; i < positions.size(); ++i) queue_.push(rank, positions[i]);
    }
  }

  void append_ids(std::vector<TokenId>& ids) const {
    for (std::size_t i = 0; i != kNowhere; i = nodes_[i].next) ids.push_back(nodes_[i].id);
  }

 private:
  static constexpr Index kNowhere = static_cast<Index>(-1);
  struct Node {
    Index previous;
    Index next;
    TokenId id;
    std::uint16_t rank;  // of the pair with the next one
  };

  /// Merges the pairs of a rank; returns how many it came to before a lower rank turned up.
  std::size_t merge_rank(std::uint32_t rank, const std::vector<Index>& positions) {
    constexpr std::size_t kAhead = 12;  // nodes to ask for: about a memory access
    const TokenId result = result_of(merges_, rank);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (i + kAhead < positions.size()) __builtin_prefetch(nodes_ + positions[i + kAhead]);
      if (nodes_[positions[i]].rank != rank) continue;  // merged with a neighbour since
      if (merge_pair(positions[i], result) < rank) return i + 1;
    }
    return positions.size();
  }

  /// Merges the pair at a position; returns the lower rank of the two new pairs.
  std::uint32_t merge_pair(Index at, TokenId result) {
    Node& node = nodes_[at];
    Node& gone = nodes_[node.next];
    gone.rank = cpu::kNoRank;
    node.id = result;
    node.next = gone.next;
    std::uint16_t with_next = cpu::kNoRank;
    std::uint16_t with_previous = cpu::kNoRank;
    if (node.next != kNowhere) {
      nodes_[node.next].previous = at;
      with_next = kernels_.rank(merges_, result, nodes_[node.next].id);
    }
    set_rank(at, with_next);
    if (node.previous != kNowhere) {
      with_previous = kernels_.rank(merges_, nodes_[node.previous].id, result);
      set_rank(node.previous, with_previous);
    }
    return std::min(with_next, with_previous);
  }

  void set_rank(Index at, std::uint16_t rank) {
    nodes_[at].rank = rank;
    if (rank != cpu::kNoRank) queue_.push(rank, at);
  }

  const cpu::Merges& merges_;
  const cpu::Kernels& kernels_;
  std::size_t size_;
  Pages memory_;
  Node* nodes_;
  RankQueue<Index> queue_;
};

template <class Index>
void merge_long(const cpu::Merges& merges, const cpu::Kernels& kernels, std::string_view piece,
                std::vector<TokenId>& ids) {
  LongPiece<Index> long_piece(merges, kernels, piece);
  long_piece.merge();
  long_piece.append_ids(ids);
}

}  // namespace

Merger::Merger(const Tokenizer::Tables& tables, const cpu::Kernels& kernels)
    : merges_(tables.merges), kernels_(kernels) {}
Merger::~Merger() = default;

void Merger::merge(std::string_view piece, std::vector<TokenId>& ids) {
  if (piece.size() <= kShortBytes) {
    std::array<TokenId, kShortBytes> tokens;
    const std::size_t count =
        kernels_.merge_medium(merges_, piece.data(), piece.size(), tokens.data());
    ids.insert(ids.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count));
  } else if (piece.size() < 0xFFFFFFFF) {
    merge_long<std::uint32_t>(merges_, kernels_, piece, ids);
  } else {
    merge_huge(piece, ids);
  }
}

void Merger::merge_huge(std::string_view piece, std::vector<TokenId>& ids) {
  merge_long<std::uint64_t>(merges_, kernels_, piece, ids);
}

}  // namespace text
