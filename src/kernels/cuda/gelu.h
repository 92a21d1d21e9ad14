#pragma once
/// GELU in its tanh form (arXiv:1606.08415), as every kernel computes it.

#include "kernels/cuda/gpu.h"

namespace kernels::cuda {

// sqrt(2 / pi) and the cubic's factor.
inline constexpr float kGeluScale = 0.7978845608F;
inline constexpr float kGeluCubic = 0.044715F;

/// tanh(u) = 1 - 2 / (1 + e^2u), by base 2; exact limits at both ends.
__device__ inline float tanh_of(float u) {
  constexpr float kTwoLog2E = 2.885390082F;
  return 1 - gpu::divide_fast(2, 1 + gpu::exp2_fast(fminf(u * kTwoLog2E, 100)));
}

struct Gelu {
  __device__ float operator()(float z) const {
    return 0.5F * z * (1 + tanh_of(kGeluScale * (z + kGeluCubic * z * z * z)));
  }
};
struct GeluDerivative {
  __device__ float operator()(float z) const {
    const float t = tanh_of(kGeluScale * (z + kGeluCubic * z * z * z));
    return 0.5F * (1 + t) + 0.5F * z * (1 - t * t) * kGeluScale * (1 + 3 * kGeluCubic * z * z);
  }
};

}  // namespace kernels::cuda
