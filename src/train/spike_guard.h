#pragma once
/// Tells a spike from the noise of a run, for the files of this room and their tests.

#include <cstdint>
#include <deque>

namespace train {

/// What the guard has seen; a part of every checkpoint.
struct SpikeHistory {
  std::deque<double> losses, norms;  ///< of the newest updates, oldest first, at most a window
  std::int64_t in_a_row = 0;         ///< updates skipped since the last one that was not
  bool operator==(const SpikeHistory&) const = default;
};

/// Watches losses and gradient norms, one pair a step.
///
/// A value is a spike where it lies more than z standard deviations above the mean of the window
/// before it. A deviation counts as a hundredth of the mean at least: on data that is learnt by
/// heart the values hardly differ, and their noise is no spike.
class SpikeGuard {
 public:
  /// `window`: updates that the mean is taken over, at least 100.
  SpikeGuard(std::int64_t window, double z) : window_(window), z_(z) {}

  /// Judges a step before its update: true where the update should be skipped. False as long as the
  /// window is not full. What is not a spike joins the window.
  bool is_spike(double loss, double norm);
  /// Forgets everything: what comes is the new normal.
  void clear() { history_ = {}; }

  const SpikeHistory& history() const { return history_; }
  /// Goes on from what a guard of the same window has seen.
  void restore(const SpikeHistory& history) { history_ = history; }

 private:
  std::int64_t window_;
  double z_;
  SpikeHistory history_;
};

}  // namespace train
