// The kernels of bf16 products for AVX512_BF16 (Cooper Lake, Zen 4 and later).

#include "kernels/cpu/tiles.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_avx512.inc"

#include "kernels/cpu/tiles_dot.inc"

namespace kernels::cpu {

extern constexpr TileTable kDotTilesTable = {
    .name = "avx512_bf16",
    // An L2 cache of 1 MiB holds a part's rows beside the panels that pass, or its sums beside
    // pieces of both operands.
    .cuts = {.rows = kDotRows,
             .row_bytes = 512 << 10,
             .column_bytes = 0,
             .transposed_columns = 384,
             .transposed_elements = 264 * 384},
    .pack_stripe = pack_stripe,
    .multiply_scratch = multiply_scratch,
    .multiply = multiply,
    .transposed_scratch = transposed_scratch,
    .add_transposed = add_transposed,
};

}  // namespace kernels::cpu
