#pragma once
/// Shards and manifests of prepared folders: part of the room's door, which includes it.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/growing_file.h"
#include "data/documents.h"

namespace data {

using TokenId = std::uint16_t;

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

}  // namespace data
