// Mean and standard deviation of a moving window, and what lies far above them.

#include "train/spike_guard.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace train {
namespace {

constexpr double kLeastDeviation = 0.01;  // of the mean

/// The largest value that is no spike after `values`.
double limit(const std::deque<double>& values, double z) {
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return mean + z * std::max(std::sqrt(squares / count), kLeastDeviation * std::abs(mean));
}

void push(std::deque<double>& values, double value, std::int64_t window) {
  values.push_back(value);
  if (std::ssize(values) > window) values.pop_front();
}

}  // namespace

bool SpikeGuard::is_spike(double loss, double norm) {
  SpikeHistory& h = history_;
  const bool full = std::ssize(h.losses) >= window_;
  if (full && (loss > limit(h.losses, z_) || norm > limit(h.norms, z_))) {
    ++h.in_a_row;
    return true;
  }
  h.in_a_row = 0;
  push(h.losses, loss, window_);
  push(h.norms, norm, window_);
  return false;
}

}  // namespace train
