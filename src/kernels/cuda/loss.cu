// The head's loss: log-softmax of a row of logits and its gradient, in place.

#include <string>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr float kLog2E = 1.4426950409F;
constexpr float kLowest = -3.0e38F;  // below every logit, and finite: differences are never NaN

/// A maximum and the sum of 2^(log2(e) (x - maximum)) over some logits.
struct Softmax {
  float top;
  float sum;
};
__device__ inline Softmax join(Softmax a, Softmax b) {
  const float top = fmaxf(a.top, b.top);
  return {top, a.sum * gpu::exp2_fast((a.top - top) * kLog2E) +
                   b.sum * gpu::exp2_fast((b.top - top) * kLog2E)};
}

/// Over the first `vocab` logits of a row, joined in a fixed order, the same bits in every thread.
template <class L>
__device__ inline Softmax row_softmax(const L* row, int vocab, int padded_vocab) {
  GPU_SHARED(partial, Softmax[kWarps]);
  Softmax mine{kLowest, 0};
  for (int v = static_cast<int>(threadIdx.x) * 8; v < padded_vocab; v += kThreads * 8) {
    float x[8];
    load8(x, row + v);
    float top = mine.top;
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) {
      if (v + i >= vocab) x[i] = -INFINITY;
      top = fmaxf(top, x[i]);
    }
    float sum = mine.sum * gpu::exp2_fast((mine.top - top) * kLog2E);
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) sum += gpu::exp2_fast((x[i] - top) * kLog2E);
    mine = {top, sum};
  }
  GPU_UNROLL
  for (unsigned mask = 16; mask != 0; mask /= 2) {
    const Softmax other{gpu::shuffle_xor(mine.top, mask), gpu::shuffle_xor(mine.sum, mask)};
    mine = join(mine, other);
  }
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = mine;
  gpu::sync_threads();
  Softmax all = partial[0];
  for (int w = 1; w < kWarps; ++w) all = join(all, partial[w]);
  return all;
}

/// The loss of a row, in every thread; `all` is a barrier behind the reading of row[target].
template <class L>
__device__ inline float row_loss(const L* row, int target, int vocab, int padded_vocab,
                                 Softmax& all) {
  const float target_logit = gpu::to_float(row[target]);
  all = row_softmax(row, vocab, padded_vocab);
  return logf(all.sum) - (target_logit - all.top);
}

__global__ void __launch_bounds__(kThreads)
    loss_rows_forward(float* losses, const float* logits, const std::int32_t* targets, int vocab,
                      int padded_vocab) {
  const std::size_t n = blockIdx.x;
  float loss = 0;
  Softmax all;
  if (targets[n] >= 0) {  // the whole block
    loss = row_loss(logits + n * padded_vocab, targets[n], vocab, padded_vocab, all);
  }
  if (threadIdx.x == 0) losses[n] = loss;
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    loss_rows(float* losses, A* logits, const std::int32_t* targets, int vocab, int padded_vocab,
              LossGradient gradient) {
  const std::size_t n = blockIdx.x;
  A* row = logits + n * padded_vocab;
  const int target = targets[n];
  if (target < 0) {  // the whole block
    if (threadIdx.x == 0) losses[n] = 0;
    const float zeros[8] = {};
    for (int v = static_cast<int>(threadIdx.x) * 8; v < padded_vocab; v += kThreads * 8) {
      store8(row + v, zeros);
    }
    return;
  }
  Softmax all;
  const float loss = row_loss(row, target, vocab, padded_vocab, all);
  if (threadIdx.x == 0) losses[n] = loss;
  const float lse = all.top + logf(all.sum);
  const float factor = gradient.scale * (1 + 2 * gradient.z_loss * lse) / all.sum;
  const float target_share = gradient.scale * (1 - gradient.label_smoothing);
  const float share = gradient.scale * gradient.label_smoothing / static_cast<float>(vocab);
  for (int v = static_cast<int>(threadIdx.x) * 8; v < padded_vocab; v += kThreads * 8) {
    float x[8];
    load8(x, row + v);
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) {
      x[i] = gpu::exp2_fast((x[i] - all.top) * kLog2E) * factor - share;
      if (v + i == target) x[i] -= target_share;
      if (v + i >= vocab) x[i] = 0;
    }
    store8(row + v, x);
  }
}

constexpr int kSumThreads = 1024;

/// By one block, in its first thread.
__device__ inline double sum_of(const float* values, int count) {
  GPU_SHARED(partial, double[kSumThreads / 32]);
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kSumThreads) {
    sum += static_cast<double>(values[i]);
  }
  return block_sum<kSumThreads / 32>(sum, partial);
}

__global__ void __launch_bounds__(kSumThreads)
    sum_values(double* total, const float* values, int count) {
  const double sum = sum_of(values, count);
  if (threadIdx.x == 0) *total = sum;
}

__global__ void __launch_bounds__(kSumThreads)
    append_sum(LossList list, const float* values, int count) {
  const double sum = sum_of(values, count);
  if (threadIdx.x == 0) list.sums[(*list.count)++] = sum;
}

}  // namespace

template <class A>
void softmax_loss(float* losses, A* logits, const std::int32_t* targets, int rows, int vocab,
                  int padded_vocab, const LossGradient& gradient, Stream stream) {
  if (padded_vocab % kVector != 0 || vocab < 1 || vocab > padded_vocab) {
    gpu::fail("softmax_loss: the padded vocabulary must be a multiple of 8 and hold the " +
              std::to_string(vocab) + " tokens, got " + std::to_string(padded_vocab));
  }
  gpu::launch(loss_rows<A>, dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0, stream, losses,
              logits, targets, vocab, padded_vocab, gradient);
}
template void softmax_loss(float*, float*, const std::int32_t*, int, int, int, const LossGradient&,
                           Stream);
template void softmax_loss(float*, Bf16*, const std::int32_t*, int, int, int, const LossGradient&,
                           Stream);

void softmax_loss_forward(float* losses, const float* logits, const std::int32_t* targets, int rows,
                          int vocab, int padded_vocab, Stream stream) {
  gpu::launch(loss_rows_forward, dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0, stream,
              losses, logits, targets, vocab, padded_vocab);
}

void sum_losses(double* total, const float* values, int count, Stream stream) {
  gpu::launch(sum_values, dim3(1), dim3(kSumThreads), 0, stream, total, values, count);
}

void append_loss(const LossList& list, const float* values, int count, Stream stream) {
  gpu::launch(append_sum, dim3(1), dim3(kSumThreads), 0, stream, list, values, count);
}

}  // namespace kernels::cuda
