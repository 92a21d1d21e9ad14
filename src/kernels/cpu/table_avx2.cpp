// The kernels for AVX2, FMA and F16C (Haswell, Zen and later).

#include "kernels/cpu/table.h"

#include "kernels/cpu/simd_avx2.inc"

#include "kernels/cpu/table.inc"

namespace kernels::cpu {

extern constexpr KernelTable kAvx2Table = make_table("avx2");

}  // namespace kernels::cpu
