#pragma once
/// The reference backend's factory, for kernels.cpp alone: other rooms go through make_backend().

#include <memory>

#include "kernels/kernels.h"

namespace kernels {

/// Makes backend 0, the truth that the others are held to: naive loops in double on one thread.
std::unique_ptr<Backend> make_reference_backend(DType compute_type);
/// The same with weights in `format`: it computes in f32 for kF32, else in bf16.
std::unique_ptr<Backend> make_reference_backend(WeightFormat format);

}  // namespace kernels
