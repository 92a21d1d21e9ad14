#pragma once
/// What the tests of dense products share.

#include <cmath>
#include <cstdint>

#include "kernels/helpers.h"

namespace kernels::cpu {

/// a (m, k) times b (k, n).
struct Sizes {
  std::int64_t m;
  std::int64_t k;
  std::int64_t n;
};

/// GELU by tanh as z sigmoid(2 sqrt(2 / pi) (z + 0.044715 z^3)), and its derivative.
inline double gelu(double z) {
  return z / (1 + std::exp(-1.5957691216057308 * (z + 0.044715 * z * z * z)));
}
inline double gelu_slope(double z) {
  const double gate = 1 / (1 + std::exp(-1.5957691216057308 * (z + 0.044715 * z * z * z)));
  return gate + z * gate * (1 - gate) * 1.5957691216057308 * (1 + 3 * 0.044715 * z * z);
}

}  // namespace kernels::cpu
