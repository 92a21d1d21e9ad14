#pragma once
/// What attention's kernels share: tiles of rows in shared memory and the matrix steps on them.
///
/// A block is kWarps warps; a warp has kTiles x 16 rows of its own (queries, or keys in the kernel
/// of dK and dV) and goes through the other side's rows kOther at a time, two tiles in flight.

#include <string>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/mask.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {

inline constexpr int kAttentionWarps = 4;
inline constexpr int kAttentionThreads = kAttentionWarps * 32;
/// Rows of a tile of the other side.
inline constexpr int kOther = 64;
inline constexpr float kLog2E = 1.4426950409F;
inline constexpr float kLn2 = 0.6931471806F;

/// Sixteen-row tiles a warp owns: two, so that what is read from shared memory serves two products;
/// at head size 128 the registers hold one.
template <int kHead>
inline constexpr int kTilesOf = kHead == 64 ? 2 : 1;
/// A block's own rows.
template <int kHead>
inline constexpr int kOwnOf = kAttentionWarps* kTilesOf<kHead> * 16;

/// Calls run.template operator()<head size, with dropout>().
template <class Run>
void with_head_size(const char* what, const AttentionShape& shape, Run run) {
  check_heads(what, shape);
  const bool drops = shape.mask.threshold != 0;
  if (shape.head_size == 64) {
    return drops ? run.template operator()<64, true>() : run.template operator()<64, false>();
  }
  if (shape.head_size == 128) {
    return drops ? run.template operator()<128, true>() : run.template operator()<128, false>();
  }
  gpu::fail(std::string(what) + ": head size must be 64 or 128, got " +
            std::to_string(shape.head_size));
}

/// Dropout of one head's probabilities.
struct ProbabilityMask {
  Mask mask;
  std::size_t first;  ///< row n H + h of the head's first query
  int heads;
  __device__ std::uint64_t key(int query) const {
    return row_key(mask, first + static_cast<std::size_t>(query) * heads);
  }
};
__device__ inline ProbabilityMask mask_of(const Mask& mask, int bh, int heads, int length) {
  const std::size_t row = static_cast<std::size_t>(bh / heads) * length;
  return {mask, row * heads + bh % heads, heads};
}

/// Rows of kHead bf16 in shared memory. The 16-byte pieces of row r lie permuted by r mod 8, so
/// that eight rows' piece p are in different banks.
template <int kHead>
struct Tile {
  Bf16* data;
  __device__ Bf16* at(int row, int piece) const {
    return data + row * kHead + (piece ^ (row & 7)) * 8;
  }
};

/// Queues the copies of rows [first, first + rows) of a (T, kHead) matrix; rows from T on are
/// zeros.
template <int kHead, int kRows>
__device__ inline void load_rows(Tile<kHead> to, const Bf16* from, std::size_t stride, int first,
                                 int length) {
  constexpr int kPieces = kHead / 8;
  static_assert(kRows * kPieces % kAttentionThreads == 0);
  GPU_UNROLL
  for (int i = 0; i < kRows * kPieces / kAttentionThreads; ++i) {
    const int at = i * kAttentionThreads + static_cast<int>(threadIdx.x);
    const int row = at / kPieces;
    const int piece = at % kPieces;
    const bool exists = first + row < length;
    gpu::copy_async_16(
        to.at(row, piece),
        from + static_cast<std::size_t>(exists ? first + row : 0) * stride + piece * 8,
        exists ? 16 : 0);
  }
}

/// The warp's rows [row, row + 16) of a tile, channels [16 k, 16 k + 16), as the left operand.
template <int kHead>
__device__ inline void load_left(std::uint32_t (&a)[4], Tile<kHead> tile, int row, int k) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  gpu::load_matrix_x4(a, tile.at(row + lane % 16, 2 * k + lane / 16));
}
/// Rows [row, row + 16) as two right operands of eight columns each, contracted over channels
/// [16 k, 16 k + 16): registers 0, 1 and 2, 3.
template <int kHead>
__device__ inline void load_right(std::uint32_t (&b)[4], Tile<kHead> tile, int row, int k) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  gpu::load_matrix_x4(b, tile.at(row + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
}
/// Rows [row, row + 16) contracted, channels [16 n, 16 n + 16) as two right operands.
template <int kHead>
__device__ inline void load_right_rows(std::uint32_t (&b)[4], Tile<kHead> tile, int row, int n) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  gpu::load_matrix_x4_transposed(b, tile.at(row + lane % 16, 2 * n + lane / 16));
}

/// Sixteen columns of a sum, rounded to bf16: what two result registers hold is what the left
/// operand of the next product wants.
__device__ inline void pack_left(std::uint32_t (&a)[4], const float (&low)[4],
                                 const float (&high)[4]) {
  a[0] = gpu::pack_bf16(low[0], low[1]);
  a[1] = gpu::pack_bf16(low[2], low[3]);
  a[2] = gpu::pack_bf16(high[0], high[1]);
  a[3] = gpu::pack_bf16(high[2], high[3]);
}

/// sums += left rows; `left` (kTiles x 16 rows, 16 k contracted), over rows [row, row + 16) of
/// `tile` and all channels.
template <int kHead, int kTiles>
__device__ inline void add_product(float (&sums)[kTiles][kHead / 8][4],
                                   const std::uint32_t (&left)[kTiles][4], Tile<kHead> tile,
                                   int row) {
  GPU_UNROLL
  for (int n = 0; n < kHead / 16; ++n) {
    std::uint32_t b[4];
    load_right_rows(b, tile, row, n);
    GPU_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      gpu::mma_bf16(sums[m][2 * n], left[m], b[0], b[1]);
      gpu::mma_bf16(sums[m][2 * n + 1], left[m], b[2], b[3]);
    }
  }
}

/// Writes the warp's kTiles x 16 rows of sums, times `factor` of each row, as bf16: through the
/// warp's own rows of `stage`, so that global memory sees 16 bytes a lane. Rows from `length` on
/// are left out. `to` is the first own row of the warp, which is row `first` of the sequence and
/// row `own` of the stage.
template <int kHead, int kTiles>
__device__ inline void write_rows(Bf16* to, std::size_t stride, Tile<kHead> stage, int own,
                                  const float (&sums)[kTiles][kHead / 8][4],
                                  const float (&factor)[kTiles][2], int first, int length) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int g = lane / 4;
  const int t = lane % 4;
  gpu::sync_warp();  // the warp has read what lay there
  GPU_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GPU_UNROLL
    for (int n = 0; n < kHead / 8; ++n) {
      GPU_UNROLL
      for (int half = 0; half < 2; ++half) {
        Bf16* place = stage.at(own + m * 16 + half * 8 + g, n) + 2 * t;
        *reinterpret_cast<std::uint32_t*>(place) = gpu::pack_bf16(
            sums[m][n][2 * half] * factor[m][half], sums[m][n][2 * half + 1] * factor[m][half]);
      }
    }
  }
  gpu::sync_warp();
  constexpr int kPieces = kHead / 8;
  GPU_UNROLL
  for (int i = 0; i < kTiles * 16 * kPieces / 32; ++i) {
    const int row = (i * 32 + lane) / kPieces;
    const int piece = (i * 32 + lane) % kPieces;
    if (first + row >= length) continue;
    *reinterpret_cast<uint4*>(to + static_cast<std::size_t>(row) * stride + piece * 8) =
        *reinterpret_cast<const uint4*>(stage.at(own + row, piece));
  }
}

}  // namespace kernels::cuda
