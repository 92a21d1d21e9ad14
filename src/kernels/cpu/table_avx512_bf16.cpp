// The kernels for AVX-512 with BF16 (Cooper Lake, Sapphire Rapids, Zen 4 and later).

#include "kernels/cpu/table.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_avx512.inc"

#include "kernels/cpu/table.inc"

namespace kernels::cpu {

extern constexpr KernelTable kAvx512Bf16Table = make_table("avx512_bf16");

}  // namespace kernels::cpu
