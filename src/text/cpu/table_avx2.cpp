// The room's loops for AVX2 (Haswell, Zen and later).

#include "text/cpu/table.h"

#include "text/cpu/simd_avx2.inc"

#include "text/cpu/cut.inc"

#include "text/cpu/merge.inc"

#include "text/cpu/lookup.inc"

namespace text::cpu {

extern constexpr Kernels kAvx2Table = {.name = "avx2",
                                       .encode = encode,
                                       .cut = cut,
                                       .merge = merge,
                                       .merge_medium = merge_medium,
                                       .rank = rank_of,
                                       .seed = seed};

}  // namespace text::cpu
