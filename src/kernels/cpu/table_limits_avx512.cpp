// Limits of AVX-512 F, BW, DQ, VL.

#include "kernels/cpu/limits_table.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_integer.inc"

#include "kernels/cpu/limits.inc"

namespace kernels::cpu {

extern constexpr LimitsTable kLimitsAvx512Table = {
    .f32 = {run_f32, kF32Operations}, .bf16 = {}, .int8 = {}, .read = read_memory};

}  // namespace kernels::cpu
