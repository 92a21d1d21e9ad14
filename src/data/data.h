#pragma once
/// Documents -> token shards -> batches.
///
/// Law: knows files, token ids, and (seed, epoch, window, rank); nothing of floats or clocks, and
/// of the vocabulary only its size. A shard is llm.c's format (docs/formats.md): 256 little-endian
/// int32 (magic 20240520, version 1, token count), then uint16 tokens; or nanoGPT's, tokens alone.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/growing_file.h"
#include "data/documents.h"
#include "data/mask.h"

namespace data {

using TokenId = std::uint16_t;

// ---- shards -----------------------------------------------------------------------------------

inline constexpr std::int32_t kShardMagic = 20240520;
inline constexpr std::int32_t kShardVersion = 1;
inline constexpr std::size_t kShardHeaderBytes = 1024;
/// Tokens of a full shard beside the one it shares with the next: 20,971,520 + 1.
inline constexpr std::int64_t kDefaultShardTokens = 20'971'520;

/// How tokens lie in a file: llm.c's header and tokens, or nanoGPT's tokens alone.
enum class ShardFormat : std::uint8_t { kLlmc, kNanogpt };
inline constexpr std::string_view kFormatNames[] = {"llmc", "nanogpt"};

/// A shard that is being written has this behind its name.
inline constexpr std::string_view kPartSuffix = ".part";

/// How far a shard is, durably.
struct ShardProgress {
  std::int64_t tokens = 0;
  std::uint32_t crc32c = 0;  ///< of the tokens
};

/// Writes one shard; it appears under its name at commit().
class ShardWriter {
 public:
  /// Begins the shard, or goes on where a sync() left it; that one may since have been committed.
  /// Throws Error when what was left is not there or is damaged.
  explicit ShardWriter(const base::Path& path, ShardFormat format = ShardFormat::kLlmc,
                       const std::optional<ShardProgress>& left = std::nullopt);
  /// What was never synced is removed.
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  void append(std::span<const TokenId> tokens);
  std::int64_t tokens() const { return tokens_; }
  /// Makes what there is durable.
  ShardProgress sync();
  /// Completes the header, makes the file appear, returns the CRC-32C of the whole file.
  std::uint32_t commit();

 private:
  base::Path path_;
  ShardFormat format_;
  std::optional<base::GrowingFile> file_;
  std::int64_t tokens_ = 0;
  bool keep_ = false;
};

/// A shard mapped into memory.
class Shard {
 public:
  /// Throws Error naming the file when magic, version, count or size disagree. Tokens are not read.
  /// Without a format, train.bin and val.bin that do not begin with the magic number are nanoGPT's.
  explicit Shard(const base::Path& path, std::optional<ShardFormat> format = ShardFormat::kLlmc);
  std::span<const TokenId> tokens() const { return tokens_; }
  /// The whole file.
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  const base::Path& path() const { return file_.path(); }

 private:
  void read_header();

  base::MappedFile file_;
  std::span<const TokenId> tokens_;
};

/// One shard as manifest.json lists it.
struct ShardInfo {
  std::string file;                               ///< name inside the folder
  std::int64_t tokens = 0;                        ///< in the file, the shared one included
  std::uint32_t crc32c = 0;                       ///< of the whole file
  std::optional<std::uint32_t> mask_crc32c = {};  ///< of the whole mask, where there are masks
};

/// manifest.json of a prepared folder.
struct Manifest {
  int version = 1;
  std::vector<Input> inputs;
  std::int64_t documents = 0;
  std::int64_t train_tokens = 0;  ///< distinct tokens: shared ones counted once
  std::int64_t validation_tokens = 0;
  int overlap = 1;  ///< tokens that consecutive shards share
  std::int64_t shard_tokens = kDefaultShardTokens;
  double validation_fraction = 0;
  std::string text_field;
  std::int64_t vocab_size = 0;
  std::string vocab_hash;  ///< 16 hex digits of Tokenizer::hash()
  std::int64_t end_of_text = -1;
  std::vector<ShardInfo> train;
  std::vector<ShardInfo> validation;
  ShardFormat format = ShardFormat::kLlmc;
  std::string utf8 = "keep";      ///< or "strict": documents that are not UTF-8 were rejected
  std::string dedup = "none";     ///< or "exact": of equal documents the first was kept
  std::int64_t rejected = 0;      ///< records, listed in rejected.jsonl
  std::int64_t duplicates = 0;    ///< documents dropped
  std::string mask = "none";      ///< or "prompt": each shard has a mask
  std::int64_t train_learnt = 0;  ///< of the tokens, with masks
  std::int64_t validation_learnt = 0;
};

inline constexpr std::string_view kManifestName = "manifest.json";
/// Stands in a folder that `gpt2 prepare` has not finished; such a folder is never read as data.
inline constexpr std::string_view kUnfinishedName = "prepare.json";

/// Throws Error naming file and key when it is missing, broken, or of another version.
Manifest read_manifest(const base::Path& folder);
/// Writes `folder`/manifest.json.
void write_manifest(const base::Path& folder, const Manifest& manifest);

/// A shard, or its mask, that is not what the manifest says.
struct Damage {
  std::string file;
  std::string what;
};

/// Reads every shard and mask of a prepared folder, several at a time, and checks size and CRC-32C.
/// Calls `progress(bytes done, bytes in all)` now and then, from one thread at a time. Returns the
/// damaged shards in the manifest's order. Throws Error for a folder without a manifest or with an
/// unfinished preparation.
std::vector<Damage> verify(const base::Path& folder,
                           const std::function<void(std::uint64_t, std::uint64_t)>& progress);

// ---- loading ----------------------------------------------------------------------------------

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
  /// little of the machine. A read() after damage was found throws Error naming the shard. Without
  /// a manifest there is nothing to compare with.
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

}  // namespace data
