#pragma once
/// Documents -> token shards -> batches.
///
/// Law: knows files, token ids, and (seed, epoch, window, rank); nothing of floats or clocks, and
/// of the vocabulary only its size. A shard is llm.c's format (docs/formats.md): 256 little-endian
/// int32 (magic 20240520, version 1, token count), then uint16 tokens; or nanoGPT's, tokens alone.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/file.h"
#include "data/documents.h"
#include "data/mask.h"
#include "data/shard.h"

namespace data {

enum class Split : std::uint8_t { kTrain, kValidation };
enum class Order : std::uint8_t { kSequential, kShuffled };

/// All tokens of one split of a prepared folder (or of llm.c's FineWeb files) as one sequence: the
/// shards joined, shared tokens counted once.
class TokenStream {
 public:
  /// With a manifest: its shards and overlap. Without: `*.bin` whose name contains "val" is
  /// validation, the rest training, sorted by name, no overlap; train.bin and val.bin may be
  /// nanoGPT's. A split without shards is an empty
  /// stream. Throws Error for a folder without shards or with an unfinished preparation, as Shard
  /// does for each of them, and naming the shard that disagrees with the manifest.
  static TokenStream open(const base::Path& folder, Split split);

  /// Length of the joined sequence.
  std::int64_t tokens() const { return tokens_; }
  bool has_manifest() const { return manifest_.has_value(); }
  const std::optional<Manifest>& manifest() const { return manifest_; }
  std::size_t shard_count() const { return shards_.size(); }
  /// Copies tokens [first, first + out.size()) of the sequence.
  /// The range must lie inside the sequence.
  /// Throws Error naming shard and position for an id >= vocab_size.
  void read(std::int64_t first, std::int64_t vocab_size, std::span<std::int32_t> out) const;
  /// Whether some tokens are given rather than learnt.
  bool has_masks() const { return !masks_.empty(); }
  /// Puts kIgnoredTarget over those of `targets`, which begin at token `first`, that are given.
  void ignore_given(std::int64_t first, std::span<std::int32_t> targets) const;
  /// Those of tokens [first, first + count) that are learnt.
  std::int64_t count_learnt(std::int64_t first, std::int64_t count) const;

  /// Begins to compare every shard with the manifest's checksum, once, on a thread that takes
  /// little of the machine. From then on a read() of a shard that was not compared yet compares it
  /// first, and one after damage was found throws Error naming the shard: no damaged token is ever
  /// given out. Without a manifest there is nothing to compare with.
  void check_in_background();
  /// Waits for the end of that check; true when it found no damage.
  bool wait_for_check() const;

 private:
  void add(Shard shard, int overlap);
  /// The shard of a token, and its number in there.
  std::pair<std::size_t, std::size_t> find(std::int64_t token) const;
  template <class Visit>
  void for_each_bit(std::int64_t first, std::int64_t count, Visit&& visit) const;

  std::vector<Shard> shards_;
  std::vector<Mask> masks_;           ///< of each shard, or none
  std::vector<std::int64_t> starts_;  ///< position of each shard's first token in the sequence
  std::int64_t tokens_ = 0;
  std::optional<Manifest> manifest_;
  struct Check;
  std::shared_ptr<Check> check_;  ///< shared with copies of the stream
  Split split_ = Split::kTrain;
};

/// Where a loader stands. A pure value: (seed, epoch, window) is all of it.
struct LoaderState {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::int64_t window = 0;  ///< next window of this epoch, in [0, windows)
  bool operator==(const LoaderState&) const = default;
};

/// Serves (B, T) batches of inputs and of targets shifted by one; targets that are given rather
/// than learnt are kIgnoredTarget.
///
/// Window w is tokens [wT, wT + T], T + 1 of them; the tail that does not fill one is dropped. A
/// batch is the next B windows, going on into the next epoch. `shuffled` is a permutation of the
/// windows that is a pure function of (seed, epoch, index) in O(1) time and memory.
/// With several ranks, a global batch of ranks * B windows is cut into equal runs, rank r takes the
/// r-th; the state counts global windows, so it is the same on every rank.
class Loader {
 public:
  /// `stream` must outlive the loader. Throws Error when the stream has not even one window, and
  /// for a batch or length below 1 or a rank outside [0, ranks).
  Loader(const TokenStream& stream, std::int64_t batch, std::int64_t length, Order order,
         std::uint64_t seed, std::int64_t vocab_size, std::int64_t rank = 0,
         std::int64_t ranks = 1);

  /// Fills inputs and targets, each (B, T), and moves on. Throws Error for an id outside the
  /// vocabulary; the state is then as before.
  void next(std::span<std::int32_t> inputs, std::span<std::int32_t> targets);
  /// Targets of the next batch (of this rank) that count.
  std::int64_t count_targets() const;
  /// Moves on without reading.
  void skip();
  /// Windows in an epoch.
  std::int64_t windows() const { return windows_; }
  LoaderState state() const { return state_; }
  /// Continues from `state` in O(1). Throws Error for a window outside [0, windows()).
  void restore(const LoaderState& state);
  /// The stream position where window `index` of `epoch` begins.
  std::int64_t window_start(std::int64_t epoch, std::int64_t index) const;

 private:
  /// Where window `b` of the next batch begins in the stream.
  std::int64_t next_start(std::int64_t b) const;

  const TokenStream* stream_;
  std::int64_t batch_;
  std::int64_t length_;
  Order order_;
  std::int64_t vocab_size_;
  std::int64_t rank_;
  std::int64_t ranks_;
  std::int64_t windows_;
  LoaderState state_;
  std::vector<std::int32_t> window_tokens_;
};

/// Serves (B, T) batches whose windows come from several streams in the proportions of weights.
///
/// Window n comes from the stream that is furthest behind its share, the largest weight * (n + 1) -
/// served, ties to the first: none is ever a whole window ahead of its share, nor, of k streams,
/// k - 1 windows behind. Each stream keeps its own epochs. What was served follows from the states
/// of the loaders, which therefore are the whole state.
class Mixer {
 public:
  /// Loaders of one window of `length` each, at one rank. Weights are positive, their sum is 1.
  Mixer(std::vector<Loader> loaders, std::vector<double> weights, std::int64_t batch,
        std::int64_t length);

  /// As Loader's.
  void next(std::span<std::int32_t> inputs, std::span<std::int32_t> targets);
  std::int64_t count_targets() const;
  void skip();

  const std::vector<Loader>& loaders() const { return loaders_; }
  std::vector<LoaderState> state() const;
  /// Throws Error for states that are not those of so many loaders, or as Loader does.
  void restore(std::span<const LoaderState> states);

 private:
  /// The loader of the next window, taking it as served.
  std::size_t choose();

  std::vector<Loader> loaders_;
  std::vector<double> weights_;
  std::int64_t batch_;
  std::int64_t length_;
  std::vector<std::int64_t> served_;  ///< windows of each
  std::int64_t all_served_ = 0;
};

}  // namespace data
