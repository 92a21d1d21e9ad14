// Two ways to merge: a quadratic search for the short pieces that text is made of, and a queue of
// ranks for the long ones that would make the search slow.

#include "text/bpe.h"

#include <algorithm>
#include <array>
#include <functional>
#include <queue>

namespace text {
namespace {

/// Positions by (rank, position), lowest first.
///
/// One bucket a rank. A merge's result appears almost only in later merges, so that a bucket is
/// mostly full before it is opened: it is then sorted once (mostly it is in order already) and read
/// from front to back. The rare bucket that still grows after that becomes a heap.
class RankQueue {
 public:
  explicit RankQueue(std::size_t ranks) : buckets_(ranks) {}

  bool empty() const { return open_.empty(); }
  /// The lowest rank in the queue.
  std::uint32_t rank() const { return open_.top(); }

  void push(std::uint32_t rank, std::size_t position) {
    Bucket& bucket = buckets_[rank];
    auto& positions = bucket.positions;
    if (positions.empty()) {
      open_.push(rank);
    } else if (bucket.next > 0) {
      positions.erase(positions.begin(), positions.begin() + bucket.next);
      bucket.next = 0;
      bucket.order = Order::kHeap;  // which an ascending sequence is
    } else if (bucket.order == Order::kAscending && position < positions.back()) {
      bucket.order = Order::kNone;
    }
    positions.push_back(position);
    if (bucket.order == Order::kHeap) {
      std::push_heap(positions.begin(), positions.end(), std::greater<>());
    }
  }

  /// Removes the lowest position of the lowest rank.
  std::size_t pop() {
    Bucket& bucket = buckets_[open_.top()];
    auto& positions = bucket.positions;
    std::size_t position = 0;
    if (bucket.order == Order::kHeap) {
      std::pop_heap(positions.begin(), positions.end(), std::greater<>());
      position = positions.back();
      positions.pop_back();
    } else {
      if (bucket.order == Order::kNone) std::sort(positions.begin(), positions.end());
      bucket.order = Order::kAscending;
      position = positions[static_cast<std::size_t>(bucket.next++)];
      if (static_cast<std::size_t>(bucket.next) == positions.size()) positions.clear();
    }
    if (positions.empty()) {
      bucket.next = 0;
      bucket.order = Order::kAscending;
      open_.pop();
    }
    return position;
  }

 private:
  enum class Order : std::uint8_t { kAscending, kNone, kHeap };
  struct Bucket {
    std::vector<std::size_t> positions;
    std::ptrdiff_t next = 0;  // the first position not yet read; 0 in a heap
    Order order = Order::kAscending;
  };
  std::vector<Bucket> buckets_;
  // Ranks of the buckets that are not empty, each once.
  std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>> open_;
};

/// A token of a long piece, in a list linked both ways by position.
struct Node {
  std::size_t previous;
  std::size_t next;
  std::uint32_t rank;  // of the pair with the next one
  TokenId id;
};

constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);

/// Scratch memory of longer pieces is given back, so that one monster does not stay paid for.
constexpr std::size_t kKeptBytes = std::size_t{1} << 16;

}  // namespace

struct Merger::Scratch {
  explicit Scratch(std::size_t ranks) : queue(ranks) {}
  std::vector<Node> nodes;
  RankQueue queue;
};

Merger::Merger(const Tokenizer::Tables& tables) : tables_(tables) {}
Merger::~Merger() = default;

void Merger::merge(std::string_view piece, std::vector<TokenId>& ids) {
  if (piece.size() <= kShortBytes) {
    merge_short(piece, ids);
  } else {
    merge_long(piece, ids);
  }
}

void Merger::merge_short(std::string_view piece, std::vector<TokenId>& ids) const {
  std::array<TokenId, kShortBytes> tokens;
  std::array<std::uint32_t, kShortBytes> ranks;  // ranks[i]: of the pair (i, i + 1)
  std::size_t count = piece.size();
  for (std::size_t i = 0; i < count; ++i) {
    tokens[i] = tables_.byte_ids[static_cast<std::uint8_t>(piece[i])];
    if (i > 0) ranks[i - 1] = tables_.ranks.find(tokens[i - 1], tokens[i]);
  }
  while (count > 1) {
    const auto best = std::min_element(ranks.begin(), ranks.begin() + count - 1);
    if (*best == PairRanks::kNone) break;
    const auto at = static_cast<std::size_t>(best - ranks.begin());
    tokens[at] = tables_.merges[*best].result;
    --count;
    std::copy(tokens.begin() + at + 2, tokens.begin() + count + 1, tokens.begin() + at + 1);
    std::copy(best + 1, ranks.begin() + count, best);
    if (at + 1 < count) ranks[at] = tables_.ranks.find(tokens[at], tokens[at + 1]);
    if (at > 0) ranks[at - 1] = tables_.ranks.find(tokens[at - 1], tokens[at]);
  }
  ids.insert(ids.end(), tokens.begin(), tokens.begin() + count);
}

void Merger::merge_long(std::string_view piece, std::vector<TokenId>& ids) {
  if (!scratch_) scratch_ = std::make_unique<Scratch>(tables_.merges.size());
  auto& nodes = scratch_->nodes;
  RankQueue& queue = scratch_->queue;
  nodes.resize(piece.size());
  const auto rank_from = [&](std::size_t at) {
    Node& node = nodes[at];
    node.rank =
        node.next == kNowhere ? PairRanks::kNone : tables_.ranks.find(node.id, nodes[node.next].id);
    if (node.rank != PairRanks::kNone) queue.push(node.rank, at);
  };
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const bool last = i + 1 == nodes.size();
    const TokenId id = tables_.byte_ids[static_cast<std::uint8_t>(piece[i])];
    nodes[i] = {i == 0 ? kNowhere : i - 1, last ? kNowhere : i + 1, PairRanks::kNone, id};
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) rank_from(i);
  while (!queue.empty()) {
    const std::uint32_t rank = queue.rank();
    const std::size_t at = queue.pop();
    Node& node = nodes[at];
    if (node.rank != rank) continue;  // one of the two was merged with its other neighbour
    Node& gone = nodes[node.next];
    gone.rank = PairRanks::kNone;
    node.id = tables_.merges[rank].result;
    node.next = gone.next;
    if (node.next != kNowhere) nodes[node.next].previous = at;
    if (node.previous != kNowhere) rank_from(node.previous);
    rank_from(at);
  }
  for (std::size_t i = 0; i != kNowhere; i = nodes[i].next) ids.push_back(nodes[i].id);
  if (piece.size() > kKeptBytes) scratch_.reset();
}

}  // namespace text
