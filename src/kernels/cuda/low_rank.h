#pragma once
/// Gradients of low-rank adapters.

#include <algorithm>

#include "kernels/cuda/typed_products.h"
#include "kernels/kernels.h"

namespace kernels::cuda {

/// A: f32 or bf16.
template <class A>
class LowRank {
  static constexpr int kBytes = sizeof(A);

 public:
  LowRank(gpu::Queue& queue, TypedProducts<A>& products)
      : queue_(queue), products_(products), factor_(queue), thin_(queue), sums_(queue) {}

  /// Backend::low_rank_backward(). The rank is widened to what products take.
  void backward(View da, View db, ConstView dout, ConstView inp, ConstView a, ConstView b,
                float scale) {
    const int rows = to_int(inp.dim(0));
    const int inputs = to_int(inp.dim(1));
    const int outputs = to_int(dout.dim(1));
    const int rank = to_int(a.dim(1));
    const int wide = to_int(round_up(rank, kMultiple));
    auto* factor = factor_.take<A>(std::int64_t{wide} * std::max(inputs, outputs));
    auto* thin = thin_.take<A>(std::int64_t{rows} * wide);
    auto* sums = sums_.take<float>(std::int64_t{wide} * std::max(inputs, outputs));
    if (!db.empty()) {  // (scale inp a)^T dout
      widen(factor, a.f32(), inputs, rank, inputs, wide, scale, &queue_);
      products_.multiply({.rows = rows, .columns = wide, .depth = inputs}, thin,
                         static_cast<const A*>(inp.data()), factor);
      products_.multiply({.rows = wide,
                          .columns = outputs,
                          .depth = rows,
                          .left_transposed = true,
                          .f32_out = true},
                         sums, thin, static_cast<const A*>(dout.data()));
      add_block(db.f32(), sums, rank, outputs, outputs, &queue_);
    }
    if (!da.empty()) {  // inp^T (scale dout b^T)
      widen(factor, b.f32(), rank, outputs, wide, outputs, scale, &queue_);
      products_.multiply(
          {.rows = rows, .columns = wide, .depth = outputs, .right_transposed = true}, thin,
          static_cast<const A*>(dout.data()), factor);
      products_.multiply({.rows = inputs,
                          .columns = wide,
                          .depth = rows,
                          .left_transposed = true,
                          .f32_out = true},
                         sums, static_cast<const A*>(inp.data()), thin);
      add_block(da.f32(), sums, inputs, rank, wide, &queue_);
    }
  }
  std::size_t workspace_bytes(std::int64_t rows, std::int64_t inputs, std::int64_t outputs,
                              std::int64_t rank) const {
    const std::int64_t wide = round_up(rank, kMultiple);
    return static_cast<std::size_t>(wide *
                                    (std::max(inputs, outputs) * (4 + kBytes) + rows * kBytes));
  }

 private:
  gpu::Queue& queue_;
  TypedProducts<A>& products_;
  Buffer factor_, thin_, sums_;
};

}  // namespace kernels::cuda
