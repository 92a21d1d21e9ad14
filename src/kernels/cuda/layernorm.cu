// Residual + LayerNorm, forward and backward. A warp has a row, in registers: kChunks vectors of 8
// channels a lane. Memory-bound: each tensor is read or written once.

#include <algorithm>
#include <string>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/mask.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kWarps = 8;  // rows of a forward's block
constexpr int kThreads = kWarps * 32;
// Backward holds 160 registers at GPT-2's 768 channels: small blocks, so that three fit.
constexpr int kBackwardWarps = 4;
constexpr int kBackwardThreads = kBackwardWarps * 32;
constexpr float kEpsilon = 1e-5F;  // kernels::kLayerNormEpsilon, GPT-2's own
/// Blocks that share a backward's rows, whatever the device: the order of its sums is the shape's.
constexpr int kBackwardBlocks = 396;

__device__ inline void mask_vector(float (&x)[8], const Mask& mask, std::size_t row, int c) {
  const std::uint64_t key = row_key(mask, row);
  GPU_UNROLL
  for (int i = 0; i < 8; ++i) x[i] = masked(x[i], mask, key, c + i);
}

template <class A, int kChunks>
__global__ void __launch_bounds__(kThreads)
    forward_rows(float* res_out, A* normed, float* mean_out, float* rstd_out, const float* res_in,
                 const A* branch, const float* gain, const float* bias, int rows, int channels,
                 Mask mask) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int n = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x / 32);
  if (n >= rows) return;  // a whole warp
  const std::size_t first = static_cast<std::size_t>(n) * channels;
  float x[kChunks][8];
  float sum = 0;
  GPU_UNROLL
  for (int k = 0; k < kChunks; ++k) {
    const int c = (k * 32 + lane) * 8;
    if (c >= channels) continue;
    load8(x[k], res_in + first + c);
    if (branch == nullptr) continue;
    float add[8];
    load8(add, branch + first + c);
    if (mask.threshold != 0) mask_vector(add, mask, static_cast<std::size_t>(n), c);
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) x[k][i] += add[i];
    store8(res_out + first + c, x[k]);
  }
  GPU_UNROLL
  for (int k = 0; k < kChunks; ++k) {
    if ((k * 32 + lane) * 8 >= channels) continue;
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) sum += x[k][i];
  }
  const float mean = warp_sum(sum) / static_cast<float>(channels);
  float squares = 0;
  GPU_UNROLL
  for (int k = 0; k < kChunks; ++k) {
    if ((k * 32 + lane) * 8 >= channels) continue;
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) squares += (x[k][i] - mean) * (x[k][i] - mean);
  }
  const float variance = warp_sum(squares) / static_cast<float>(channels);
  const float rstd = gpu::reciprocal_sqrt(variance + kEpsilon);
  GPU_UNROLL
  for (int k = 0; k < kChunks; ++k) {
    const int c = (k * 32 + lane) * 8;
    if (c >= channels) continue;
    float scale[8], shift[8];
    load8(scale, gain + c);
    load8(shift, bias + c);
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) x[k][i] = (x[k][i] - mean) * rstd * scale[i] + shift[i];
    store8(normed + first + c, x[k]);
  }
  if (lane == 0) {
    mean_out[n] = mean;
    rstd_out[n] = rstd;
  }
}

/// What the backward's warps sum over their rows: d gain, d bias.
constexpr int kSums = 2;

/// Adds the sums of the block's warps in their order and writes them to this block's part of
/// scratch (blocks, kSums, channels).
template <int kChunks>
__device__ inline void write_block_sums(float* scratch, float (&sums)[kSums][kChunks][8],
                                        int channels) {
  float* all = gpu::dynamic_shared<float>();  // (kBackwardWarps, channels)
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  GPU_UNROLL
  for (int s = 0; s < kSums; ++s) {
    gpu::sync_threads();
    GPU_UNROLL
    for (int k = 0; k < kChunks; ++k) {
      const int c = (k * 32 + lane) * 8;
      if (c < channels) store8(all + warp * channels + c, sums[s][k]);
    }
    gpu::sync_threads();
    for (int c = static_cast<int>(threadIdx.x); c < channels; c += kBackwardThreads) {
      float sum = 0;
      for (int w = 0; w < kBackwardWarps; ++w) sum += all[w * channels + c];
      scratch[(static_cast<std::size_t>(blockIdx.x) * kSums + s) * channels + c] = sum;
    }
  }
}

template <class A, int kChunks>
__global__ void __launch_bounds__(kBackwardThreads)
    backward_rows(float* dres, A* dres_copy, float* scratch, const A* dnormed, const float* res,
                  const float* mean_in, const float* rstd_in, const float* gain, int rows,
                  int channels, Mask mask) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int step = static_cast<int>(gridDim.x) * kBackwardWarps;
  float sums[kSums][kChunks][8] = {};
  for (int n = static_cast<int>(blockIdx.x) * kBackwardWarps + static_cast<int>(threadIdx.x / 32);
       n < rows; n += step) {
    const std::size_t start = static_cast<std::size_t>(n) * channels;
    const float mean = mean_in[n];
    const float rstd = rstd_in[n];
    float unit[kChunks][8], g[kChunks][8];
    float sum_g = 0;
    float sum_gu = 0;
    GPU_UNROLL
    for (int k = 0; k < kChunks; ++k) {
      const int c = (k * 32 + lane) * 8;
      if (c >= channels) continue;
      float scale[8];
      load8(g[k], dnormed + start + c);
      load8(unit[k], res + start + c);
      load8(scale, gain + c);
      GPU_UNROLL
      for (int i = 0; i < 8; ++i) {
        unit[k][i] = (unit[k][i] - mean) * rstd;
        sums[0][k][i] += g[k][i] * unit[k][i];
        sums[1][k][i] += g[k][i];
        g[k][i] *= scale[i];
        sum_g += g[k][i];
        sum_gu += g[k][i] * unit[k][i];
      }
    }
    const float mean_g = warp_sum(sum_g) / static_cast<float>(channels);
    const float mean_gu = warp_sum(sum_gu) / static_cast<float>(channels);
    GPU_UNROLL
    for (int k = 0; k < kChunks; ++k) {
      const int c = (k * 32 + lane) * 8;
      if (c >= channels) continue;
      float d[8];
      load8(d, dres + start + c);
      GPU_UNROLL
      for (int i = 0; i < 8; ++i) d[i] += rstd * (g[k][i] - mean_g - unit[k][i] * mean_gu);
      store8(dres + start + c, d);
      if (dres_copy == nullptr) continue;
      if (mask.threshold != 0) mask_vector(d, mask, static_cast<std::size_t>(n), c);
      store8(dres_copy + start + c, d);
    }
  }
  write_block_sums(scratch, sums, channels);
}

/// to[c] += the sum over blocks of scratch (blocks, kSums, channels), for each of the two.
__global__ void __launch_bounds__(kBackwardThreads)
    add_block_sums(float* dgain, float* dbias, const float* scratch, int blocks, int channels) {
  GPU_SHARED(partial, float[kBackwardWarps][32]);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int c = static_cast<int>(blockIdx.x) * 32 + lane;
  const int s = static_cast<int>(blockIdx.y);
  float sum = 0;
  for (int b = warp; b < blocks && c < channels; b += kBackwardWarps) {
    sum += scratch[(static_cast<std::size_t>(b) * kSums + s) * channels + c];
  }
  partial[warp][lane] = sum;
  gpu::sync_threads();
  float* to = s == 0 ? dgain : dbias;
  if (warp != 0 || c >= channels || to == nullptr) return;
  sum = 0;
  for (int w = 0; w < kBackwardWarps; ++w) sum += partial[w][lane];
  to[c] += sum;
}

int backward_blocks(int rows) {
  return std::min((rows + kBackwardWarps - 1) / kBackwardWarps, kBackwardBlocks);
}

void require_channels(const char* what, int channels) {
  if (channels > 0 && channels % kVector == 0 && channels <= kMostChannels) return;
  gpu::fail(std::string(what) + ": channels must be a multiple of 8 up to " +
            std::to_string(kMostChannels) + ", got " + std::to_string(channels));
}

/// Calls run.template operator()<kChunks>() with the fewest chunks that hold a row.
template <class Run>
void with_chunks(int channels, Run run) {
  switch ((channels + 255) / 256) {
    case 1:
      return run.template operator()<1>();
    case 2:
      return run.template operator()<2>();
    case 3:
      return run.template operator()<3>();
    case 4:
      return run.template operator()<4>();
    case 5:
      return run.template operator()<5>();
    case 6:
      return run.template operator()<6>();
    default:
      return run.template operator()<7>();
  }
}

}  // namespace

template <class A>
void add_layernorm_forward(float* res_out, A* normed, float* mean, float* rstd, const float* res_in,
                           const A* branch, const float* gain, const float* bias, int rows,
                           int channels, const Mask& mask, Stream stream) {
  require_channels("add_layernorm_forward", channels);
  const dim3 grid(static_cast<unsigned>((rows + kWarps - 1) / kWarps));
  with_chunks(channels, [&]<int kChunks>() {
    gpu::launch(forward_rows<A, kChunks>, grid, dim3(kThreads), 0, stream, res_out, normed, mean,
                rstd, res_in, branch, gain, bias, rows, channels, mask);
  });
}

std::size_t layernorm_scratch_floats(int rows, int channels) {
  return static_cast<std::size_t>(backward_blocks(rows)) * kSums *
         static_cast<std::size_t>(channels);
}

template <class A>
void add_layernorm_backward(float* dres, A* dres_copy, float* dgain, float* dbias, const A* dnormed,
                            const float* res, const float* mean, const float* rstd,
                            const float* gain, const Mask& mask, float* scratch, int rows,
                            int channels, Stream stream) {
  require_channels("add_layernorm_backward", channels);
  const int blocks = backward_blocks(rows);
  const std::size_t shared = sizeof(float) * kBackwardWarps * static_cast<std::size_t>(channels);
  with_chunks(channels, [&]<int kChunks>() {
    gpu::launch(backward_rows<A, kChunks>, dim3(static_cast<unsigned>(blocks)),
                dim3(kBackwardThreads), shared, stream, dres, dres_copy, scratch, dnormed, res,
                mean, rstd, gain, rows, channels, mask);
  });
  if (dgain == nullptr && dbias == nullptr) return;
  gpu::launch(add_block_sums, dim3(static_cast<unsigned>((channels + 31) / 32), kSums),
              dim3(kBackwardThreads), 0, stream, dgain, dbias, scratch, blocks, channels);
}

template void add_layernorm_forward(float*, float*, float*, float*, const float*, const float*,
                                    const float*, const float*, int, int, const Mask&, Stream);
template void add_layernorm_forward(float*, Bf16*, float*, float*, const float*, const Bf16*,
                                    const float*, const float*, int, int, const Mask&, Stream);
template void add_layernorm_backward(float*, float*, float*, float*, const float*, const float*,
                                     const float*, const float*, const float*, const Mask&, float*,
                                     int, int, Stream);
template void add_layernorm_backward(float*, Bf16*, float*, float*, const Bf16*, const float*,
                                     const float*, const float*, const float*, const Mask&, float*,
                                     int, int, Stream);

}  // namespace kernels::cuda
