// The learning rate of a step: a pure function, so that a resumed run has nothing to restore.

#include <cmath>
#include <numbers>

#include "train/train.h"

namespace train {

double learning_rate_at(Schedule schedule, std::int64_t step, std::int64_t steps,
                        std::int64_t warmup, double peak, double minimum) {
  if (step < warmup) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  if (schedule == Schedule::kConstant) return peak;
  if (step >= steps) return minimum;
  const double progress = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
  if (schedule == Schedule::kLinear) return peak + (minimum - peak) * progress;
  return minimum + (peak - minimum) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
}

}  // namespace train
