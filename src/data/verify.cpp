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

/// A file with a checksum.
struct Checked {
  std::string name;
  std::int64_t tokens = 0;
  std::uint64_t bytes = 0;
  std::uint32_t crc32c = 0;
  bool is_mask = false;
};

/// The shards in the manifest's order, each before its mask.
std::vector<Checked> files_of(const Manifest& manifest) {
  std::vector<Checked> files;
  for (const auto* shards : {&manifest.train, &manifest.validation}) {
    for (const ShardInfo& info : *shards) {
      const std::uint64_t header = manifest.format == ShardFormat::kLlmc ? kShardHeaderBytes : 0;
      files.push_back({info.file, info.tokens,
                       header + static_cast<std::uint64_t>(info.tokens) * sizeof(TokenId),
                       info.crc32c});
      if (!info.mask_crc32c) continue;
      files.push_back(
          {mask_name(info.file), info.tokens, mask_bytes(info.tokens), *info.mask_crc32c, true});
    }
  }
  return files;
}

/// What is wrong with the checksum, or "".
std::string check_bytes(std::span<const std::byte> left, std::uint32_t expected,
                        const std::function<void(std::uint64_t)>& advance) {
  std::uint32_t crc = 0;
  while (!left.empty()) {
    const auto part = left.first(std::min(left.size(), kStepBytes));
    crc = base::crc32c(part, crc);
    left = left.subspan(part.size());
    advance(part.size());
  }
  if (crc == expected) return "";
  return fmt::format("expected CRC-32C {:08x}, found {:08x}", expected, crc);
}

/// What is wrong with one file, or "".
std::string check_file(const base::Path& folder, ShardFormat format, const Checked& file,
                       const std::function<void(std::uint64_t)>& advance) {
  std::uint64_t done = 0;
  const auto count = [&](std::uint64_t bytes) {
    done += bytes;
    advance(bytes);
  };
  std::string what;
  try {
    const base::Path path = folder / file.name;
    if (file.is_mask) {
      const Mask mask(path, file.tokens);
      what = check_bytes(mask.bytes(), file.crc32c, count);
    } else {
      const Shard shard(path, format);
      what = shard.bytes().size() == file.bytes
                 ? check_bytes(shard.bytes(), file.crc32c, count)
                 : fmt::format("expected {} tokens, found {}", file.tokens, shard.tokens().size());
    }
  } catch (const base::Error& error) {
    what = error.what();
  }
  advance(file.bytes - done);
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
  const std::vector<Checked> files = files_of(manifest);
  std::uint64_t total = 0;
  for (const Checked& file : files) total += file.bytes;
  std::uint64_t done = 0;
  std::mutex mutex;
  const auto advance = [&](std::uint64_t bytes) {
    const std::lock_guard lock(mutex);
    done += bytes;
    if (progress) progress(done, total);
  };
  std::vector<std::string> found(files.size());
  base::parallel_for_dynamic(std::ssize(files), [&](std::int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    found[index] = check_file(folder, manifest.format, files[index], advance);
  });
  std::vector<Damage> damaged;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (!found[i].empty()) damaged.push_back({files[i].name, found[i]});
  }
  return damaged;
}

}  // namespace data
