// The kernels of bf16 products for AMX (Sapphire Rapids and later).

#include "kernels/cpu/tiles.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_avx512.inc"

#include "kernels/cpu/tiles_amx.inc"

namespace kernels::cpu {

extern constexpr TileTable kAmxTilesTable = {
    .name = "amx",
    .cuts = {.rows = kTile,
             .row_bytes = 0,
             .column_bytes = 800 << 10,
             .transposed_columns = 512,
             .transposed_elements = 384 * 384},
    .pack_stripe = pack_stripe,
    .multiply_scratch = multiply_scratch,
    .multiply = multiply,
    .transposed_scratch = transposed_scratch,
    .add_transposed = add_transposed,
};

}  // namespace kernels::cpu
