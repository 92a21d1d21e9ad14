// Windows from several streams, by weight.

#include <cassert>

#include "base/error.h"
#include "data/data.h"

namespace data {

Mixer::Mixer(std::vector<Loader> loaders, std::vector<double> weights, std::int64_t batch,
             std::int64_t length)
    : loaders_(std::move(loaders)),
      weights_(std::move(weights)),
      batch_(batch),
      length_(length),
      served_(loaders_.size(), 0) {
  assert(!loaders_.empty() && loaders_.size() == weights_.size());
}

std::size_t Mixer::choose() {
  ++all_served_;
  std::size_t chosen = 0;
  double largest = 0;
  for (std::size_t i = 0; i < loaders_.size(); ++i) {
    const double behind =
        weights_[i] * static_cast<double>(all_served_) - static_cast<double>(served_[i]);
    if (i > 0 && behind <= largest) continue;
    chosen = i;
    largest = behind;
  }
  ++served_[chosen];
  return chosen;
}

void Mixer::next(std::span<std::int32_t> inputs, std::span<std::int32_t> targets) {
  assert(std::ssize(inputs) == batch_ * length_ && std::ssize(targets) == batch_ * length_);
  const auto length = static_cast<std::size_t>(length_);
  const std::vector<LoaderState> before = state();
  try {
    for (std::size_t row = 0; row < inputs.size(); row += length) {
      loaders_[choose()].next(inputs.subspan(row, length), targets.subspan(row, length));
    }
  } catch (...) {
    restore(before);
    throw;
  }
}

std::int64_t Mixer::count_targets() const {
  Mixer ahead = *this;
  std::int64_t count = 0;
  for (std::int64_t b = 0; b < batch_; ++b) {
    Loader& loader = ahead.loaders_[ahead.choose()];
    count += loader.count_targets();
    loader.skip();
  }
  return count;
}

void Mixer::skip() {
  for (std::int64_t b = 0; b < batch_; ++b) loaders_[choose()].skip();
}

std::vector<LoaderState> Mixer::state() const {
  std::vector<LoaderState> states;
  for (const Loader& loader : loaders_) states.push_back(loader.state());
  return states;
}

void Mixer::restore(std::span<const LoaderState> states) {
  if (states.size() != loaders_.size()) {
    base::fail("loader: cannot continue from the places in {} folders: there are {}", states.size(),
               loaders_.size());
  }
  all_served_ = 0;
  for (std::size_t i = 0; i < states.size(); ++i) {
    loaders_[i].restore(states[i]);
    served_[i] = states[i].epoch * loaders_[i].windows() + states[i].window;
    all_served_ += served_[i];
  }
}

}  // namespace data
