// Causal attention, forward, by blocks of queries (arXiv:2205.14135, algorithm 1; arXiv:2307.08691
// for who owns what).

#include <cmath>
#include <string>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/launchers.h"

namespace kernels::cuda {
namespace {

/// Bf16 of shared memory: the queries, then two tiles of keys, two of values.
template <int kHead>
constexpr std::size_t kShared = sizeof(Bf16) * kHead*(kOwnOf<kHead> + 4 * kOther);

/// What a warp keeps of its rows.
template <int kHead, int kTiles>
struct Rows {
  float out[kTiles][kHead / 8][4];
  float top[kTiles][2];  // of the raw scores
  float sum[kTiles][2];  // this lane's part
};

/// Turns a tile's raw scores into 2^(scale (score - top)) and brings what was summed to the new
/// top.
template <int kHead, int kTiles>
__device__ inline void softmax_step(Rows<kHead, kTiles>& rows,
                                    float (&scores)[kTiles][kOther / 8][4], float scale) {
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GPU_UNROLL
    for (int half = 0; half < 2; ++half) {
      float top = rows.top[m][half];
      GPU_UNROLL
      for (int n = 0; n < kOther / 8; ++n) {
        top = fmaxf(top, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
      }
      top = fmaxf(top, gpu::shuffle_xor(top, 1));
      top = fmaxf(top, gpu::shuffle_xor(top, 2));
      const float shift = top * scale;
      const float shrink = gpu::exp2_fast(rows.top[m][half] * scale - shift);
      rows.top[m][half] = top;
      float sum = rows.sum[m][half] * shrink;
      GPU_UNROLL
      for (int n = 0; n < kOther / 8; ++n) {
        GPU_UNROLL
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          scores[m][n][e] = gpu::exp2_fast(scores[m][n][e] * scale - shift);
          sum += scores[m][n][e];
        }
      }
      rows.sum[m][half] = sum;
      GPU_UNROLL
      for (int n = 0; n < kHead / 8; ++n) {
        rows.out[m][n][2 * half] *= shrink;
        rows.out[m][n][2 * half + 1] *= shrink;
      }
    }
  }
}

/// Drops what the mask drops of a tile's powers.
template <int kTiles>
__device__ inline void drop(float (&powers)[kTiles][kOther / 8][4], const ProbabilityMask& mask,
                            int query, int key) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GPU_UNROLL
    for (int half = 0; half < 2; ++half) {
      const std::uint64_t row = mask.key(query + m * 16 + half * 8 + lane / 4);
      GPU_UNROLL
      for (int n = 0; n < kOther / 8; ++n) {
        GPU_UNROLL
        for (int e = 0; e < 2; ++e) {
          float& power = powers[m][n][2 * half + e];
          power = masked(power, mask.mask, row, key + n * 8 + 2 * (lane % 4) + e);
        }
      }
    }
  }
}

/// One tile of keys, the first of which is `key`, for a warp whose first query is `query`.
template <int kHead, int kTiles, bool kDrops>
__device__ inline void attend(Rows<kHead, kTiles>& rows,
                              const std::uint32_t (&q)[kTiles][kHead / 16][4], Tile<kHead> keys,
                              Tile<kHead> values, int query, int key, float scale,
                              const ProbabilityMask& mask) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float scores[kTiles][kOther / 8][4] = {};
  GPU_UNROLL
  for (int k = 0; k < kHead / 16; ++k) {
    GPU_UNROLL
    for (int n = 0; n < kOther / 16; ++n) {
      std::uint32_t b[4];
      load_right(b, keys, n * 16, k);
      GPU_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        gpu::mma_bf16(scores[m][2 * n], q[m][k], b[0], b[1]);
        gpu::mma_bf16(scores[m][2 * n + 1], q[m][k], b[2], b[3]);
      }
    }
  }
  if (key + kOther - 1 > query) {  // the diagonal passes through
    GPU_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      GPU_UNROLL
      for (int n = 0; n < kOther / 8; ++n) {
        GPU_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int row = query + m * 16 + lane / 4 + e / 2 * 8;
          if (key + n * 8 + 2 * (lane % 4) + e % 2 > row) scores[m][n][e] = -INFINITY;
        }
      }
    }
  }
  softmax_step<kHead, kTiles>(rows, scores, scale);
  if constexpr (kDrops) drop<kTiles>(scores, mask, query, key);  // the sums have them all
  GPU_UNROLL
  for (int i = 0; i < kOther / 16; ++i) {
    std::uint32_t p[kTiles][4];
    GPU_UNROLL
    for (int m = 0; m < kTiles; ++m) pack_left(p[m], scores[m][2 * i], scores[m][2 * i + 1]);
    add_product<kHead, kTiles>(rows.out, p, values, i * 16);
  }
}

template <int kHead, bool kDrops>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    forward_block(Bf16* out, float* lse, const Bf16* qkv, int length, int heads, float root,
                  Mask dropped) {
  constexpr int kTiles = kTilesOf<kHead>;
  constexpr int kOwn = kOwnOf<kHead>;
  Bf16* shared = gpu::dynamic_shared<Bf16>();
  const Tile<kHead> queries{shared};
  const auto keys = [&](int j) { return Tile<kHead>{shared + kHead * (kOwn + j % 2 * kOther)}; };
  const auto values = [&](int j) {
    return Tile<kHead>{shared + kHead * (kOwn + (2 + j % 2) * kOther)};
  };
  const int block = static_cast<int>(gridDim.x - 1 - blockIdx.x);  // the longest first
  const int b = static_cast<int>(blockIdx.y) / heads;
  const int h = static_cast<int>(blockIdx.y) % heads;
  const int channels = heads * kHead;
  const std::size_t stride = 3 * static_cast<std::size_t>(channels);
  const Bf16* q = qkv + static_cast<std::size_t>(b) * length * stride + h * kHead;
  const Bf16* k = q + channels;
  const Bf16* v = k + channels;
  const int own = static_cast<int>(threadIdx.x / 32) * kTiles * 16;  // the warp's first row
  const int query = block * kOwn + own;
  const int lane = static_cast<int>(threadIdx.x % 32);
  // A score's factor, for powers of two.
  const float scale = kLog2E * root;
  const ProbabilityMask mask = mask_of(dropped, static_cast<int>(blockIdx.y), heads, length);

  load_rows<kHead, kOwn>(queries, q, stride, block * kOwn, length);
  load_rows<kHead, kOther>(keys(0), k, stride, 0, length);
  load_rows<kHead, kOther>(values(0), v, stride, 0, length);
  gpu::copy_commit();

  Rows<kHead, kTiles> rows;
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    rows.top[m][0] = rows.top[m][1] = -INFINITY;
    rows.sum[m][0] = rows.sum[m][1] = 0;
    GPU_UNROLL
    for (int n = 0; n < kHead / 8; ++n) {
      GPU_UNROLL
      for (int e = 0; e < 4; ++e) rows.out[m][n][e] = 0;
    }
  }
  std::uint32_t left[kTiles][kHead / 16][4];
  const int last = gpu::minimum(length, (block + 1) * kOwn) - 1;  // the block's last query
  for (int j = 0; j <= last / kOther; ++j) {
    gpu::copy_wait<0>();
    gpu::sync_threads();  // tile j is there for all, and nobody reads tile j - 1 any more
    if (j == 0) {
      GPU_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        GPU_UNROLL
        for (int i = 0; i < kHead / 16; ++i) load_left(left[m][i], queries, own + m * 16, i);
      }
    }
    if (j < last / kOther) {
      load_rows<kHead, kOther>(keys(j + 1), k, stride, (j + 1) * kOther, length);
      load_rows<kHead, kOther>(values(j + 1), v, stride, (j + 1) * kOther, length);
      gpu::copy_commit();
    }
    if (j * kOther > query + kTiles * 16 - 1) continue;  // above the warp's diagonal
    attend<kHead, kTiles, kDrops>(rows, left, keys(j), values(j), query, j * kOther, scale, mask);
  }

  float inverse[kTiles][2];
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GPU_UNROLL
    for (int half = 0; half < 2; ++half) {
      float sum = rows.sum[m][half];
      sum += gpu::shuffle_xor(sum, 1);
      sum += gpu::shuffle_xor(sum, 2);
      inverse[m][half] = 1 / sum;
      const int row = query + m * 16 + half * 8 + lane / 4;
      if (lane % 4 == 0 && row < length) {
        lse[static_cast<std::size_t>(blockIdx.y) * length + row] =
            rows.top[m][half] * scale * kLn2 + logf(sum);
      }
    }
  }
  write_rows<kHead, kTiles>(
      out + (static_cast<std::size_t>(b) * length + query) * channels + h * kHead,
      static_cast<std::size_t>(channels), queries, own, rows.out, inverse, query, length);
}

template <int kHead, bool kDrops>
void run(Bf16* out, float* lse, const Bf16* qkv, const AttentionShape& s, Stream stream) {
  const dim3 grid(static_cast<unsigned>((s.length + kOwnOf<kHead> - 1) / kOwnOf<kHead>),
                  static_cast<unsigned>(s.batch * s.heads));
  gpu::launch(forward_block<kHead, kDrops>, grid, dim3(kAttentionThreads), kShared<kHead>, stream,
              out, lse, qkv, s.length, s.heads, s.scale, s.mask);
}

// ---- head sizes without kernels of their own ----------------------------------------------------

constexpr int kResizeThreads = 256;

__global__ void __launch_bounds__(kResizeThreads)
    resize_elements(Bf16* out, const Bf16* inp, std::size_t count, int from, int to) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * kResizeThreads + threadIdx.x;
  if (i >= count) return;
  const std::size_t head = i / static_cast<std::size_t>(to);
  const auto d = static_cast<int>(i % static_cast<std::size_t>(to));
  out[i] = d < from ? inp[head * from + d] : Bf16{0};
}

}  // namespace

void attention_forward(Bf16* out, float* lse, const Bf16* qkv, const AttentionShape& shape,
                       Stream stream) {
  with_head_size("attention_forward", shape, [&]<int kHead, bool kDrops>() {
    run<kHead, kDrops>(out, lse, qkv, shape, stream);
  });
}

void resize_heads(Bf16* out, const Bf16* inp, int rows, int heads, int from, int to,
                  Stream stream) {
  const std::size_t count = static_cast<std::size_t>(rows) * heads * to;
  const dim3 grid(static_cast<unsigned>((count + kResizeThreads - 1) / kResizeThreads));
  gpu::launch(resize_elements, grid, dim3(kResizeThreads), 0, stream, out, inp, count, from, to);
}

}  // namespace kernels::cuda
