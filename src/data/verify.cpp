// Shards against the manifest.

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/error.h"
#include "base/parallel.h"
#include "data/data.h"

namespace data {
namespace {

constexpr std::size_t kStepBytes = std::size_t{1} << 24;  // between two reports

std::uint64_t file_bytes(const Manifest& manifest, const ShardInfo& info) {
  return (manifest.format == ShardFormat::kLlmc ? kShardHeaderBytes : 0) +
         static_cast<std::uint64_t>(info.tokens) * sizeof(TokenId);
}

/// What is wrong with one file, or "".
std::string check_shard(const base::Path& path, const Manifest& manifest, const ShardInfo& info,
                        const std::function<void(std::uint64_t)>& advance) {
  const std::uint64_t expected = file_bytes(manifest, info);
  std::uint64_t done = 0;
  std::string what;
  try {
    const Shard shard(path, manifest.format);
    if (shard.bytes().size() != expected) {
      what = fmt::format("expected {} tokens, found {}", info.tokens, shard.tokens().size());
    } else {
      std::uint32_t crc = 0;
      for (auto left = shard.bytes(); !left.empty();) {
        const auto part = left.first(std::min(left.size(), kStepBytes));
        crc = base::crc32c(part, crc);
        left = left.subspan(part.size());
        done += part.size();
        advance(part.size());
      }
      if (crc != info.crc32c) {
        what = fmt::format("expected CRC-32C {:08x}, found {:08x}", info.crc32c, crc);
      }
    }
  } catch (const base::Error& error) {
    what = error.what();
  }
  advance(expected - done);
  return what;
}

}  // namespace

std::vector<Damage> verify(const base::Path& folder,
                           const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  if (std::filesystem::exists(folder / kUnfinishedName)) {
    base::fail("{} holds an unfinished preparation; run the same 'gpt2 prepare' again",
               folder.string());
  }
  if (!std::filesystem::exists(folder / kManifestName)) {
    base::fail("{} has no {}, so there are no checksums to compare with", folder.string(),
               kManifestName);
  }
  const Manifest manifest = read_manifest(folder);
  std::vector<ShardInfo> shards = manifest.train;
  shards.insert(shards.end(), manifest.validation.begin(), manifest.validation.end());
  std::uint64_t total = 0;
  for (const ShardInfo& info : shards) total += file_bytes(manifest, info);
  std::uint64_t done = 0;
  std::mutex mutex;
  const auto advance = [&](std::uint64_t bytes) {
    const std::lock_guard lock(mutex);
    done += bytes;
    if (progress) progress(done, total);
  };
  std::vector<std::string> found(shards.size());
  base::parallel_for_dynamic(std::ssize(shards), [&](std::int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    found[index] = check_shard(folder / shards[index].file, manifest, shards[index], advance);
  });
  std::vector<Damage> damaged;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    if (!found[i].empty()) damaged.push_back({shards[i].file, found[i]});
  }
  return damaged;
}

}  // namespace data
