#pragma once
/// Muon's steps out of their kernels and products.

#include <algorithm>
#include <utility>

#include "kernels/cuda/typed_products.h"
#include "kernels/kernels.h"

namespace kernels::cuda {

/// A: what the iteration's products are taken in, f32 or bf16.
template <class A>
class MuonSteps {
  static constexpr bool kF32 = std::is_same_v<A, float>;
  static constexpr int kBytes = sizeof(A);

 public:
  MuonSteps(gpu::Queue& queue, TypedProducts<A>& products)
      : queue_(queue),
        products_(products),
        update_(queue),
        x_(queue),
        result_(queue),
        polynomial_(queue),
        gram_(queue),
        narrow_(queue),
        total_(queue),
        norm_blocks_(queue) {}

  /// Backend::muon_step() without the copies.
  void step(View parameter, ConstView gradient, View m, const Muon& hyper, const Average& average) {
    const auto count = static_cast<std::size_t>(parameter.elements());
    auto* update = update_.take<float>(parameter.elements());
    muon_momentum(update, m.f32(), gradient.f32(), hyper.gradient_scale, hyper.momentum, count,
                  &queue_);
    const auto rate = static_cast<double>(hyper.learning_rate);
    MuonPart part;
    part.rows = to_int(parameter.dim(0));
    part.stride = to_int(parameter.dim(1));
    part.columns = part.stride / to_int(hyper.parts);
    for (; part.first < part.stride; part.first += part.columns) {
      const float* x = orthogonalize(update, part);
      muon_apply(parameter.f32(), f32(average.values), x, part,
                 static_cast<float>(1.0 - rate * static_cast<double>(hyper.weight_decay)),
                 static_cast<float>(rate * static_cast<double>(hyper.scale)),
                 static_cast<float>(1.0 - average.decay), &queue_);
    }
  }
  std::size_t workspace_bytes(std::int64_t rows, std::int64_t columns, std::int64_t parts) const {
    const std::int64_t part = columns / parts;
    const std::int64_t small = std::min(rows, part);
    return static_cast<std::size_t>(rows * columns * 4 + rows * part * (4 + 2 * kBytes) +
                                    small * small * (8 + kBytes + (kF32 ? 0 : kBytes)));
  }

 private:
  /// The iteration of kernels.h on one part: X (large, small) in f32.
  const float* orthogonalize(const float* update, const MuonPart& part) {
    const int large = part.large();
    const int small = part.small();
    const std::int64_t elements = std::int64_t{large} * small;
    const std::int64_t square = std::int64_t{small} * small;
    auto* result = result_.take<float>(elements);
    auto* x = x_.take<A>(2 * elements);
    A* next = x + elements;
    auto* gram = gram_.take<float>(2 * square);
    float* gram_square = gram + square;
    auto* polynomial = polynomial_.take<A>(square);
    muon_gather(result, update, part, &queue_);
    auto* squares = total_.take<double>(1);
    cuda::squared_norm(squares, result, static_cast<std::size_t>(elements),
                       norm_blocks_.take<double>(norm_blocks(static_cast<std::size_t>(elements))),
                       &queue_);
    muon_normalize(x, result, squares, static_cast<float>(kMuonNormFloor),
                   static_cast<std::size_t>(elements), &queue_);
    const auto own_square = [&](float* out, const A* of, int depth) {
      products_.multiply({.rows = small,
                          .columns = small,
                          .depth = depth,
                          .left_transposed = true,
                          .f32_out = true},
                         out, of, of);
    };
    for (int i = 1; i <= kMuonIterations; ++i) {
      own_square(gram, x, large);
      own_square(gram_square, products_.converted(narrow_, gram, square), small);
      muon_polynomial(polynomial, gram, gram_square, small, static_cast<float>(kMuonA),
                      static_cast<float>(kMuonB), static_cast<float>(kMuonC), &queue_);
      const bool last = i == kMuonIterations;
      products_.multiply({.rows = large, .columns = small, .depth = small, .f32_out = last},
                         last ? static_cast<void*>(result) : next, x, polynomial);
      std::swap(x, next);
    }
    return result;
  }

  gpu::Queue& queue_;
  TypedProducts<A>& products_;
  Buffer update_, x_, result_, polynomial_, gram_, narrow_, total_, norm_blocks_;
};

}  // namespace kernels::cuda
