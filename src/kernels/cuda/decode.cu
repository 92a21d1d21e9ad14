// Generation: products of a few rows at memory speed, and attention of one query a sequence.

#include <string>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr float kLog2E = 1.4426950409F;

/// A warp has an output: it reads the weight's row once for all rows of inp, which stay in L1.
template <int kRows>
__global__ void __launch_bounds__(kThreads)
    decode_outputs(float* out, const Bf16* inp, const Bf16* weight, const float* bias, int inputs,
                   int outputs) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int m = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x / 32);
  if (m >= outputs) return;  // a whole warp
  const Bf16* row = weight + static_cast<std::size_t>(m) * inputs;
  float sums[kRows] = {};
  GPU_UNROLL
  for (int k = lane * 8; k < inputs; k += 256) {
    float w[8];
    load8(w, row + k);
    GPU_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float x[8];
      load8(x, inp + static_cast<std::size_t>(r) * inputs + k);
      GPU_UNROLL
      for (int i = 0; i < 8; ++i) sums[r] += w[i] * x[i];
    }
  }
  GPU_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const float sum = warp_sum(sums[r]);
    if (lane != 0) continue;
    out[static_cast<std::size_t>(r) * outputs + m] = sum + (bias != nullptr ? bias[m] : 0.0F);
  }
}

/// A block has a head of a sequence; kHead / 8 lanes share a key. Each group of lanes keeps its own
/// maximum, sum and output over the keys it sees; they are joined in a fixed order at the end.
template <int kHead>
__global__ void __launch_bounds__(kThreads)
    decode_heads(Bf16* out, const Bf16* q, const Bf16* keys, const Bf16* values,
                 const std::int32_t* lengths, int heads, int positions) {
  constexpr int kLanes = kHead / 8;           // of a group
  constexpr int kGroups = kThreads / kLanes;  // keys at once
  GPU_SHARED(tops, float[kGroups]);
  GPU_SHARED(sums, float[kGroups]);
  GPU_SHARED(outs, float[kGroups][kHead]);
  const int b = static_cast<int>(blockIdx.x) / heads;
  const int h = static_cast<int>(blockIdx.x) % heads;
  const int group = static_cast<int>(threadIdx.x) / kLanes;
  const int d = static_cast<int>(threadIdx.x) % kLanes * 8;
  const std::size_t row = static_cast<std::size_t>(b) * heads * kHead + h * kHead;
  const std::size_t cache = static_cast<std::size_t>(blockIdx.x) * positions * kHead;
  const int length = lengths[b];
  float query[8];
  load8(query, q + row + d);
  const float scale = kLog2E / sqrtf(static_cast<float>(kHead));
  float top = -INFINITY;
  float sum = 0;
  float mix[8] = {};
  for (int first = 0; first < length; first += kGroups) {
    const int j = first + group;
    const std::size_t at = cache + static_cast<std::size_t>(j < length ? j : 0) * kHead + d;
    float k[8], v[8];
    load8(k, keys + at);
    load8(v, values + at);
    float score = 0;
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) score += query[i] * k[i];
    GPU_UNROLL
    for (unsigned mask = kLanes / 2; mask != 0; mask /= 2) score += gpu::shuffle_xor(score, mask);
    if (j >= length) continue;
    score *= scale;
    const float new_top = fmaxf(top, score);
    const float shrink = gpu::exp2_fast(top - new_top);
    const float p = gpu::exp2_fast(score - new_top);
    top = new_top;
    sum = sum * shrink + p;
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) mix[i] = mix[i] * shrink + p * v[i];
  }
  if (d == 0) {
    tops[group] = top;
    sums[group] = sum;
  }
  GPU_UNROLL
  for (int i = 0; i < 8; ++i) outs[group][d + i] = mix[i];
  gpu::sync_threads();
  if (threadIdx.x >= kHead) return;
  float all_top = tops[0];
  for (int g = 1; g < kGroups; ++g) all_top = fmaxf(all_top, tops[g]);
  float all_sum = 0;
  float all_mix = 0;
  for (int g = 0; g < kGroups; ++g) {
    const float share = gpu::exp2_fast(tops[g] - all_top);  // 0 for a group without keys
    all_sum += sums[g] * share;
    all_mix += outs[g][threadIdx.x] * share;
  }
  out[row + threadIdx.x] = gpu::to_bf16(all_mix / all_sum);
}

}  // namespace

void decode_linear(float* out, const Bf16* inp, const Bf16* weight, const float* bias, int rows,
                   int inputs, int outputs, Stream stream) {
  if (inputs % kVector != 0) {
    gpu::fail("decode_linear: inputs must be a multiple of 8, got " + std::to_string(inputs));
  }
  const dim3 grid(static_cast<unsigned>((outputs + kWarps - 1) / kWarps));
  const auto run = [&](auto* kernel) {
    gpu::launch(kernel, grid, dim3(kThreads), 0, stream, out, inp, weight, bias, inputs, outputs);
  };
  switch (rows) {
    case 1:
      return run(decode_outputs<1>);
    case 2:
      return run(decode_outputs<2>);
    case 3:
      return run(decode_outputs<3>);
    case kDecodeRows:
      return run(decode_outputs<kDecodeRows>);
    default:
      gpu::fail("decode_linear: 1 to 4 rows at a time, got " + std::to_string(rows));
  }
}

void decode_attention(Bf16* out, const Bf16* q, const Bf16* keys, const Bf16* values,
                      const std::int32_t* lengths, int batch, int heads, int positions,
                      int head_size, Stream stream) {
  const dim3 grid(static_cast<unsigned>(batch * heads));
  if (head_size == 64) {
    gpu::launch(decode_heads<64>, grid, dim3(kThreads), 0, stream, out, q, keys, values, lengths,
                heads, positions);
  } else if (head_size == 128) {
    gpu::launch(decode_heads<128>, grid, dim3(kThreads), 0, stream, out, q, keys, values, lengths,
                heads, positions);
  } else {
    gpu::fail("decode_attention: head size must be 64 or 128, got " + std::to_string(head_size));
  }
}

}  // namespace kernels::cuda
