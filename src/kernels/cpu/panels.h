#pragma once
/// Kernels of products by f32 FMA over packed panels. Who calls them cuts the work over threads:
/// matmul_panels.cpp.
///
/// Packed form of b (k, n) in A, n padded with zeros to whole panels: panels of PanelKernels'
/// `columns` columns, one after another; a panel is (k, columns), row-major.
/// Packed form of some rows of a (rows, depth), f32: tiles one after another, tile t of
/// panel_tiles() has rows [rows * t / tiles, rows * (t + 1) / tiles) and is (depth, its rows): the
/// factors of one k side by side.
///
/// Law: an element is (s_0 + s_1) + s_2 + ..., s_i being the chain of fused multiply-adds over k in
/// [i * kPanelDepth, (i + 1) * kPanelDepth) from zero: one order whatever the number of rows and
/// however the work is cut, and far fewer roundings than one chain. No inline code of others here
/// (table.h).

#include <cstdint>

#include "kernels/cpu/after.h"

namespace kernels::cpu {

/// Of k, summed in registers at a time: a piece of a panel, 32 KiB with AVX-512, stays in L1.
inline constexpr std::int64_t kPanelDepth = 256;
/// Source rows of pack_stripe(), a multiple of every table's `columns`.
inline constexpr std::int64_t kPanelStripe = 64;

/// Rows of memory that are packed into one panel before the next: the rows after them are fetched
/// meanwhile.
inline constexpr std::int64_t kPanelPackRows = 16;

/// Rows of a packed times columns of b packed, over a stretch of k.
struct PanelBlock {
  /// Sums so far (rows, columns); with f32 results c itself. Whole panels wide, unless it is c.
  float* sums;
  std::int64_t sums_stride;
  const float* a;             ///< packed rows, from the stretch's first k
  const void* b;              ///< the first panel, from the stretch's first k
  std::int64_t panel_stride;  ///< elements from panel to panel
  bool b_is_f32;              ///< otherwise A
  float* widened;             ///< kPanelDepth rows of a panel, where b is not f32
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t depth;
  bool add;   ///< to the sums that are there
  bool last;  ///< sums are complete after this: the rest applies
  void* c;    ///< f32 or A; may be sums
  bool c_is_f32;
  std::int64_t c_stride;
  const float* bias;  ///< of these columns, or null
  void* pre;          ///< A, stride c_stride, or null
  After after;
};

/// The packed source's position in b: rows [begin, end) of b (k, n) f32, or of its transpose.
struct PanelStripe {
  void* packed;
  const float* source;
  std::int64_t k;
  std::int64_t n;
  bool transposed;
  std::int64_t begin;
  std::int64_t end;
};

/// Kernels whose operands are stored as A.
struct PanelKernels {
  std::int64_t columns;    ///< of a panel
  std::int64_t tile_rows;  ///< at most
  /// packed = rows of a (rows, depth), row-major with `stride`.
  void (*pack_rows)(float* packed, const void* a, std::int64_t stride, std::int64_t rows,
                    std::int64_t depth);
  /// The same of a matrix that lies transposed, (depth, rows).
  void (*pack_rows_transposed)(float* packed, const void* a, std::int64_t stride, std::int64_t rows,
                               std::int64_t depth);
  /// panel (depth, columns) f32 = columns [0, count) of b (depth, count), row-major with `stride`,
  /// zeros beside them. sums (count) += column sums, unless null.
  void (*pack_panel)(float* panel, const void* b, std::int64_t stride, std::int64_t depth,
                     std::int64_t count, float* sums);
  /// As Products::pack_stripe.
  void (*pack_stripe)(const PanelStripe& op);
  /// out (k) = column `column` of b, widened to f32.
  void (*unpack_column)(float* out, const void* packed, std::int64_t k, std::int64_t column);
  void (*multiply)(const PanelBlock& op);
};

/// Tiles of packed rows.
constexpr std::int64_t panel_tiles(std::int64_t rows, std::int64_t tile_rows) {
  return (rows + tile_rows - 1) / tile_rows;
}

}  // namespace kernels::cpu
