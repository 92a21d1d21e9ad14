#pragma once
/// Inside the kernels room: the masks that kernels.h's Dropout describes, for the reference and for
/// what surrounds the cpu backend's vectorised text (which draws the same bits by itself).

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/rng.h"
#include "kernels/kernels.h"

namespace kernels {

/// A Dropout's numbers, made ready.
class DropoutMask {
 public:
  explicit DropoutMask(const Dropout& dropout)
      : threshold_(static_cast<std::uint32_t>(
            std::min(std::round(static_cast<double>(dropout.probability) * 0x1p32), 0x1p32 - 1))),
        scale_(static_cast<float>(1.0 / (1.0 - static_cast<double>(dropout.probability)))),
        key_(dropout.key),
        first_row_(static_cast<std::uint64_t>(dropout.first_row)) {}

  /// Bits below it are dropped.
  std::uint32_t threshold() const { return threshold_; }
  /// What remains is multiplied by this.
  float scale() const { return scale_; }
  /// Of a row, counted from the operation's first.
  std::uint64_t row_key(std::int64_t row) const {
    return base::random_bits(key_, 0, first_row_ + static_cast<std::uint64_t>(row));
  }
  bool keeps(std::uint64_t row_key, std::int64_t element) const {
    return base::random_bits32(row_key, static_cast<std::uint32_t>(element)) >= threshold_;
  }

 private:
  std::uint32_t threshold_;
  float scale_;
  std::uint64_t key_;
  std::uint64_t first_row_;
};

/// Attention's rows are those of the heads: H for each row of the step.
inline Dropout of_heads(Dropout dropout, std::int64_t heads) {
  dropout.first_row *= heads;
  return dropout;
}

}  // namespace kernels
