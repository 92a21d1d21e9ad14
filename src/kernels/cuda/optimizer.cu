// The sum of squares, and AdamW.

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

__device__ inline void load4(float (&to)[4], const float* from) {
  const float4 a = *reinterpret_cast<const float4*>(from);
  to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
}
__device__ inline void store4(float* to, const float (&from)[4]) {
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}

__global__ void __launch_bounds__(kThreads)
    sum_squares(double* partial_sums, const float* values, std::size_t count) {
  GPU_SHARED(partial, double[kWarps]);
  const std::size_t step = std::size_t{gridDim.x} * kThreads;
  const std::size_t first = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  double sum = 0;
  for (std::size_t i = first; i < count / 4; i += step) {
    const float4 x = reinterpret_cast<const float4*>(values)[i];
    const double a = x.x, b = x.y, c = x.z, d = x.w;
    sum += a * a + b * b + (c * c + d * d);
  }
  if (first < count % 4) {
    const double x = values[count / 4 * 4 + first];
    sum += x * x;
  }
  sum = block_sum<kWarps>(sum, partial);
  if (threadIdx.x == 0) partial_sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    finish_norm(double* result, const double* partial_sums, int blocks) {
  GPU_SHARED(partial, double[kWarps]);
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < blocks; i += kThreads) {
    sum += partial_sums[i];
  }
  sum = block_sum<kWarps>(sum, partial);
  if (threadIdx.x == 0) *result = sum;
}

/// One element's step.
__device__ inline void step_one(float& p, float& m, float& v, float gradient,
                                const AdamNumbers& n) {
  const float g = gradient * n.gradient_scale;
  m = n.beta1 * m + (1 - n.beta1) * g;
  v = n.beta2 * v + (1 - n.beta2) * g * g;
  p = n.keep * p - n.step_size * m / (sqrtf(v) * n.inverse_root_bias2 + n.epsilon);
}

/// Four elements a thread; the last thread has what is left.
__global__ void __launch_bounds__(kThreads)
    adamw_elements(AdamTensors t, AdamNumbers n, std::size_t count) {
  const std::size_t first = (static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x) * 4;
  if (first >= count) return;
  float p[4], m[4], v[4], g[4];
  const int own = count - first < 4 ? static_cast<int>(count - first) : 4;
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
    if (i < own) step_one(p[i], m[i], v[i], g[i], n);
  }
  if (own == 4) {
    store4(t.parameter + first, p);
    store4(t.m + first, m);
    store4(t.v + first, v);
    if (t.copies != nullptr) {
      *reinterpret_cast<uint2*>(t.copies + first) =
          make_uint2(gpu::pack_bf16(p[0], p[1]), gpu::pack_bf16(p[2], p[3]));
    }
  } else {
    for (int i = 0; i < own; ++i) {
      t.parameter[first + i] = p[i];
      t.m[first + i] = m[i];
      t.v[first + i] = v[i];
      if (t.copies != nullptr) t.copies[first + i] = gpu::to_bf16(p[i]);
    }
  }
  if (t.average == nullptr) return;
  for (int i = 0; i < own; ++i) {
    float& average = t.average[first + i];
    average += n.average_rate * (p[i] - average);
  }
}

}  // namespace

void squared_norm(double* sum, const float* values, std::size_t count, double* scratch,
                  Stream stream) {
  const std::size_t full = (count + kThreads * 4 - 1) / (kThreads * 4);
  const auto blocks = static_cast<int>(full < kNormBlocks ? full : kNormBlocks);  // the shape's
  gpu::launch(sum_squares, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, scratch,
              values, count);
  gpu::launch(finish_norm, dim3(1), dim3(kThreads), 0, stream, sum, scratch, blocks);
}

void adamw_step(const AdamTensors& tensors, const AdamNumbers& numbers, std::size_t count,
                Stream stream) {
  const std::size_t threads = (count + 3) / 4;
  gpu::launch(adamw_elements, dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)),
              dim3(kThreads), 0, stream, tensors, numbers, count);
}

}  // namespace kernels::cuda
