// Windows cut from a stream of tokens.

#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "data/data.h"
#include "data/shuffle.h"

namespace data {

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

std::int64_t Loader::next_start(std::int64_t b) const {
  const std::int64_t position = state_.window + rank_ * batch_ + b;  // counted from this epoch on
  return window_start(state_.epoch + position / windows_, position % windows_);
}

void Loader::next(std::span<std::int32_t> inputs, std::span<std::int32_t> targets) {
  assert(std::ssize(inputs) == batch_ * length_ && std::ssize(targets) == batch_ * length_);
  const auto length = static_cast<std::size_t>(length_);
  for (std::int64_t b = 0; b < batch_; ++b) {
    const std::int64_t start = next_start(b);
    stream_->read(start, vocab_size_, window_tokens_);
    const auto row = static_cast<std::size_t>(b) * length;
    std::copy_n(window_tokens_.begin(), length, inputs.subspan(row).begin());
    std::copy_n(window_tokens_.begin() + 1, length, targets.subspan(row).begin());
    stream_->ignore_given(start + 1, targets.subspan(row, length));
  }
  skip();
}

std::int64_t Loader::count_targets() const {
  if (!stream_->has_masks()) return batch_ * length_;
  std::int64_t count = 0;
  for (std::int64_t b = 0; b < batch_; ++b) {
    count += stream_->count_learnt(next_start(b) + 1, length_);
  }
  return count;
}

void Loader::skip() {
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
