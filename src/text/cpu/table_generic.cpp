// The room's loops for any processor.

#include "text/cpu/table.h"

#include "text/cpu/simd_generic.inc"

#include "text/cpu/cut.inc"

#include "text/cpu/merge.inc"

#include "text/cpu/lookup.inc"

namespace text::cpu {

extern constexpr Kernels kGenericTable = {.name = "generic",
                                          .encode = encode,
                                          .cut = cut,
                                          .merge = merge,
                                          .merge_medium = merge_medium,
                                          .rank = rank_of,
                                          .seed = seed};

}  // namespace text::cpu
