// Generation: products of a few rows at memory speed, and attention of one query a sequence.

#include <string>

#include "kernels/cuda/gelu.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr float kLog2E = 1.4426950409F;

/// A warp has an output: it reads the weight's row once for all rows of inp, which stay in L1.
template <class Out, class A, int kRows>
__global__ void __launch_bounds__(kThreads)
    decode_outputs(Out* out, const A* inp, const A* weight, const float* bias, bool gelu,
                   int inputs, int outputs) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int m = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x / 32);
  if (m >= outputs) return;  // a whole warp
  const A* row = weight + static_cast<std::size_t>(m) * inputs;
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
    const float z = sum + (bias != nullptr ? bias[m] : 0.0F);
    store(out[static_cast<std::size_t>(r) * outputs + m], gelu ? Gelu()(z) : z);
  }
}

/// A row's keys and values go to its place in its sequence's caches, eight channels a thread.
template <class A>
__global__ void __launch_bounds__(kThreads)
    append_rows(const CachedRow<A>* cached, const std::int32_t* positions, const A* qkv, int heads,
                int head_size) {
  const CachedRow<A> row = cached[blockIdx.x];
  const std::size_t n = row.row;
  const int channels = heads * head_size;
  const A* from = qkv + n * 3 * channels;
  for (int c = static_cast<int>(threadIdx.x) * 8; c < channels; c += kThreads * 8) {
    const std::size_t head = static_cast<std::size_t>(c / head_size) * row.positions;
    const std::size_t to = (head + positions[n]) * head_size + c % head_size;
    copy8(row.keys + to, from + channels + c);
    copy8(row.values + to, from + 2 * channels + c);
  }
}

/// Attention's weighted sum over some keys, unnormalised: of eight channels.
struct Mix {
  float top = -INFINITY;
  float sum = 0;
  float values[8] = {};

  /// What was added before counts this much under the new maximum, which is not below the old one.
  __device__ void raise(float new_top) {
    if (new_top == -INFINITY) return;  // nothing was added, and nothing comes
    const float shrink = gpu::exp2_fast(top - new_top);
    top = new_top;
    sum *= shrink;
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) values[i] *= shrink;
  }
};
/// Not fmaxf, which would drop a NaN in a. (One in b has made its Mix NaN before.)
__device__ inline float larger(float a, float b) { return a <= b ? b : a; }

constexpr int kCachedWarps = 16;
constexpr int kCachedThreads = kCachedWarps * 32;
/// Keys of a group of lanes that are fetched together: a block has little else to hide their
/// latency behind.
template <class A>
inline constexpr int kKeysOf = 8 / sizeof(A);

/// A block has a head of a row; kLanes lanes share a key, eight channels each (those past the head
/// size have none). Each group of lanes keeps its own Mix of the keys it sees; they are joined in a
/// fixed order at the end. kAppends: the row's own key and value come from qkv, and go to the
/// caches; else they are there.
template <int kLanes, bool kAppends, class A>
__global__ void __launch_bounds__(kCachedThreads)
    cached_heads(A* out, const A* qkv, const CachedRow<A>* cached, const std::int32_t* positions,
                 int heads, int head_size) {
  constexpr int kGroups = kCachedThreads / kLanes;  // keys at once
  constexpr int kKeys = kKeysOf<A>;
  GPU_SHARED(tops, float[kCachedWarps]);
  GPU_SHARED(sums, float[kCachedWarps]);
  GPU_SHARED(outs, float[kCachedWarps][kLanes * 8]);
  const int h = static_cast<int>(blockIdx.y);
  const CachedRow<A> row = cached[blockIdx.x];
  const std::size_t n = row.row;
  const int last = positions[n];
  const int group = static_cast<int>(threadIdx.x) / kLanes;
  const int d = static_cast<int>(threadIdx.x) % kLanes * 8;
  const bool has_channels = d < head_size;
  const int channels = heads * head_size;
  const std::size_t cache = static_cast<std::size_t>(h) * row.positions * head_size + d;
  const A* own = qkv + n * 3 * channels + h * head_size + d;
  float query[8] = {};
  if (has_channels) load8(query, own);
  const float scale = kLog2E / sqrtf(static_cast<float>(head_size));
  Mix mix;
  for (int first = 0; first <= last; first += kGroups * kKeys) {
    float keys[kKeys][8] = {}, values[kKeys][8] = {};
    GPU_UNROLL
    for (int r = 0; r < kKeys; ++r) {
      const int j = first + r * kGroups + group;
      if (j > last || !has_channels) continue;
      const std::size_t at = cache + static_cast<std::size_t>(j) * head_size;
      const bool is_own = kAppends && j == last;
      if (is_own) {
        copy8(row.keys + at, own + channels);
        copy8(row.values + at, own + 2 * channels);
      }
      load8(keys[r], is_own ? own + channels : row.keys + at);
      load8(values[r], is_own ? own + 2 * channels : row.values + at);
    }
    float scores[kKeys];
    float top = mix.top;
    GPU_UNROLL
    for (int r = 0; r < kKeys; ++r) {
      float score = 0;
      GPU_UNROLL
      for (int i = 0; i < 8; ++i) score += query[i] * keys[r][i];
      GPU_UNROLL
      for (unsigned mask = kLanes / 2; mask != 0; mask /= 2) score += gpu::shuffle_xor(score, mask);
      scores[r] = first + r * kGroups + group <= last ? score * scale : -INFINITY;
      top = larger(scores[r], top);
    }
    if (top == -INFINITY) continue;  // no key of this group
    mix.raise(top);
    GPU_UNROLL
    for (int r = 0; r < kKeys; ++r) {
      const float p = gpu::exp2_fast(scores[r] - top);
      mix.sum += p;
      GPU_UNROLL
      for (int i = 0; i < 8; ++i) mix.values[i] += p * values[r][i];
    }
  }
  // The groups of a warp, then the warps.
  GPU_UNROLL
  for (unsigned mask = 16; mask >= static_cast<unsigned>(kLanes); mask /= 2) {
    const float theirs = gpu::shuffle_xor(mix.top, mask);
    mix.raise(larger(theirs, mix.top));
    mix.sum += gpu::shuffle_xor(mix.sum, mask);
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) mix.values[i] += gpu::shuffle_xor(mix.values[i], mask);
  }
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) {
    tops[warp] = mix.top;
    sums[warp] = mix.sum;
  }
  if (lane < kLanes) {
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) outs[warp][d + i] = mix.values[i];
  }
  gpu::sync_threads();
  const int channel = static_cast<int>(threadIdx.x);
  if (channel >= head_size) return;
  float all_top = tops[0];
  GPU_UNROLL
  for (int w = 1; w < kCachedWarps; ++w) all_top = larger(tops[w], all_top);
  float all_sum = 0;
  float all_mix = 0;
  GPU_UNROLL
  for (int w = 0; w < kCachedWarps; ++w) {
    if (tops[w] == -INFINITY) continue;  // a warp without keys
    const float share = gpu::exp2_fast(tops[w] - all_top);
    all_sum += sums[w] * share;
    all_mix += outs[w][channel] * share;
  }
  store(out[n * channels + h * head_size + channel], all_mix / all_sum);
}

}  // namespace

template <class Out, class A>
void decode_linear(Out* out, const A* inp, const A* weight, const float* bias, bool gelu, int rows,
                   int inputs, int outputs, Stream stream) {
  if (inputs % kVector != 0) {
    gpu::fail("decode_linear: inputs must be a multiple of 8, got " + std::to_string(inputs));
  }
  const dim3 grid(static_cast<unsigned>((outputs + kWarps - 1) / kWarps));
  const auto run = [&](auto* kernel) {
    gpu::launch(kernel, grid, dim3(kThreads), 0, stream, out, inp, weight, bias, gelu, inputs,
                outputs);
  };
  switch (rows) {
    case 1:
      return run(decode_outputs<Out, A, 1>);
    case 2:
      return run(decode_outputs<Out, A, 2>);
    case 3:
      return run(decode_outputs<Out, A, 3>);
    case kDecodeRows:
      return run(decode_outputs<Out, A, kDecodeRows>);
    default:
      gpu::fail("decode_linear: 1 to 4 rows at a time, got " + std::to_string(rows));
  }
}

template void decode_linear(float*, const float*, const float*, const float*, bool, int, int, int,
                            Stream);
template void decode_linear(float*, const Bf16*, const Bf16*, const float*, bool, int, int, int,
                            Stream);
template void decode_linear(Bf16*, const Bf16*, const Bf16*, const float*, bool, int, int, int,
                            Stream);

template <class A>
void append_to_caches(const CachedRow<A>* cached, const std::int32_t* positions, const A* qkv,
                      int rows, int heads, int head_size, Stream stream) {
  gpu::launch(append_rows<A>, dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0, stream, cached,
              positions, qkv, heads, head_size);
}

template <class A>
void attention_cached(A* out, const A* qkv, const CachedRow<A>* cached,
                      const std::int32_t* positions, int rows, int heads, int head_size,
                      bool appends, Stream stream) {
  if (head_size <= 0 || head_size % kVector != 0 || head_size > 128) {
    gpu::fail("attention_cached: head size must be a multiple of 8 up to 128, got " +
              std::to_string(head_size));
  }
  const auto run = [&]<int kLanes>() {
    gpu::launch(appends ? cached_heads<kLanes, true, A> : cached_heads<kLanes, false, A>,
                dim3(static_cast<unsigned>(rows), static_cast<unsigned>(heads)),
                dim3(kCachedThreads), 0, stream, out, qkv, cached, positions, heads, head_size);
  };
  if (head_size <= 8) return run.template operator()<1>();
  if (head_size <= 16) return run.template operator()<2>();
  if (head_size <= 32) return run.template operator()<4>();
  if (head_size <= 64) return run.template operator()<8>();
  run.template operator()<16>();
}

template void append_to_caches(const CachedRow<float>*, const std::int32_t*, const float*, int, int,
                               int, Stream);
template void append_to_caches(const CachedRow<Bf16>*, const std::int32_t*, const Bf16*, int, int,
                               int, Stream);
template void attention_cached(float*, const float*, const CachedRow<float>*, const std::int32_t*,
                               int, int, int, bool, Stream);
template void attention_cached(Bf16*, const Bf16*, const CachedRow<Bf16>*, const std::int32_t*, int,
                               int, int, bool, Stream);

}  // namespace kernels::cuda
