// Causal attention in f32, forward and backward, without tensor cores: those have no f32.
//
// A block has kTile rows of its own (queries, or keys in the kernel of dK and dV), kOwn a warp, and
// goes through the other side's rows a tile at a time, in order: a lane has a row of the tile for
// the scores, and channels of every row for what is summed with them. Nothing of size T x T exists,
// and every sum has an order of its own.

#include <string>

#include "kernels/cuda/attention.h"

namespace kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
/// Rows that a warp owns: what is read of the other side serves them all.
constexpr int kOwn = 4;
constexpr int kTile = 32;
static_assert(kWarps * kOwn == kTile && kTile == 32);

/// A tile's rows lie kRow apart, in different banks: lanes read the same channel of all of them.
template <int kHead>
constexpr int kRow = kHead + 1;
template <int kHead>
constexpr int kTileFloats = kTile* kRow<kHead>;
/// A number for each of a warp's rows and each row of the other side's tile.
constexpr int kWeightFloats = kWarps * kOwn * kTile;

/// Bytes of `tiles` tiles and `weights` sets of weights.
template <int kHead>
constexpr std::size_t shared_bytes(int tiles, int weights) {
  return sizeof(float) *
         static_cast<std::size_t>(tiles * kTileFloats<kHead> + weights * kWeightFloats);
}

/// Rows [first, first + kTile) of a (T, head_size) matrix whose rows lie `stride` apart; what does
/// not exist is zeros.
template <int kHead>
__device__ inline void load_tile(float* to, const float* from, std::size_t stride, int first,
                                 int length, int head_size) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kHead; i += kThreads) {
    const int row = i / kHead;
    const int d = i % kHead;
    const bool exists = first + row < length && d < head_size;
    to[row * kRow<kHead> + d] =
        exists ? from[static_cast<std::size_t>(first + row) * stride + d] : 0.0F;
  }
}

/// products[r] = the warp's row r times the lane's row of the other side.
template <int kHead>
__device__ inline void multiply_rows(float (&products)[kOwn], const float* own,
                                     const float* other) {
  const float* row = other + threadIdx.x % 32 * kRow<kHead>;
  GPU_UNROLL
  for (int r = 0; r < kOwn; ++r) products[r] = 0;
  for (int d = 0; d < kHead; ++d) {
    const float x = row[d];
    GPU_UNROLL
    for (int r = 0; r < kOwn; ++r) products[r] += own[r * kRow<kHead> + d] * x;
  }
}

/// sums[r] += the other side's rows, each times its weight for row r; a lane has channels lane + 32
/// c.
template <int kHead>
__device__ inline void add_rows(float (&sums)[kOwn][kHead / 32], const float* weights,
                                const float* other) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int j = 0; j < kTile; ++j) {
    GPU_UNROLL
    for (int c = 0; c < kHead / 32; ++c) {
      const float x = other[j * kRow<kHead> + c * 32 + lane];
      GPU_UNROLL
      for (int r = 0; r < kOwn; ++r) sums[r][c] += weights[r * kTile + j] * x;
    }
  }
}

/// to (T, head_size) gets the warp's rows of sums, times factor[r].
template <int kHead>
__device__ inline void write_rows(float* to, std::size_t stride,
                                  const float (&sums)[kOwn][kHead / 32],
                                  const float (&factor)[kOwn], int first, int length,
                                  int head_size) {
  GPU_UNROLL
  for (int r = 0; r < kOwn; ++r) {
    GPU_UNROLL
    for (int c = 0; c < kHead / 32; ++c) {
      const int d = c * 32 + static_cast<int>(threadIdx.x % 32);
      if (first + r >= length || d >= head_size) continue;
      to[static_cast<std::size_t>(first + r) * stride + d] = sums[r][c] * factor[r];
    }
  }
}

/// What a kernel knows of its place.
struct Place {
  int warp, lane;
  int first;           // the block's first own row
  int channels;        // C
  std::size_t stride;  // between rows of qkv
  std::size_t qkv;     // where the head's q begins; k and v follow C and 2 C later
  std::size_t out;     // the same in (N, C)
  std::size_t stats;   // the same in (B, H, T)
  ProbabilityMask mask;
};
__device__ inline Place place_of(int block, const AttentionShape& s) {
  const int b = static_cast<int>(blockIdx.y) / s.heads;
  const int h = static_cast<int>(blockIdx.y) % s.heads;
  const int channels = s.heads * s.head_size;
  const std::size_t row = static_cast<std::size_t>(b) * s.length;
  const std::size_t head = static_cast<std::size_t>(h) * s.head_size;
  return {.warp = static_cast<int>(threadIdx.x / 32),
          .lane = static_cast<int>(threadIdx.x % 32),
          .first = block * kTile,
          .channels = channels,
          .stride = 3 * static_cast<std::size_t>(channels),
          .qkv = row * 3 * channels + head,
          .out = row * channels + head,
          .stats = static_cast<std::size_t>(blockIdx.y) * s.length,
          .mask = mask_of(s.mask, static_cast<int>(blockIdx.y), s.heads, s.length)};
}

template <int kHead>
__global__ void __launch_bounds__(kThreads)
    forward_queries(float* out, float* lse, const float* qkv, AttentionShape s) {
  float* queries = gpu::dynamic_shared<float>();
  float* keys = queries + kTileFloats<kHead>;
  float* values = keys + kTileFloats<kHead>;
  const int block = static_cast<int>(gridDim.x - 1 - blockIdx.x);  // the longest first
  const Place at = place_of(block, s);
  float* weights = values + kTileFloats<kHead> + at.warp * kOwn * kTile;
  const float* own = queries + at.warp * kOwn * kRow<kHead>;
  const int query = at.first + at.warp * kOwn;
  load_tile<kHead>(queries, qkv + at.qkv, at.stride, at.first, s.length, s.head_size);
  float sums[kOwn][kHead / 32] = {};
  float top[kOwn], sum[kOwn];
  GPU_UNROLL
  for (int r = 0; r < kOwn; ++r) {
    top[r] = -INFINITY;
    sum[r] = 0;  // this lane's part
  }
  for (int first = 0; first <= at.first; first += kTile) {
    gpu::sync_threads();  // nobody reads the tile before any more
    load_tile<kHead>(keys, qkv + at.qkv + at.channels, at.stride, first, s.length, s.head_size);
    load_tile<kHead>(values, qkv + at.qkv + 2 * at.channels, at.stride, first, s.length,
                     s.head_size);
    gpu::sync_threads();
    float scores[kOwn];
    multiply_rows<kHead>(scores, own, keys);
    const int key = first + at.lane;
    GPU_UNROLL
    for (int r = 0; r < kOwn; ++r) {
      const float score = key <= query + r ? scores[r] * s.scale : -INFINITY;
      float new_top = fmaxf(top[r], score);
      GPU_UNROLL
      for (unsigned mask = 16; mask != 0; mask /= 2) {
        new_top = fmaxf(new_top, gpu::shuffle_xor(new_top, mask));
      }
      const float shrink = gpu::exp2_fast((top[r] - new_top) * kLog2E);
      float power = gpu::exp2_fast((score - new_top) * kLog2E);
      top[r] = new_top;
      sum[r] = sum[r] * shrink + power;  // dropout comes after the softmax: it has them all
      if (s.mask.threshold != 0) power = masked(power, s.mask, at.mask.key(query + r), key);
      weights[r * kTile + at.lane] = power;
      GPU_UNROLL
      for (int c = 0; c < kHead / 32; ++c) sums[r][c] *= shrink;
    }
    gpu::sync_warp();
    add_rows<kHead>(sums, weights, values);
  }
  float inverse[kOwn];
  GPU_UNROLL
  for (int r = 0; r < kOwn; ++r) {
    const float all = warp_sum(sum[r]);
    inverse[r] = 1 / all;
    if (at.lane == 0 && query + r < s.length) lse[at.stats + query + r] = top[r] + logf(all);
  }
  write_rows<kHead>(out + at.out, static_cast<std::size_t>(at.channels), sums, inverse, query,
                    s.length, s.head_size);
}

/// A score's probability and its gradient's two parts: with p dropped, for dV, and ds.
__device__ inline void score_gradient(float& dropped, float& ds, float score, float dp, float lse,
                                      float delta, bool exists, const Place& at,
                                      const AttentionShape& s, int query, int key) {
  const float p = exists ? gpu::exp2_fast((score * s.scale - lse) * kLog2E) : 0.0F;
  dropped = p;
  if (s.mask.threshold != 0) {
    const std::uint64_t row = at.mask.key(query);
    dropped = masked(p, s.mask, row, key);
    dp = masked(dp, s.mask, row, key);
  }
  ds = p * (dp - delta);
}

/// dQ, and delta for the kernel after it.
template <int kHead>
__global__ void __launch_bounds__(kThreads)
    gradient_of_queries(float* dqkv, float* delta, const float* dout, const float* qkv,
                        const float* out, const float* lse, AttentionShape s) {
  float* queries = gpu::dynamic_shared<float>();
  float* douts = queries + kTileFloats<kHead>;
  float* keys = douts + kTileFloats<kHead>;
  float* values = keys + kTileFloats<kHead>;
  const int block = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const Place at = place_of(block, s);
  const auto channels = static_cast<std::size_t>(at.channels);
  float* weights = values + kTileFloats<kHead> + at.warp * kOwn * kTile;
  const int own = at.warp * kOwn * kRow<kHead>;
  const int query = at.first + at.warp * kOwn;
  load_tile<kHead>(queries, qkv + at.qkv, at.stride, at.first, s.length, s.head_size);
  load_tile<kHead>(douts, dout + at.out, channels, at.first, s.length, s.head_size);
  float own_delta[kOwn], own_lse[kOwn], factor[kOwn];
  GPU_UNROLL
  for (int r = 0; r < kOwn; ++r) {
    const bool exists = query + r < s.length;
    float sum = 0;
    for (int d = at.lane; exists && d < s.head_size; d += 32) {
      const std::size_t i = at.out + static_cast<std::size_t>(query + r) * channels + d;
      sum += dout[i] * out[i];
    }
    own_delta[r] = warp_sum(sum);
    own_lse[r] = exists ? lse[at.stats + query + r] : 0.0F;
    factor[r] = s.scale;
    if (exists && at.lane == 0) delta[at.stats + query + r] = own_delta[r];
  }
  float sums[kOwn][kHead / 32] = {};
  for (int first = 0; first <= at.first; first += kTile) {
    gpu::sync_threads();
    load_tile<kHead>(keys, qkv + at.qkv + channels, at.stride, first, s.length, s.head_size);
    load_tile<kHead>(values, qkv + at.qkv + 2 * channels, at.stride, first, s.length, s.head_size);
    gpu::sync_threads();
    float scores[kOwn], dp[kOwn];
    multiply_rows<kHead>(scores, queries + own, keys);
    multiply_rows<kHead>(dp, douts + own, values);
    const int key = first + at.lane;
    GPU_UNROLL
    for (int r = 0; r < kOwn; ++r) {
      float dropped, ds;
      const bool exists = key <= query + r && query + r < s.length;
      score_gradient(dropped, ds, scores[r], dp[r], own_lse[r], own_delta[r], exists, at, s,
                     query + r, key);
      weights[r * kTile + at.lane] = ds;
    }
    gpu::sync_warp();
    add_rows<kHead>(sums, weights, keys);
  }
  write_rows<kHead>(dqkv + at.qkv, at.stride, sums, factor, query, s.length, s.head_size);
}

/// dK and dV, from delta.
template <int kHead>
__global__ void __launch_bounds__(kThreads)
    gradient_of_keys(float* dqkv, const float* delta, const float* dout, const float* qkv,
                     const float* lse, AttentionShape s) {
  float* keys = gpu::dynamic_shared<float>();
  float* values = keys + kTileFloats<kHead>;
  float* queries = values + kTileFloats<kHead>;
  float* douts = queries + kTileFloats<kHead>;
  const Place at = place_of(static_cast<int>(blockIdx.x), s);
  const auto channels = static_cast<std::size_t>(at.channels);
  float* score_weights = douts + kTileFloats<kHead> + at.warp * kOwn * kTile;
  float* value_weights = score_weights + kWeightFloats;
  const int own = at.warp * kOwn * kRow<kHead>;
  const int key = at.first + at.warp * kOwn;
  load_tile<kHead>(keys, qkv + at.qkv + channels, at.stride, at.first, s.length, s.head_size);
  load_tile<kHead>(values, qkv + at.qkv + 2 * channels, at.stride, at.first, s.length, s.head_size);
  float dk[kOwn][kHead / 32] = {}, dv[kOwn][kHead / 32] = {};
  for (int first = at.first; first < s.length; first += kTile) {
    gpu::sync_threads();
    load_tile<kHead>(queries, qkv + at.qkv, at.stride, first, s.length, s.head_size);
    load_tile<kHead>(douts, dout + at.out, channels, first, s.length, s.head_size);
    gpu::sync_threads();
    float scores[kOwn], dp[kOwn];
    multiply_rows<kHead>(scores, keys + own, queries);
    multiply_rows<kHead>(dp, values + own, douts);
    const int query = first + at.lane;
    const bool has_query = query < s.length;
    const float own_lse = has_query ? lse[at.stats + query] : 0.0F;
    const float own_delta = has_query ? delta[at.stats + query] : 0.0F;
    GPU_UNROLL
    for (int r = 0; r < kOwn; ++r) {
      float dropped, ds;
      score_gradient(dropped, ds, scores[r], dp[r], own_lse, own_delta,
                     has_query && key + r <= query, at, s, query, key + r);
      score_weights[r * kTile + at.lane] = ds;
      value_weights[r * kTile + at.lane] = dropped;
    }
    gpu::sync_warp();
    add_rows<kHead>(dk, score_weights, queries);
    add_rows<kHead>(dv, value_weights, douts);
  }
  float factor[kOwn], one[kOwn];
  GPU_UNROLL
  for (int r = 0; r < kOwn; ++r) {
    factor[r] = s.scale;
    one[r] = 1;
  }
  write_rows<kHead>(dqkv + at.qkv + channels, at.stride, dk, factor, key, s.length, s.head_size);
  write_rows<kHead>(dqkv + at.qkv + 2 * channels, at.stride, dv, one, key, s.length, s.head_size);
}

/// Calls run.template operator()<the smallest kernel's head size that holds the shape's>().
template <class Run>
void with_kernel_of(const char* what, const AttentionShape& s, Run run) {
  check_heads(what, s);
  if (s.head_size < 1 || s.head_size > 128) {
    gpu::fail(std::string(what) + ": head size must be 1 to 128, got " +
              std::to_string(s.head_size));
  }
  if (s.head_size <= 32) return run.template operator()<32>();
  if (s.head_size <= 64) return run.template operator()<64>();
  run.template operator()<128>();
}

dim3 grid_of(const AttentionShape& s) {
  return dim3(static_cast<unsigned>((s.length + kTile - 1) / kTile),
              static_cast<unsigned>(s.batch * s.heads));
}

}  // namespace

void attention_forward(float* out, float* lse, const float* qkv, const AttentionShape& shape,
                       Stream stream) {
  with_kernel_of("attention_forward", shape, [&]<int kHead>() {
    gpu::launch(forward_queries<kHead>, grid_of(shape), dim3(kThreads), shared_bytes<kHead>(3, 1),
                stream, out, lse, qkv, shape);
  });
}

void attention_backward(float* dqkv, float* delta, const float* dout, const float* qkv,
                        const float* out, const float* lse, const AttentionShape& shape,
                        Stream stream) {
  with_kernel_of("attention_backward", shape, [&]<int kHead>() {
    gpu::launch(gradient_of_queries<kHead>, grid_of(shape), dim3(kThreads),
                shared_bytes<kHead>(4, 1), stream, dqkv, delta, dout, qkv, out, lse, shape);
    gpu::launch(gradient_of_keys<kHead>, grid_of(shape), dim3(kThreads), shared_bytes<kHead>(4, 2),
                stream, dqkv, static_cast<const float*>(delta), dout, qkv, lse, shape);
  });
}

}  // namespace kernels::cuda
