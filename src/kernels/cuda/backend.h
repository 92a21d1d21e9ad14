#pragma once
/// The CUDA backend's factory, for kernels.cpp alone: other rooms go through make_backend().

#include <memory>
#include <string>

#include "kernels/kernels.h"

namespace kernels {

/// As kernels.h says of cuda_trouble().
std::string find_cuda_trouble(int index);
/// The backend of CUDA device `index`, which computes in `compute_type` (f32 or bf16) with f32 sums
/// and has its weights' copies in the same. `tf32`: as make_backend() says. Throws Error where the
/// device cannot be used.
std::unique_ptr<Backend> make_cuda_backend(int index, DType compute_type, bool tf32);

}  // namespace kernels
