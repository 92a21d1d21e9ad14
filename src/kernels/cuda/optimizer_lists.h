#pragma once
/// The norm and AdamW's step of many tensors at once: the lists that their launches take.

#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "kernels/cuda/typed_products.h"
#include "kernels/kernels.h"

namespace kernels::cuda {

class Norms {
 public:
  explicit Norms(gpu::Queue& queue) : queue_(queue), tasks_(queue), blocks_(queue), sum_(queue) {}

  /// The sum of the squares of all `tensors`; waits for it, and for all that was queued before.
  double take(std::span<const ConstView> tensors) {
    list_.clear();
    unsigned blocks = 0;
    for (const ConstView& tensor : tensors) {
      const auto count = static_cast<std::size_t>(tensor.elements());
      if (count == 0) continue;
      list_.push_back({tensor.f32(), count, blocks});
      blocks += norm_blocks(count);
    }
    if (blocks == 0) return 0;
    double* const sum = sum_.take<double>(1);
    squared_norm(sum, tasks_.hold(list_), static_cast<int>(list_.size()), blocks,
                 blocks_.take<double>(blocks), &queue_);
    double result = 0;
    gpu::copy_bytes_out(&result, sum, sizeof result, &queue_);
    return result;
  }

 private:
  gpu::Queue& queue_;
  std::vector<NormTask> list_;
  Mirror<NormTask> tasks_;  // the same from step to step
  Buffer blocks_, sum_;
};

/// Steps of parameters that follow each other with the same numbers are one launch.
template <class A>
class AdamSteps final : public gpu::Gatherer {
 public:
  explicit AdamSteps(gpu::Queue& queue) : queue_(queue), tasks_(queue) {}

  /// Backend::adamw_step(); `copies`: the parameter in A, where it lies as the parameter does.
  void step(View parameter, ConstView gradient, View m, View v, const AdamW& hyper, A* copies,
            const Average& average) {
    const AdamNumbers numbers = numbers_of(hyper, average);
    if (!(numbers == numbers_)) give();
    numbers_ = numbers;
    const auto count = static_cast<std::size_t>(parameter.elements());
    if (count == 0) return;
    gathered_.push_back({.parameter = parameter.f32(),
                         .m = m.f32(),
                         .v = v.f32(),
                         .gradient = gradient.f32(),
                         .copies = copies,
                         .average = f32(average.values),
                         .count = count,
                         .decay = hyper.weight_decay,
                         .first_block = blocks_});
    blocks_ += adam_blocks(count);
    queue_.gather(*this);
  }

  void give() override {
    if (gathered_.empty()) return;
    given_.swap(gathered_);  // what follows may call this again
    gathered_.clear();
    const unsigned blocks = std::exchange(blocks_, 0);
    cuda::adamw_step(tasks_.hold(given_), static_cast<int>(given_.size()), blocks, numbers_,
                     &queue_);
  }

 private:
  static AdamNumbers numbers_of(const AdamW& hyper, const Average& average) {
    // The corrections in double: 1 - beta^step loses digits while beta^step is near 1.
    const auto step = static_cast<double>(hyper.step);
    const auto rate = static_cast<double>(hyper.learning_rate);
    const double correction1 = 1.0 - std::pow(static_cast<double>(hyper.beta1), step);
    const double correction2 = 1.0 - std::pow(static_cast<double>(hyper.beta2), step);
    return {.rate = rate,
            .gradient_scale = hyper.gradient_scale,
            .beta1 = hyper.beta1,
            .beta2 = hyper.beta2,
            .epsilon = hyper.epsilon,
            .step_size = static_cast<float>(rate / correction1),
            .inverse_root_bias2 = static_cast<float>(1.0 / std::sqrt(correction2)),
            .average_rate = static_cast<float>(1.0 - average.decay)};
  }

  gpu::Queue& queue_;
  AdamNumbers numbers_{};
  std::vector<AdamTask<A>> gathered_, given_;
  unsigned blocks_ = 0;
  Mirror<AdamTask<A>> tasks_;  // the same from step to step
};

}  // namespace kernels::cuda
