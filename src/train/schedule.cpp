// The learning rate of a step, and the decay of the average: pure functions, so that a resumed run
// has nothing to restore.

#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/train.h"

namespace train {

double learning_rate_at(Schedule schedule, std::int64_t step, std::int64_t steps,
                        std::int64_t warmup, double peak, double minimum, const Decay& decay) {
  if (step < warmup) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  if (schedule == Schedule::kConstant) return peak;
  if (step >= steps) return minimum;
  if (schedule == Schedule::kWsd) {
    const std::int64_t begin = steps - decay.steps;
    if (step < begin) return peak;
    const double q = static_cast<double>(step - begin) / static_cast<double>(decay.steps);
    if (decay.shape == DecayShape::kLinear) return peak + (minimum - peak) * q;
    return minimum + (peak - minimum) * (1.0 - std::sqrt(q));
  }
  const double progress = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
  if (schedule == Schedule::kLinear) return peak + (minimum - peak) * progress;
  return minimum + (peak - minimum) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
}

double average_decay_at(double ema, std::int64_t step) {
  return std::min(ema, static_cast<double>(1 + step) / static_cast<double>(10 + step));
}

}  // namespace train
