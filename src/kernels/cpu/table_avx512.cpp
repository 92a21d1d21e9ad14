// The kernels for AVX-512 F, BW, DQ, VL (Skylake-SP and later).

#include "kernels/cpu/table.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_integer.inc"

#include "kernels/cpu/table.inc"

namespace kernels::cpu {

extern constexpr KernelTable kAvx512Table = make_table("avx512");

}  // namespace kernels::cpu
