// Gradient norm, clipping and AdamW.

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr double kClipEpsilon = 1e-6;  // torch.nn.utils.clip_grad_norm_'s

__global__ void __launch_bounds__(kThreads)
    sum_squares(double* partial_sums, const float* values, std::size_t count) {
  GPU_SHARED(partial, double[kWarps]);
  const std::size_t step = std::size_t{kNormBlocks} * kThreads;
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
    finish_norm(Clip* clip, const double* partial_sums, float limit) {
  GPU_SHARED(partial, double[kWarps]);
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kNormBlocks; i += kThreads) {
    sum += partial_sums[i];
  }
  sum = block_sum<kWarps>(sum, partial);
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum);
  clip->squared_norm = sum;
  clip->norm = static_cast<float>(norm);
  const double scale = static_cast<double>(limit) / (norm + kClipEpsilon);
  clip->scale = limit > 0 && scale < 1 ? static_cast<float>(scale) : 1.0F;
}

/// One parameter's step; returns the parameter.
__device__ inline float step_one(float p, float& m, float& v, float g, float decay,
                                 const AdamHyper& h) {
  m = h.beta1 * m + (1 - h.beta1) * g;
  v = h.beta2 * v + (1 - h.beta2) * g * g;
  p -= h.rate * decay * p;
  return p - h.rate * (m * h.correction1) / (sqrtf(v * h.correction2) + h.epsilon);
}

__global__ void __launch_bounds__(kThreads)
    adamw_spans(float* parameters, Bf16* copies, float* m, float* v, const float* gradients,
                const AdamSpan* spans, const AdamHyper* hyper, const Clip* clip) {
  const AdamSpan span = spans[blockIdx.x];
  const AdamHyper h = *hyper;
  const float scale = clip->scale;
  parameters += span.first, m += span.first, v += span.first, gradients += span.first;
  if (copies != nullptr) copies += span.first;
  for (int i = static_cast<int>(threadIdx.x) * 4; i < span.count; i += kThreads * 4) {
    if (i + 4 <= span.count) {
      float4 p = *reinterpret_cast<float4*>(parameters + i);
      float4 m4 = *reinterpret_cast<float4*>(m + i);
      float4 v4 = *reinterpret_cast<float4*>(v + i);
      const float4 g = *reinterpret_cast<const float4*>(gradients + i);
      p.x = step_one(p.x, m4.x, v4.x, g.x * scale, span.decay, h);
      p.y = step_one(p.y, m4.y, v4.y, g.y * scale, span.decay, h);
      p.z = step_one(p.z, m4.z, v4.z, g.z * scale, span.decay, h);
      p.w = step_one(p.w, m4.w, v4.w, g.w * scale, span.decay, h);
      *reinterpret_cast<float4*>(parameters + i) = p;
      *reinterpret_cast<float4*>(m + i) = m4;
      *reinterpret_cast<float4*>(v + i) = v4;
      if (copies != nullptr) {
        *reinterpret_cast<uint2*>(copies + i) =
            make_uint2(gpu::pack_bf16(p.x, p.y), gpu::pack_bf16(p.z, p.w));
      }
      continue;
    }
    for (int j = i; j < span.count; ++j) {
      parameters[j] = step_one(parameters[j], m[j], v[j], gradients[j] * scale, span.decay, h);
      if (copies != nullptr) copies[j] = gpu::to_bf16(parameters[j]);
    }
  }
}

}  // namespace

void clip_scale(Clip* clip, const float* gradients, std::size_t count, float limit, double* scratch,
                Stream stream) {
  gpu::launch(sum_squares, dim3(kNormBlocks), dim3(kThreads), 0, stream, scratch, gradients, count);
  gpu::launch(finish_norm, dim3(1), dim3(kThreads), 0, stream, clip, scratch, limit);
}

void adamw_step(float* parameters, Bf16* copies, float* m, float* v, const float* gradients,
                const AdamSpan* spans, int span_count, const AdamHyper* hyper, const Clip* clip,
                Stream stream) {
  gpu::launch(adamw_spans, dim3(static_cast<unsigned>(span_count)), dim3(kThreads), 0, stream,
              parameters, copies, m, v, gradients, spans, hyper, clip);
}

}  // namespace kernels::cuda
