// Shards joined to one sequence, and compared with their checksums as training goes on.

#include <algorithm>
#include <atomic>
#include <cassert>
#include <chrono>
#include <iterator>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "data/data.h"

namespace data {
namespace {

/// Shards of a folder that has no manifest, sorted by name.
std::vector<base::Path> find_shards(const base::Path& folder) {
  std::error_code error;
  std::filesystem::directory_iterator entries(folder, error);
  if (error) {
    base::fail("cannot open the data folder {}: {}; make it with 'gpt2 prepare'", folder.string(),
               error.message());
  }
  std::vector<base::Path> paths;
  for (const auto& entry : entries) {
    if (entry.path().extension() == ".bin") paths.push_back(entry.path());
  }
  if (paths.empty()) {
    base::fail("{} holds no shards: expected {} or *.bin files; make it with 'gpt2 prepare'",
               folder.string(), kManifestName);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool is_validation(const base::Path& path) {
  return path.filename().string().find("val") != std::string::npos;
}

/// Between two parts of a background check: at most some 100 MB/s and a hundredth of a core.
constexpr std::size_t kCheckBytes = std::size_t{1} << 20;
constexpr auto kCheckPause = std::chrono::milliseconds(10);

}  // namespace

/// A check under way: a thread goes through the shards, and whoever wants to read one that it has
/// not come to yet checks that one first, so that no token is used unchecked. Shards are mapped a
/// second time, so that the stream may go before the check.
struct TokenStream::Check {
  explicit Check(std::size_t shards) : done(shards) {}

  base::Path folder;
  std::vector<ShardInfo> infos;
  std::vector<std::atomic<bool>> done;  // of each shard: nothing is left to check
  std::atomic<bool> damaged{false};
  std::atomic<bool> stop{false};
  std::mutex checking;  // while `message` and `done` are being decided
  std::string message;  // set before `damaged`
  base::BackgroundTask task;

  ~Check() {
    stop = true;
    task = base::BackgroundTask();
  }

  /// Compares one file with its checksum; with pauses where nobody waits. False when asked to stop.
  bool check(const base::Path& path, std::uint32_t crc32c, std::string_view kind, bool pauses) {
    const base::MappedFile file(path);
    std::uint32_t crc = 0;
    for (auto left = file.bytes(); !left.empty();) {
      if (stop) return false;
      const auto part = left.first(std::min(left.size(), kCheckBytes));
      crc = base::crc32c(part, crc);
      left = left.subspan(part.size());
      if (pauses && !left.empty()) std::this_thread::sleep_for(kCheckPause);
    }
    if (crc == crc32c) return true;
    const std::lock_guard lock(checking);
    if (damaged) return true;
    message = fmt::format(
        "{} {} is damaged: its CRC-32C is {:08x}, {} says {:08x}; run 'gpt2 verify', then "
        "'gpt2 prepare --restart'",
        kind, path.string(), crc, kManifestName, crc32c);
    damaged = true;
    return true;
  }

  /// Checks a shard and its mask, unless that is done. False when asked to stop.
  bool check_shard(std::size_t index, bool pauses) {
    if (done[index]) return true;
    const ShardInfo& info = infos[index];
    if (!check(folder / info.file, info.crc32c, "shard", pauses)) return false;
    if (info.mask_crc32c &&
        !check(folder / mask_name(info.file), *info.mask_crc32c, "mask", pauses)) {
      return false;
    }
    done[index] = true;
    return true;
  }
};

void TokenStream::check_in_background() {
  if (!manifest_ || check_ || shards_.empty()) return;
  check_ = std::make_shared<Check>(shards_.size());
  check_->infos = split_ == Split::kTrain ? manifest_->train : manifest_->validation;
  check_->folder = shards_.front().path().parent_path();
  check_->task = base::BackgroundTask([check = check_.get()] {
    for (std::size_t i = 0; i < check->infos.size(); ++i) {
      if (check->damaged || !check->check_shard(i, /*pauses=*/true)) return;
    }
  });
}

bool TokenStream::wait_for_check() const {
  if (!check_) return true;
  check_->task.wait();
  return !check_->damaged;
}

TokenStream TokenStream::open(const base::Path& folder, Split split) {
  TokenStream stream;
  stream.split_ = split;
  if (std::filesystem::exists(folder / kUnfinishedName)) {
    base::fail("{} holds an unfinished preparation; run the same 'gpt2 prepare' again",
               folder.string());
  }
  if (!std::filesystem::exists(folder / kManifestName)) {
    for (const base::Path& path : find_shards(folder)) {
      if (is_validation(path) == (split == Split::kValidation)) {
        stream.add(Shard(path, std::nullopt), 0);
      }
    }
    return stream;
  }
  stream.manifest_ = read_manifest(folder);
  const Manifest& manifest = *stream.manifest_;
  for (const ShardInfo& info : split == Split::kTrain ? manifest.train : manifest.validation) {
    Shard shard(folder / info.file, manifest.format);
    const auto tokens = static_cast<std::int64_t>(shard.tokens().size());
    if (tokens != info.tokens) {
      base::fail("shard {}: {} promises {} tokens, the shard has {}; run 'gpt2 prepare' again",
                 shard.path().string(), kManifestName, info.tokens, tokens);
    }
    stream.add(std::move(shard), manifest.overlap);
    if (info.mask_crc32c) stream.masks_.emplace_back(folder / mask_name(info.file), tokens);
  }
  return stream;
}

void TokenStream::add(Shard shard, int overlap) {
  const auto tokens = static_cast<std::int64_t>(shard.tokens().size());
  if (shards_.empty() || overlap == 0) {
    starts_.push_back(tokens_);
    tokens_ += tokens;
  } else {
    const Shard& before = shards_.back();
    if (tokens == 0 || before.tokens().empty() ||
        before.tokens().back() != shard.tokens().front()) {
      base::fail(
          "shard {}: expected its first token to be the last one of {}; run 'gpt2 prepare' "
          "again",
          shard.path().string(), before.path().filename().string());
    }
    starts_.push_back(tokens_ - 1);
    tokens_ += tokens - 1;
  }
  shards_.push_back(std::move(shard));
}

std::pair<std::size_t, std::size_t> TokenStream::find(std::int64_t token) const {
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), token);
  const auto index = static_cast<std::size_t>(std::distance(starts_.begin(), after) - 1);
  return {index, static_cast<std::size_t>(token - starts_[index])};
}

void TokenStream::read(std::int64_t first, std::int64_t vocab_size,
                       std::span<std::int32_t> out) const {
  assert(first >= 0 && first + std::ssize(out) <= tokens_);
  while (!out.empty()) {
    const auto [index, skip] = find(first);
    if (check_) check_->check_shard(index, /*pauses=*/false);
    if (check_ && check_->damaged) base::fail("{}", check_->message);
    const auto source = shards_[index].tokens().subspan(skip);
    const std::size_t count = std::min(source.size(), out.size());
    for (std::size_t i = 0; i < count; ++i) {
      if (source[i] >= vocab_size) {
        base::fail(
            "shard {}: token {} has id {}, the vocabulary has {} entries; prepare the data "
            "with the model's tokenizer",
            shards_[index].path().string(), skip + i, source[i], vocab_size);
      }
      out[i] = source[i];
    }
    out = out.subspan(count);
    first += static_cast<std::int64_t>(count);
  }
}

/// Calls visit(i, learnt) for token first + i.
template <class Visit>
void TokenStream::for_each_bit(std::int64_t first, std::int64_t count, Visit&& visit) const {
  for (std::int64_t done = 0; done < count;) {
    const auto [index, skip] = find(first + done);
    const auto begin = static_cast<std::int64_t>(skip);
    const std::int64_t part = std::min(std::ssize(shards_[index].tokens()) - begin, count - done);
    for (std::int64_t i = 0; i < part; ++i) visit(done + i, masks_[index].learnt(begin + i));
    done += part;
  }
}

void TokenStream::ignore_given(std::int64_t first, std::span<std::int32_t> targets) const {
  if (!has_masks()) return;
  for_each_bit(first, std::ssize(targets), [&](std::int64_t i, bool learnt) {
    if (!learnt) targets[static_cast<std::size_t>(i)] = kIgnoredTarget;
  });
}

std::int64_t TokenStream::count_learnt(std::int64_t first, std::int64_t count) const {
  if (!has_masks()) return count;
  std::int64_t learnt_tokens = 0;
  for_each_bit(first, count, [&](std::int64_t, bool learnt) { learnt_tokens += learnt ? 1 : 0; });
  return learnt_tokens;
}

}  // namespace data
