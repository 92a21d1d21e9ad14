#pragma once
/// What products do beside multiplying.

#include <cstdint>

namespace kernels::cpu {

/// What happens to an element of a product, its bias included, before it is stored.
enum class After : std::uint8_t {
  kNone,
  kGelu,          ///< z = value rounded to A, stored in `pre` where given; c = GELU(z), the bits
                  ///< of TypedKernels::gelu_forward
  kGeluGradient,  ///< c = value * GELU'(pre)
};

}  // namespace kernels::cpu
