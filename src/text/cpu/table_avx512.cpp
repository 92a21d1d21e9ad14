// The room's loops for AVX-512 with VBMI2 (Ice Lake, Zen 4 and later).

#include "text/cpu/table.h"

#include "text/cpu/simd_avx512.inc"

#include "text/cpu/cut.inc"

#include "text/cpu/merge.inc"

#include "text/cpu/lookup.inc"

namespace text::cpu {

extern constexpr Kernels kAvx512Table = {.name = "avx512",
                                         .encode = encode,
                                         .cut = cut,
                                         .merge = merge,
                                         .merge_medium = merge_medium,
                                         .rank = rank_of,
                                         .seed = seed};

}  // namespace text::cpu
