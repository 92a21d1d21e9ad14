#pragma once
/// The merges: from a piece's bytes to its ids. Private to the room.
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
  static constexpr std::size_t kShortBytes = 256;

  explicit Merger(const Tokenizer::Tables& tables);
  ~Merger();
  Merger(const Merger&) = delete;
  Merger& operator=(const Merger&) = delete;

  /// Appends the ids of `piece`.
  void merge(std::string_view piece, std::vector<TokenId>& ids);

 private:
  struct Scratch;
  void merge_short(std::string_view piece, std::vector<TokenId>& ids) const;
  void merge_long(std::string_view piece, std::vector<TokenId>& ids);

  const Tokenizer::Tables& tables_;
  std::unique_ptr<Scratch> scratch_;  // of merge_long; made when first needed
};

}  // namespace text
