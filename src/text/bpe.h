#pragma once
/// The merges of pieces that are too long for the loops of cpu/: from their bytes to their ids.
/// Private to the room.
///
/// Always the pair of lowest rank next, the leftmost of equals, until no pair has a rank.
/// Source: Sennrich, Haddow, Birch 2016 (arXiv:1508.07909), section 3.2.

#include <memory>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace text {

/// Merges pieces of any length in O(n log n). Keeps scratch memory: one object a thread.
class Merger {
 public:
  /// Up to here the plain quadratic search is faster than the queue.
  static constexpr std::size_t kShortBytes = cpu::kMediumBytes;

  Merger(const Tokenizer::Tables& tables, const cpu::Kernels& kernels);
  ~Merger();
  Merger(const Merger&) = delete;
  Merger& operator=(const Merger&) = delete;

  /// Appends the ids of `piece`.
  void merge(std::string_view piece, std::vector<TokenId>& ids);
  /// Does it with 64-bit positions, which pieces beyond 4 GiB need, whatever its length.
  void merge_huge(std::string_view piece, std::vector<TokenId>& ids);

 private:
  const cpu::Merges& merges_;
  const cpu::Kernels& kernels_;
};

}  // namespace text
