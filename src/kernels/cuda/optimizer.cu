// The sum of squares, and AdamW. Both take lists of tensors, of which a block finds its own, so
// that a step of a whole model is one launch each.

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
// Elements of a block: multiples of what its threads take at once, 16 bytes each.
constexpr std::size_t kNormElements = 16 * kThreads * 4;
constexpr std::size_t kAdamElements = 4 * kThreads * 4;

__device__ inline void load4(float (&to)[4], const float* from) {
  const float4 a = *reinterpret_cast<const float4*>(from);
  to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
}
__device__ inline void store4(float* to, const float (&from)[4]) {
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}
__device__ inline void store4(Bf16* to, const float (&from)[4]) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(gpu::pack_bf16(from[0], from[1]), gpu::pack_bf16(from[2], from[3]));
}
__device__ inline void store1(float& to, float from) { to = from; }
__device__ inline void store1(Bf16& to, float from) { to = gpu::to_bf16(from); }

/// The task that `block` works for: the last that begins there or before.
template <class Task>
__device__ inline const Task& task_of(const Task* tasks, int count, unsigned block) {
  int low = 0;
  int high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (tasks[middle].first_block <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return tasks[low];
}

/// *sum = the squares of block number `block` of a tensor's.
__device__ inline void sum_block(double* sum, const float* values, std::size_t count,
                                 unsigned block) {
  GPU_SHARED(partial, double[kWarps]);
  const std::size_t begin = block * kNormElements;
  const std::size_t end = begin + kNormElements < count ? begin + kNormElements : count;
  double own = 0;
  std::size_t i = begin + threadIdx.x * 4;
  for (; i + 4 <= end; i += kThreads * 4) {
    const float4 x = *reinterpret_cast<const float4*>(values + i);
    const double a = x.x, b = x.y, c = x.z, d = x.w;
    own += a * a + b * b + (c * c + d * d);
  }
  for (; i < end; ++i) {  // of one thread: what is left of the tensor
    const double x = values[i];
    own += x * x;
  }
  own = block_sum<kWarps>(own, partial);
  if (threadIdx.x == 0) *sum = own;
}

__global__ void __launch_bounds__(kThreads)
    sum_squares(double* block_sums, const float* values, std::size_t count) {
  sum_block(block_sums + blockIdx.x, values, count, blockIdx.x);
}

__global__ void __launch_bounds__(kThreads)
    sum_squares_of_tasks(double* block_sums, const NormTask* tasks, int count) {
  const NormTask& task = task_of(tasks, count, blockIdx.x);
  sum_block(block_sums + blockIdx.x, task.values, task.count, blockIdx.x - task.first_block);
}

__global__ void __launch_bounds__(kThreads)
    finish_norm(double* result, const double* block_sums, unsigned blocks) {
  GPU_SHARED(partial, double[kWarps]);
  double sum = 0;
  for (unsigned i = threadIdx.x; i < blocks; i += kThreads) sum += block_sums[i];
  sum = block_sum<kWarps>(sum, partial);
  if (threadIdx.x == 0) *result = sum;
}

void launch_finish(double* sum, const double* block_sums, unsigned blocks, Stream stream) {
  gpu::launch(finish_norm, dim3(1), dim3(kThreads), 0, stream, sum, block_sums, blocks);
}

/// One element's step. keep: 1 - rate * decay.
__device__ inline void step_one(float& p, float& m, float& v, float gradient, float keep,
                                const AdamNumbers& n) {
  const float g = gradient * n.gradient_scale;
  m = n.beta1 * m + (1 - n.beta1) * g;
  v = n.beta2 * v + (1 - n.beta2) * g * g;
  p = keep * p - n.step_size * m / (sqrtf(v) * n.inverse_root_bias2 + n.epsilon);
}

/// The step of `own` elements from `first` on, four or what is left of the tensor.
template <class A>
__device__ inline void step_few(const AdamTask<A>& t, std::size_t first, int own, float keep,
                                const AdamNumbers& n) {
  float p[4], m[4], v[4], g[4];
  if (own == 4) {
    load4(p, t.parameter + first);
    load4(m, t.m + first);
    load4(v, t.v + first);
    load4(g, t.gradient + first);
  } else {
    for (int i = 0; i < own; ++i) {
      p[i] = t.parameter[first + i];
      m[i] = t.m[first + i];
      v[i] = t.v[first + i];
      g[i] = t.gradient[first + i];
    }
  }
  GPU_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (i < own) step_one(p[i], m[i], v[i], g[i], keep, n);
  }
  if (own == 4) {
    store4(t.parameter + first, p);
    store4(t.m + first, m);
    store4(t.v + first, v);
    if (t.copies != nullptr) store4(t.copies + first, p);
  } else {
    for (int i = 0; i < own; ++i) {
      t.parameter[first + i] = p[i];
      t.m[first + i] = m[i];
      t.v[first + i] = v[i];
      if (t.copies != nullptr) store1(t.copies[first + i], p[i]);
    }
  }
  if (t.average == nullptr) return;
  for (int i = 0; i < own; ++i) {
    float& average = t.average[first + i];
    average += n.average_rate * (p[i] - average);
  }
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    adamw_elements(const AdamTask<A>* tasks, int count, AdamNumbers n) {
  const AdamTask<A> t = task_of(tasks, count, blockIdx.x);
  // In double: a rate of 1e-4 times a decay of 0.1 is lost in f32 beside 1.
  const auto keep = static_cast<float>(1 - n.rate * static_cast<double>(t.decay));
  const std::size_t begin = (blockIdx.x - t.first_block) * kAdamElements;
  const std::size_t end = begin + kAdamElements < t.count ? begin + kAdamElements : t.count;
  for (std::size_t i = begin + threadIdx.x * 4; i < end; i += kThreads * 4) {
    step_few(t, i, end - i < 4 ? static_cast<int>(end - i) : 4, keep, n);
  }
}

unsigned blocks_of(std::size_t count, std::size_t elements) {
  return static_cast<unsigned>((count + elements - 1) / elements);
}

}  // namespace

unsigned norm_blocks(std::size_t count) { return blocks_of(count, kNormElements); }
unsigned adam_blocks(std::size_t count) { return blocks_of(count, kAdamElements); }

void squared_norm(double* sum, const float* values, std::size_t count, double* scratch,
                  Stream stream) {
  gpu::launch(sum_squares, dim3(norm_blocks(count)), dim3(kThreads), 0, stream, scratch, values,
              count);
  launch_finish(sum, scratch, norm_blocks(count), stream);
}

void squared_norm(double* sum, const NormTask* tasks, int count, unsigned blocks, double* scratch,
                  Stream stream) {
  gpu::launch(sum_squares_of_tasks, dim3(blocks), dim3(kThreads), 0, stream, scratch, tasks, count);
  launch_finish(sum, scratch, blocks, stream);
}

template <class A>
void adamw_step(const AdamTask<A>* tasks, int count, unsigned blocks, const AdamNumbers& numbers,
                Stream stream) {
  gpu::launch(adamw_elements<A>, dim3(blocks), dim3(kThreads), 0, stream, tasks, count, numbers);
}
template void adamw_step(const AdamTask<float>*, int, unsigned, const AdamNumbers&, Stream);
template void adamw_step(const AdamTask<Bf16>*, int, unsigned, const AdamNumbers&, Stream);

}  // namespace kernels::cuda
