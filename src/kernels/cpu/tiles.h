#pragma once
/// Kernels of bf16 products on weights packed in tiles, one table per instruction set that
/// multiplies bf16 itself. Who calls them cuts the work: matmul_tiles.cpp.
///
/// Packed form of b (k, n), both padded with zeros to multiples of 32: panels of 32 columns, one
/// after another; in a panel, for each 32 of k, two tiles of 1 KiB (columns 0-15 and 16-31); a tile
/// has 16 rows of 64 bytes, and row r holds for each of 16 columns the pair b(2r, j), b(2r + 1, j).
/// Source of the pairs: the operand of TDPBF16PS and VDPBF16PS, Intel's SDM, volume 2.
///
/// Law: an element of a product is a sum over k in ascending order by one instruction, whatever
/// the number of rows and however the work is cut. No inline code of others here (table.h).

#include <cstdint>

#include "kernels/cpu/table.h"

namespace kernels::cpu {

/// Columns of a panel, and the multiple to which k is padded.
inline constexpr std::int64_t kTile = 32;
/// Bytes of `kTile` of k of a panel.
inline constexpr std::int64_t kTilePairBytes = 2 * 1024;
/// Source rows of pack_stripe().
inline constexpr std::int64_t kTileStripe = 64;

/// c (m, n) = after(a (m, k) b + bias), as Multiplication in matmul.h.
struct TileProduct {
  void* c;
  const void* a;
  const void* packed;
  const float* bias;
  void* pre;
  std::int64_t m;
  std::int64_t k;
  std::int64_t n;
  After after;
  std::int64_t a_stride;     ///< elements from row to row of a; k, but for a slice of a long sum
  std::int64_t panel_bytes;  ///< from panel to panel of b
  bool c_is_f32;
  bool add;     ///< c += a b; f32 only
  bool stream;  ///< c and pre are too large for caches: write past them; rows of whole lines
};

/// c (m, n) f32 = or += a^T b.
struct TileTransposedProduct {
  float* c;
  const void* a;       ///< (k, m)
  const void* b;       ///< (k, n)
  float* column_sums;  ///< (n), or null
  std::int64_t m;
  std::int64_t k;
  std::int64_t n;
  bool add;
};

/// A part of c.
struct TilePart {
  std::int64_t row;
  std::int64_t rows;
  std::int64_t column;  ///< a multiple of kTile
  std::int64_t columns;
};

/// How c is cut into parts whose operands stay in L2.
struct TileCuts {
  /// Parts are cut at multiples of so many rows.
  std::int64_t rows;
  /// Of a product: rows of a part, at most so many bytes of a, stay while all of b passes. 0:
  /// columns of b do, while all rows pass.
  std::int64_t row_bytes;
  std::int64_t column_bytes;
  /// Of a transposed product: columns, and elements of c.
  std::int64_t transposed_columns;
  std::int64_t transposed_elements;
};

struct TileTable {
  const char* name;
  TileCuts cuts;
  /// packed = rows [begin, end) of the source, as Products::pack_stripe.
  void (*pack_stripe)(void* packed, const float* source, std::int64_t k, std::int64_t n,
                      bool transposed, std::int64_t begin, std::int64_t end);
  /// Bytes of scratch, a multiple of 64 and aligned to 64, for a part of so many rows and columns.
  std::int64_t (*multiply_scratch)(std::int64_t k, std::int64_t rows, std::int64_t columns);
  void (*multiply)(const TileProduct& op, const TilePart& part, void* scratch);
  /// The same for a^T b.
  std::int64_t (*transposed_scratch)(std::int64_t rows, std::int64_t columns);
  void (*add_transposed)(const TileTransposedProduct& op, const TilePart& part, void* scratch);
};

extern const TileTable kAmxTilesTable;
extern const TileTable kDotTilesTable;  ///< AVX512_BF16

}  // namespace kernels::cpu
