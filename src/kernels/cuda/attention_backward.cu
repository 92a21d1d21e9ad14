// Causal attention, backward, in two kernels: one by blocks of queries for dQ, one by blocks of
// keys for dK and dV. Both recompute the probabilities from the forward's log-sum-exp
// (arXiv:2205.14135, algorithm 4), so that every sum stays in registers, in an order of its own:
// seven products where one kernel needs five, but no sums in memory, which would be f32 atomics or
// their traffic.
//   p = exp(q k / sqrt(D) - lse), dp = dout v, ds = p (dp - delta), delta = dout out
//   dq = sum ds k / sqrt(D), dk = sum ds q / sqrt(D), dv = sum p dout

#include <cmath>
#include <string>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/launchers.h"

namespace kernels::cuda {
namespace {

/// Columns of a tile worked at once: what the registers hold.
constexpr int kPart = 32;

/// Where one head of one sequence lies.
struct Head {
  std::size_t qkv;     // its q's first element; k and v follow C and 2 C later
  std::size_t out;     // the same in (N, C)
  std::size_t stats;   // in (B, H, T)
  std::size_t stride;  // between rows of qkv
  int channels;
};
template <int kHead>
__device__ inline Head head_of(int bh, int heads, int length) {
  const int b = bh / heads;
  const int h = bh % heads;
  const int channels = heads * kHead;
  const std::size_t row = static_cast<std::size_t>(b) * length;
  return {row * 3 * channels + static_cast<std::size_t>(h) * kHead,
          row * channels + static_cast<std::size_t>(h) * kHead,
          static_cast<std::size_t>(bh) * length, 3 * static_cast<std::size_t>(channels), channels};
}

template <int kTiles>
using Part = float[kTiles][kPart / 8][4];

template <int kTiles>
__device__ inline void clear(Part<kTiles>& part) {
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GPU_UNROLL
    for (int n = 0; n < kPart / 8; ++n) {
      GPU_UNROLL
      for (int e = 0; e < 4; ++e) part[m][n][e] = 0;
    }
  }
}

// ---- dQ -----------------------------------------------------------------------------------------

template <int kHead>
constexpr std::size_t kSharedQ = sizeof(Bf16) * kHead*(2 * kOwnOf<kHead> + 4 * kOther);

/// part = left rows times rows [row, row + kPart) of the tile.
template <int kHead, int kTiles>
__device__ inline void multiply(Part<kTiles>& part,
                                const std::uint32_t (&left)[kTiles][kHead / 16][4],
                                Tile<kHead> tile, int row) {
  clear<kTiles>(part);
  GPU_UNROLL
  for (int k = 0; k < kHead / 16; ++k) {
    GPU_UNROLL
    for (int n = 0; n < kPart / 16; ++n) {
      std::uint32_t b[4];
      load_right(b, tile, row + n * 16, k);
      GPU_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        gpu::mma_bf16(part[m][2 * n], left[m][k], b[0], b[1]);
        gpu::mma_bf16(part[m][2 * n + 1], left[m][k], b[2], b[3]);
      }
    }
  }
}

/// delta of the rows that this lane's results belong to, each from the four lanes of its quad; the
/// first of them stores it.
template <int kHead, int kTiles>
__device__ inline void row_deltas(float (&delta)[kTiles][2], float* delta_out, const Bf16* dout,
                                  const Bf16* out, int query, int length, int channels) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GPU_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = query + m * 16 + half * 8 + lane / 4;
      float sum = 0;
      if (row < length) {
        GPU_UNROLL
        for (int i = 0; i < kHead / 32; ++i) {
          const std::size_t at = static_cast<std::size_t>(row) * channels + (i * 4 + lane % 4) * 8;
          float a[8], b[8];
          load8(a, dout + at);
          load8(b, out + at);
          GPU_UNROLL
          for (int e = 0; e < 8; ++e) sum += a[e] * b[e];
        }
      }
      sum += gpu::shuffle_xor(sum, 1);
      sum += gpu::shuffle_xor(sum, 2);
      delta[m][half] = sum;
      if (lane % 4 == 0 && row < length) delta_out[row] = sum;
    }
  }
}

/// scores becomes ds; query, key: the first of each.
template <int kTiles, bool kDrops>
__device__ inline void score_gradients(Part<kTiles>& scores, const Part<kTiles>& dp,
                                       const float (&lse)[kTiles][2],
                                       const float (&delta)[kTiles][2], int query, int key,
                                       float scale, const ProbabilityMask& mask) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const bool diagonal = key + kPart - 1 > query;
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GPU_UNROLL
    for (int n = 0; n < kPart / 8; ++n) {
      GPU_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int row = query + m * 16 + e / 2 * 8 + lane / 4;
        const int column = key + n * 8 + 2 * (lane % 4) + e % 2;
        float p = gpu::exp2_fast(scores[m][n][e] * scale - lse[m][e / 2]);
        if (diagonal && column > row) p = 0;
        float d = dp[m][n][e];
        if constexpr (kDrops) d = masked(d, mask.mask, mask.key(row), column);
        scores[m][n][e] = p * (d - delta[m][e / 2]);
      }
    }
  }
}

template <int kHead, bool kDrops>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    backward_queries(Bf16* dqkv, float* delta_out, const Bf16* dout, const Bf16* qkv,
                     const Bf16* out, const float* lse_in, int length, int heads, float root,
                     Mask dropped) {
  constexpr int kTiles = kTilesOf<kHead>;
  constexpr int kOwn = kOwnOf<kHead>;
  Bf16* shared = gpu::dynamic_shared<Bf16>();
  const Tile<kHead> queries{shared};
  const Tile<kHead> douts{shared + kHead * kOwn};
  const auto keys = [&](int j) {
    return Tile<kHead>{shared + kHead * (2 * kOwn + j % 2 * kOther)};
  };
  const auto values = [&](int j) {
    return Tile<kHead>{shared + kHead * (2 * kOwn + (2 + j % 2) * kOther)};
  };
  const Head at = head_of<kHead>(static_cast<int>(blockIdx.y), heads, length);
  const int block = static_cast<int>(gridDim.x - 1 - blockIdx.x);  // the longest first
  const int own = static_cast<int>(threadIdx.x / 32) * kTiles * 16;
  const int query = block * kOwn + own;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const ProbabilityMask mask = mask_of(dropped, static_cast<int>(blockIdx.y), heads, length);
  const Bf16* q = qkv + at.qkv;
  const Bf16* k = q + at.channels;
  const Bf16* v = k + at.channels;

  load_rows<kHead, kOwn>(queries, q, at.stride, block * kOwn, length);
  load_rows<kHead, kOwn>(douts, dout + at.out, static_cast<std::size_t>(at.channels), block * kOwn,
                         length);
  load_rows<kHead, kOther>(keys(0), k, at.stride, 0, length);
  load_rows<kHead, kOther>(values(0), v, at.stride, 0, length);
  gpu::copy_commit();

  float delta[kTiles][2], lse[kTiles][2];
  row_deltas<kHead, kTiles>(delta, delta_out + at.stats, dout + at.out, out + at.out, query, length,
                            at.channels);
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GPU_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = query + m * 16 + half * 8 + lane / 4;
      lse[m][half] = row < length ? lse_in[at.stats + row] * kLog2E : INFINITY;  // p = 0
    }
  }
  float dq[kTiles][kHead / 8][4] = {};
  std::uint32_t left[kTiles][kHead / 16][4], dleft[kTiles][kHead / 16][4];
  const int last = gpu::minimum(length, (block + 1) * kOwn) - 1;
  for (int j = 0; j <= last / kOther; ++j) {
    gpu::copy_wait<0>();
    gpu::sync_threads();  // tile j is there for all, and nobody reads tile j - 1 any more
    if (j == 0) {
      GPU_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        GPU_UNROLL
        for (int i = 0; i < kHead / 16; ++i) {
          load_left(left[m][i], queries, own + m * 16, i);
          load_left(dleft[m][i], douts, own + m * 16, i);
        }
      }
    }
    if (j < last / kOther) {
      load_rows<kHead, kOther>(keys(j + 1), k, at.stride, (j + 1) * kOther, length);
      load_rows<kHead, kOther>(values(j + 1), v, at.stride, (j + 1) * kOther, length);
      gpu::copy_commit();
    }
    for (int part = 0; part < kOther; part += kPart) {
      const int key = j * kOther + part;
      if (key > query + kTiles * 16 - 1) break;  // above the warp's diagonal
      Part<kTiles> scores, dp;
      multiply<kHead, kTiles>(scores, left, keys(j), part);
      multiply<kHead, kTiles>(dp, dleft, values(j), part);
      score_gradients<kTiles, kDrops>(scores, dp, lse, delta, query, key, root * kLog2E, mask);
      GPU_UNROLL
      for (int i = 0; i < kPart / 16; ++i) {
        std::uint32_t ds[kTiles][4];
        GPU_UNROLL
        for (int m = 0; m < kTiles; ++m) pack_left(ds[m], scores[m][2 * i], scores[m][2 * i + 1]);
        add_product<kHead, kTiles>(dq, ds, keys(j), part + i * 16);
      }
    }
  }
  float factor[kTiles][2];
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) factor[m][0] = factor[m][1] = root;
  write_rows<kHead, kTiles>(dqkv + at.qkv + static_cast<std::size_t>(query) * at.stride, at.stride,
                            queries, own, dq, factor, query, length);
}

// ---- dK, dV -------------------------------------------------------------------------------------

/// Log-sum-exp (times log2 e) and delta of a tile of queries.
struct Stats {
  float lse[kOther];
  float delta[kOther];
};
template <int kHead>
constexpr std::size_t kSharedK = sizeof(Bf16) * kHead*(2 * kOwnOf<kHead> + 4 * kOther) +
                                 2 * sizeof(Stats);

/// part = the warp's own rows of `own_tile` times rows [row, row + kPart) of `tile`: transposed
/// scores. The left operand is read again each time; registers hold dK and dV.
template <int kHead, int kTiles>
__device__ inline void multiply_own(Part<kTiles>& part, Tile<kHead> own_tile, int own,
                                    Tile<kHead> tile, int row) {
  clear<kTiles>(part);
  GPU_UNROLL
  for (int k = 0; k < kHead / 16; ++k) {
    std::uint32_t a[kTiles][4];
    GPU_UNROLL
    for (int m = 0; m < kTiles; ++m) load_left(a[m], own_tile, own + m * 16, k);
    GPU_UNROLL
    for (int n = 0; n < kPart / 16; ++n) {
      std::uint32_t b[4];
      load_right(b, tile, row + n * 16, k);
      GPU_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        gpu::mma_bf16(part[m][2 * n], a[m], b[0], b[1]);
        gpu::mma_bf16(part[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// scores^T of keys from `key`, queries from `query` becomes p^T.
template <int kTiles>
__device__ inline void probabilities(Part<kTiles>& scores, const float* lse, int query, int key,
                                     float scale) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const bool diagonal = key + kTiles * 16 - 1 > query;
  GPU_UNROLL
  for (int n = 0; n < kPart / 8; ++n) {
    const float2 shift = *reinterpret_cast<const float2*>(lse + n * 8 + 2 * (lane % 4));
    GPU_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      GPU_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int row = key + m * 16 + e / 2 * 8 + lane / 4;
        const int column = query + n * 8 + 2 * (lane % 4) + e % 2;
        float p = gpu::exp2_fast(scores[m][n][e] * scale - (e % 2 == 0 ? shift.x : shift.y));
        if (diagonal && row > column) p = 0;
        scores[m][n][e] = p;
      }
    }
  }
}

/// part^T of keys from `key`, queries from `query`, masked.
template <int kTiles>
__device__ inline void drop(Part<kTiles>& part, const ProbabilityMask& mask, int query, int key) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  GPU_UNROLL
  for (int n = 0; n < kPart / 8; ++n) {
    GPU_UNROLL
    for (int e = 0; e < 2; ++e) {
      const std::uint64_t row = mask.key(query + n * 8 + 2 * (lane % 4) + e);
      GPU_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        GPU_UNROLL
        for (int half = 0; half < 2; ++half) {
          float& value = part[m][n][2 * half + e];
          value = masked(value, mask.mask, row, key + m * 16 + half * 8 + lane / 4);
        }
      }
    }
  }
}

/// dp^T becomes ds^T.
template <int kTiles>
__device__ inline void times_probabilities(Part<kTiles>& dp, const Part<kTiles>& p,
                                           const float* delta) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  GPU_UNROLL
  for (int n = 0; n < kPart / 8; ++n) {
    const float2 d = *reinterpret_cast<const float2*>(delta + n * 8 + 2 * (lane % 4));
    GPU_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      GPU_UNROLL
      for (int e = 0; e < 4; ++e) {
        dp[m][n][e] = p[m][n][e] * (dp[m][n][e] - (e % 2 == 0 ? d.x : d.y));
      }
    }
  }
}

/// sums += part times rows [row, row + kPart) of the tile.
template <int kHead, int kTiles>
__device__ inline void add_part(float (&sums)[kTiles][kHead / 8][4], const Part<kTiles>& part,
                                Tile<kHead> tile, int row) {
  GPU_UNROLL
  for (int i = 0; i < kPart / 16; ++i) {
    std::uint32_t a[kTiles][4];
    GPU_UNROLL
    for (int m = 0; m < kTiles; ++m) pack_left(a[m], part[m][2 * i], part[m][2 * i + 1]);
    add_product<kHead, kTiles>(sums, a, tile, row + i * 16);
  }
}

template <int kHead, bool kDrops>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    backward_keys(Bf16* dqkv, const Bf16* dout, const Bf16* qkv, const float* lse_in,
                  const float* delta_in, int length, int heads, float root, Mask dropped) {
  constexpr int kTiles = kTilesOf<kHead>;
  constexpr int kOwn = kOwnOf<kHead>;
  Bf16* shared = gpu::dynamic_shared<Bf16>();
  const Tile<kHead> keys{shared};
  const Tile<kHead> values{shared + kHead * kOwn};
  const auto queries = [&](int j) {
    return Tile<kHead>{shared + kHead * (2 * kOwn + j % 2 * kOther)};
  };
  const auto douts = [&](int j) {
    return Tile<kHead>{shared + kHead * (2 * kOwn + (2 + j % 2) * kOther)};
  };
  Stats* stats = reinterpret_cast<Stats*>(shared + kHead * (2 * kOwn + 4 * kOther));
  const Head at = head_of<kHead>(static_cast<int>(blockIdx.y), heads, length);
  const int first = static_cast<int>(blockIdx.x) * kOwn;
  const int own = static_cast<int>(threadIdx.x / 32) * kTiles * 16;
  const int key = first + own;
  const ProbabilityMask mask = mask_of(dropped, static_cast<int>(blockIdx.y), heads, length);
  const Bf16* q = qkv + at.qkv;
  const auto load = [&](int j) {
    load_rows<kHead, kOther>(queries(j), q, at.stride, j * kOther, length);
    load_rows<kHead, kOther>(douts(j), dout + at.out, static_cast<std::size_t>(at.channels),
                             j * kOther, length);
    gpu::copy_commit();
  };
  // Threads 0 .. 63 bring the tile's log-sum-exps, the others its deltas. Past the end p = 0.
  static_assert(kAttentionThreads == 2 * kOther);
  const int own_stat = static_cast<int>(threadIdx.x) % kOther;
  const bool is_delta = threadIdx.x >= kOther;
  const auto stat_of = [&](int j) {
    const int row = j * kOther + own_stat;
    if (row >= length) return is_delta ? 0.0F : INFINITY;
    return is_delta ? delta_in[at.stats + row] : lse_in[at.stats + row] * kLog2E;
  };
  const auto store_stat = [&](int j, float value) {
    Stats& to = stats[j % 2];
    (is_delta ? to.delta : to.lse)[own_stat] = value;
  };

  const int start = first / kOther;
  const int tiles = (length + kOther - 1) / kOther;
  load_rows<kHead, kOwn>(keys, q + at.channels, at.stride, first, length);
  load_rows<kHead, kOwn>(values, q + 2 * at.channels, at.stride, first, length);
  load(start);
  store_stat(start, stat_of(start));
  float dk[kTiles][kHead / 8][4] = {};
  float dv[kTiles][kHead / 8][4] = {};
  for (int j = start; j < tiles; ++j) {
    gpu::copy_wait<0>();
    gpu::sync_threads();  // tile j is there for all, and nobody reads tile j - 1 any more
    float next = 0;
    if (j + 1 < tiles) {
      load(j + 1);
      next = stat_of(j + 1);
    }
    for (int part = 0; part < kOther; part += kPart) {
      const int query = j * kOther + part;
      if (query + kPart - 1 < key) continue;  // above the warp's diagonal
      Part<kTiles> p, ds;
      multiply_own<kHead, kTiles>(p, keys, own, queries(j), part);
      probabilities<kTiles>(p, stats[j % 2].lse + part, query, key, root * kLog2E);
      if constexpr (kDrops) {
        Part<kTiles> kept;
        GPU_UNROLL
        for (int m = 0; m < kTiles; ++m) {
          GPU_UNROLL
          for (int n = 0; n < kPart / 8; ++n) {
            GPU_UNROLL
            for (int e = 0; e < 4; ++e) kept[m][n][e] = p[m][n][e];
          }
        }
        drop<kTiles>(kept, mask, query, key);
        add_part<kHead, kTiles>(dv, kept, douts(j), part);
      } else {
        add_part<kHead, kTiles>(dv, p, douts(j), part);
      }
      multiply_own<kHead, kTiles>(ds, values, own, douts(j), part);
      if constexpr (kDrops) drop<kTiles>(ds, mask, query, key);
      times_probabilities<kTiles>(ds, p, stats[j % 2].delta + part);
      add_part<kHead, kTiles>(dk, ds, queries(j), part);
    }
    if (j + 1 < tiles) store_stat(j + 1, next);
  }
  float factor[kTiles][2];
  Bf16* to = dqkv + at.qkv + static_cast<std::size_t>(key) * at.stride;
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) factor[m][0] = factor[m][1] = root;
  write_rows<kHead, kTiles>(to + at.channels, at.stride, keys, own, dk, factor, key, length);
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) factor[m][0] = factor[m][1] = 1;
  write_rows<kHead, kTiles>(to + 2 * at.channels, at.stride, values, own, dv, factor, key, length);
}

template <int kHead, bool kDrops>
void run(Bf16* dqkv, float* delta, const Bf16* dout, const Bf16* qkv, const Bf16* out,
         const float* lse, const AttentionShape& s, Stream stream) {
  const dim3 grid(static_cast<unsigned>((s.length + kOwnOf<kHead> - 1) / kOwnOf<kHead>),
                  static_cast<unsigned>(s.batch * s.heads));
  gpu::launch(backward_queries<kHead, kDrops>, grid, dim3(kAttentionThreads), kSharedQ<kHead>,
              stream, dqkv, delta, dout, qkv, out, lse, s.length, s.heads, s.scale, s.mask);
  gpu::launch(backward_keys<kHead, kDrops>, grid, dim3(kAttentionThreads), kSharedK<kHead>, stream,
              dqkv, dout, qkv, lse, delta, s.length, s.heads, s.scale, s.mask);
}

}  // namespace

void attention_backward(Bf16* dqkv, float* delta, const Bf16* dout, const Bf16* qkv,
                        const Bf16* out, const float* lse, const AttentionShape& shape,
                        Stream stream) {
  with_head_size("attention_backward", shape, [&]<int kHead, bool kDrops>() {
    run<kHead, kDrops>(dqkv, delta, dout, qkv, out, lse, shape, stream);
  });
}

}  // namespace kernels::cuda
