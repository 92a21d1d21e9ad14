#pragma once
/// Memory that operations borrow while they run.

#include <cstddef>

#include "base/tensor.h"

namespace kernels::cpu {

/// One block on huge pages that grows to the largest size asked for and never shrinks.
class Scratch {
 public:
  /// At least `bytes` bytes, aligned to 64; what was handed out before is void.
  void* take(std::size_t bytes) {
    if (bytes > arena_.capacity_bytes()) {
      arena_ = base::Arena();  // the old block goes first, so that the two never coexist
      arena_ = base::Arena(bytes);
      data_ = arena_.take_bytes(bytes);
    }
    return data_;
  }
  float* take_floats(std::size_t count) { return static_cast<float*>(take(count * sizeof(float))); }

 private:
  base::Arena arena_;
  void* data_ = nullptr;
};

}  // namespace kernels::cpu
