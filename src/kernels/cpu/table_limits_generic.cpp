// Limits of any processor.

#include "kernels/cpu/limits_table.h"

#include "kernels/cpu/simd_generic.inc"

#include "kernels/cpu/limits.inc"

namespace kernels::cpu {

extern constexpr LimitsTable kLimitsGenericTable = {
    .f32 = {run_f32, kF32Operations}, .bf16 = {}, .int8 = {}, .read = read_memory};

}  // namespace kernels::cpu
