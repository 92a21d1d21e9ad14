#pragma once
/// Part of the room's door, which includes it: learns a byte-level BPE vocabulary from texts:
/// counts pre-tokens, then joins the commonest pair of neighbouring tokens again and again.
///
/// Law: the result depends on the counts alone, not on the order in which texts were added.
/// Source: Sennrich, Haddow, Birch 2016 (arXiv:1508.07909), section 3.2, algorithm 1; GPT-2's
/// alphabet of bytes and its pattern for pre-tokens.

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

namespace text {

class Tokenizer;

/// How often each pre-token occurs. One object a thread; several are added up.
class PieceCounts {
 public:
  /// Longer pre-tokens say nothing about language and are not counted.
  static constexpr std::size_t kMostBytes = 256;

  PieceCounts();
  ~PieceCounts();
  PieceCounts(PieceCounts&&) noexcept;
  PieceCounts& operator=(PieceCounts&&) noexcept;

  /// Counts the pre-tokens of `text`, which must be cut from its neighbours where the pattern cuts.
  void add(std::string_view text);
  void add(const PieceCounts& other);
  void clear();
  /// Forgets the rarest until at most `pieces` are left: all that occur once, then twice, and so
  /// on. What is forgotten depends on the counts alone.
  void keep_commonest(std::size_t pieces);
  /// Different pre-tokens.
  std::size_t size() const;
  /// All pre-tokens counted.
  std::uint64_t total() const;

  struct State;  // private to the room
  const State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

struct LearnOptions {
  std::size_t vocab_size = 0;       ///< 257 to 65,536: bytes, merges, and <|endoftext|>
  std::uint64_t min_frequency = 2;  ///< a pair that occurs less often is not joined
};

/// The tokenizer that the counts teach: ids 0 to 255 are the bytes in GPT-2's order, then one for
/// each merge, the last is <|endoftext|>. Ties go to the pair of lower ids. It has fewer entries
/// than asked for where no pair is left that occurs often enough.
/// `progress` is called with the entries so far, now and then. Throws Error for a size out of
/// range.
Tokenizer learn_tokenizer(const PieceCounts& counts, const LearnOptions& options,
                          const std::function<void(std::size_t)>& progress);

}  // namespace text
