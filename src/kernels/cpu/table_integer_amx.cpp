// Products of integers for AMX: tiles of 16 rows or outputs by 64 inputs, sums in tiles of 16 x 16.
// A panel of 16 outputs is stored as its tiles one after another.

#include "kernels/cpu/integer.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_avx512.inc"

#include "kernels/cpu/simd.inc"

#include "kernels/cpu/integer_vnni.inc"

#include "kernels/cpu/integer.inc"

#include "kernels/cpu/integer_nibbles.inc"

namespace kernels::cpu {
namespace {

/// Up to this many rows the weights' memory is the limit, and vectors are as fast as tiles.
constexpr Index kVectorRows = 4;
constexpr Index kTile = 16;
constexpr Index kTileInputs = 64;
constexpr Index kTileBytes = 1024;
constexpr Index kSumsStride = 2 * kPanel;

/// How LDTILECFG wants its 64 bytes. Source: Intel SDM volume 1, section 18.3.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// The tiles' instructions do not tell the compiler which memory they touch.
inline void settle_memory() { asm volatile("" ::: "memory"); }

/// finish_panel() for rows [begin, end) of two whole panels with a bias, both loaded once.
inline void finish_pairs(const IntegerProduct& op, const std::int32_t* sums, Index row,
                         Index output, Index begin, Index end) {
  const F32 scales[2] = {load(op.scales + output), load(op.scales + output + kPanel)};
  const F32 biases[2] = {load(op.bias + output), load(op.bias + output + kPanel)};
  for (Index r = begin; r < end; ++r) {
    const F32 row_scale = splat(op.row_scales[row + r]);
    const I32 zero_point = I32{} + 128 * op.row_sums[row + r];
    for (int p = 0; p < 2; ++p) {
      const auto* from = reinterpret_cast<const I32*>(sums + r * kSumsStride + p * kPanel);
      const F32 value = __builtin_convertvector(*from - zero_point, F32) * scales[p] * row_scale;
      finish_value(op, value + biases[p], row + r, output + p * kPanel, Whole{});
    }
  }
}

/// Sums that wait to be finished while the next tiles are computed: tiles and vectors work side by
/// side only where their instructions alternate.
struct Pending {
  const std::int32_t* sums = nullptr;  // (rows, kSumsStride)
  Index row = 0;
  Index panel = 0;
  Index panels = 1;
  Index next = 0;
  Index rows = 0;

  /// Finishes up to `wanted` of the rows that are left.
  void advance(const IntegerProduct& op, Index wanted) {
    if (panels == 2 && op.bias != nullptr && (panel + 2) * kPanel <= op.outputs) {
      const Index end = next + wanted < rows ? next + wanted : rows;
      finish_pairs(op, sums, row, panel * kPanel, next, end);
      next = end;
      return;
    }
    for (; wanted > 0 && next < rows; --wanted, ++next) {
      finish_panel(op, sums + next * kSumsStride, row + next, panel);
      if (panels == 2) finish_panel(op, sums + next * kSumsStride + kPanel, row + next, panel + 1);
    }
  }
};

/// 16 A rows by 16 B outputs into `sums`.
template <int A, int B, bool kStream>
inline void multiply_tiles(const IntegerProduct& op, const std::int8_t* rows,
                           const std::uint8_t* weights, std::int32_t* sums, Pending& pending) {
  const Index panel_bytes = kPanel * op.depth;
  const Index steps = op.depth / kTileInputs;
  const Index share = (pending.rows + steps - 1) / steps;
  settle_memory();
  _tile_zero(0);
  if constexpr (B == 2) _tile_zero(1);
  if constexpr (A == 2) _tile_zero(2);
  if constexpr (A == 2 && B == 2) _tile_zero(3);
  for (Index step = 0; step < steps; ++step) {
    const std::int8_t* a = rows + step * kTileInputs;
    const std::uint8_t* b = weights + step * kTileBytes;
    if constexpr (kStream) {
      for (Index line = 0; line < kTileBytes; line += 64) __builtin_prefetch(b + kAhead + line);
    }
    _tile_loadd(4, a, op.depth);
    _tile_loadd(6, b, 64);
    _tile_dpbsud(0, 4, 6);
    if constexpr (B == 2) {
      _tile_loadd(7, b + panel_bytes, 64);
      _tile_dpbsud(1, 4, 7);
    }
    if constexpr (A == 2) {
      _tile_loadd(5, a + kTile * op.depth, op.depth);
      _tile_dpbsud(2, 5, 6);
    }
    if constexpr (A == 2 && B == 2) _tile_dpbsud(3, 5, 7);
    pending.advance(op, share);
  }
  settle_memory();
  constexpr int kBytes = kSumsStride * 4;
  _tile_stored(0, sums, kBytes);
  if constexpr (B == 2) _tile_stored(1, sums + kPanel, kBytes);
  if constexpr (A == 2) _tile_stored(2, sums + kTile * kSumsStride, kBytes);
  if constexpr (A == 2 && B == 2) _tile_stored(3, sums + kTile * kSumsStride + kPanel, kBytes);
  settle_memory();
}

/// All rows with one panel or two.
template <int B, bool kStream>
inline void multiply_panels(const IntegerProduct& op, Index row_begin, Index row_end, Index panel,
                            const std::uint8_t* weights, std::int32_t* sums, Pending& pending) {
  for (Index row = row_begin; row < row_end; row += 2 * kTile) {
    const Index rows = row_end - row < 2 * kTile ? row_end - row : 2 * kTile;
    // Two blocks of sums take turns.
    std::int32_t* to = pending.sums == sums ? sums + kRowUnit * kSumsStride : sums;
    const std::int8_t* from = op.rows + row * op.depth;
    if (rows > kTile) {
      multiply_tiles<2, B, kStream>(op, from, weights, to, pending);
    } else {
      multiply_tiles<1, B, kStream>(op, from, weights, to, pending);
    }
    pending = {.sums = to, .row = row, .panel = panel, .panels = B, .next = 0, .rows = rows};
  }
}

void multiply(const IntegerProduct& op, Index row_begin, Index row_end, Index panel_begin,
              Index panel_end, void* scratch) {
  const Index rows = row_end - row_begin;
  if (takes_nibbles(op, rows)) {
    return multiply_nibbles(op, row_begin, row_end, panel_begin, panel_end);
  }
  if (rows <= kVectorRows) {
    return multiply_integers(op, row_begin, row_end, panel_begin, panel_end, scratch);
  }
  const TileShapes shapes;
  settle_memory();
  _tile_loadconfig(&shapes);
  const Index bytes = kPanel * op.depth;
  auto* unpacked = static_cast<std::uint8_t*>(scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(unpacked + 2 * bytes);
  const bool stream = rows <= kStreamRows && op.steps == nullptr;
  Pending pending;
  if (!stream && op.steps == nullptr) {
    // 32 rows stay in L1 while the panels stream past from L2.
    for (Index row = row_begin; row < row_end; row += 2 * kTile) {
      const Index end = row_end - row < 2 * kTile ? row_end : row + 2 * kTile;
      for (Index panel = panel_begin; panel < panel_end; panel += 2) {
        const std::uint8_t* weights = op.values + panel * bytes;
        if (panel + 1 == panel_end) {
          multiply_panels<1, false>(op, row, end, panel, weights, sums, pending);
        } else {
          multiply_panels<2, false>(op, row, end, panel, weights, sums, pending);
        }
      }
    }
    pending.advance(op, pending.rows);
    _tile_release();
    return;
  }
  for (Index panel = panel_begin; panel < panel_end; panel += 2) {
    const std::uint8_t* weights = panel_weights(op, panel, unpacked);
    if (stream) {
      multiply_panels<1, true>(op, row_begin, row_end, panel, weights, sums, pending);
      if (panel + 1 == panel_end) break;
      multiply_panels<1, true>(op, row_begin, row_end, panel + 1, weights + bytes, sums, pending);
    } else if (panel + 1 == panel_end) {
      multiply_panels<1, false>(op, row_begin, row_end, panel, weights, sums, pending);
    } else {
      panel_weights(op, panel + 1, unpacked + bytes);
      multiply_panels<2, false>(op, row_begin, row_end, panel, weights, sums, pending);
    }
  }
  pending.advance(op, pending.rows);
  _tile_release();
}

}  // namespace

extern constexpr IntegerTable kIntegerAmxTable = {
    .name = "amx", .round_rows = round_rows, .multiply = multiply};

}  // namespace kernels::cpu
