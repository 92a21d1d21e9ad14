#pragma once
/// The clocks that measurements are taken with.

#include <ctime>

namespace base {

/// What a measurement counts.
enum class Clock {
  kWall,    ///< time as it passes
  kThread,  ///< the calling thread's processor time: leaves out what other programs took
};

/// Seconds since an arbitrary moment, never going back.
inline double seconds(Clock clock) {
  std::timespec now{};
  ::clock_gettime(clock == Clock::kWall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace base
