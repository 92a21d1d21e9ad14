#pragma once
/// Dropout's masks on a device: the bits that every backend draws (base/rng.h).

#include "base/rng.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/launchers.h"

namespace kernels::cuda {

/// The key of a row, counted from the operation's first.
__device__ inline std::uint64_t row_key(const Mask& mask, std::size_t row) {
  return base::random_bits(mask.key, 0, mask.first_row + row);
}
/// Element `element` of a row, dropped or scaled.
__device__ inline float masked(float x, const Mask& mask, std::uint64_t key, int element) {
  const bool kept = base::random_bits32(key, static_cast<std::uint32_t>(element)) >= mask.threshold;
  return kept ? x * mask.scale : 0.0F;
}

}  // namespace kernels::cuda
