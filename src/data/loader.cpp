// Shards joined to one sequence, and the windows cut from it.

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "data/data.h"
#include "data/shuffle.h"

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

}  // namespace

TokenStream TokenStream::open(const base::Path& folder, Split split) {
  TokenStream stream;
  if (std::filesystem::exists(folder / kUnfinishedName)) {
    base::fail("{} holds an unfinished preparation; run the same 'gpt2 prepare' again",
               folder.string());
  }
  if (!std::filesystem::exists(folder / kManifestName)) {
    for (const base::Path& path : find_shards(folder)) {
      if (is_validation(path) == (split == Split::kValidation)) stream.add(Shard(path), 0);
    }
    return stream;
  }
  stream.manifest_ = read_manifest(folder);
  const Manifest& manifest = *stream.manifest_;
  for (const ShardInfo& info : split == Split::kTrain ? manifest.train : manifest.validation) {
    Shard shard(folder / info.file);
    const auto tokens = static_cast<std::int64_t>(shard.tokens().size());
    if (tokens != info.tokens) {
      base::fail("shard {}: {} promises {} tokens, the shard has {}; run 'gpt2 prepare' again",
                 shard.path().string(), kManifestName, info.tokens, tokens);
    }
    stream.add(std::move(shard), manifest.overlap);
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

void TokenStream::read(std::int64_t first, std::int64_t vocab_size,
                       std::span<std::int32_t> out) const {
  assert(first >= 0 && first + std::ssize(out) <= tokens_);
  while (!out.empty()) {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), first);
    const auto index = static_cast<std::size_t>(std::distance(starts_.begin(), after) - 1);
    const auto skip = static_cast<std::size_t>(first - starts_[index]);
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

Loader::Loader(const TokenStream& stream, std::int64_t batch, std::int64_t length, Order order,
               std::uint64_t seed, std::int64_t vocab_size, std::int64_t rank, std::int64_t ranks)
    : stream_(&stream),
      batch_(batch),
      length_(length),
      order_(order),
      vocab_size_(vocab_size),
      rank_(rank),
      ranks_(ranks) {
  if (batch < 1 || length < 1) {
    base::fail("loader: expected a batch and a context of at least 1, got {} and {}", batch,
               length);
  }
  if (rank < 0 || rank >= ranks) {
    base::fail("loader: expected a rank in [0, {}), got {}", ranks, rank);
  }
  windows_ = (stream.tokens() - 1) / length;
  if (stream.tokens() <= length) {
    base::fail(
        "the data has {} tokens, one window of context {} needs {}; prepare more text or use "
        "a shorter context",
        stream.tokens(), length, length + 1);
  }
  state_.seed = seed;
  window_tokens_.resize(static_cast<std::size_t>(length) + 1);
}

std::int64_t Loader::window_start(std::int64_t epoch, std::int64_t index) const {
  assert(index >= 0 && index < windows_);
  const std::int64_t window =
      order_ == Order::kSequential ? index : shuffled_index(state_.seed, epoch, index, windows_);
  return window * length_;
}

void Loader::next(std::span<std::int32_t> inputs, std::span<std::int32_t> targets) {
  assert(std::ssize(inputs) == batch_ * length_ && std::ssize(targets) == batch_ * length_);
  const auto length = static_cast<std::size_t>(length_);
  for (std::int64_t b = 0; b < batch_; ++b) {
    const std::int64_t position = state_.window + rank_ * batch_ + b;  // counted from this epoch on
    stream_->read(window_start(state_.epoch + position / windows_, position % windows_),
                  vocab_size_, window_tokens_);
    const auto row = static_cast<std::size_t>(b) * length;
    std::copy_n(window_tokens_.begin(), length, inputs.subspan(row).begin());
    std::copy_n(window_tokens_.begin() + 1, length, targets.subspan(row).begin());
  }
  const std::int64_t position = state_.window + ranks_ * batch_;
  state_.epoch += position / windows_;
  state_.window = position % windows_;
}

void Loader::restore(const LoaderState& state) {
  if (state.epoch < 0 || state.window < 0 || state.window >= windows_) {
    base::fail(
        "loader: cannot continue at epoch {}, window {}: an epoch of this data has {} windows",
        state.epoch, state.window, windows_);
  }
  state_ = state;
}

}  // namespace data
