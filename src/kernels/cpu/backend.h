#pragma once
/// The CPU backend's factory, for kernels.cpp alone: other rooms go through make_backend().

#include <memory>

#include "kernels/kernels.h"

namespace kernels {

/// Makes the backend that runs on this processor, in f32 or bf16, with `choice` or, where that is
/// null, the first of cpu_choices(). Throws Error as make_backend() says.
std::unique_ptr<Backend> make_cpu_backend(DType compute_type, const CpuChoice* choice);
/// The same for inference with weights in `format`: it computes in f32 for kF32, else in bf16.
std::unique_ptr<Backend> make_cpu_backend(WeightFormat format, const CpuChoice* choice);

}  // namespace kernels
