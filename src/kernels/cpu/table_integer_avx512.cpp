// Products of integers for avx512.

#include "kernels/cpu/integer.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_integer.inc"

#include "kernels/cpu/simd.inc"

#include "kernels/cpu/integer_avx512.inc"

#include "kernels/cpu/integer.inc"

namespace kernels::cpu {

extern constexpr IntegerTable kIntegerAvx512Table = {
    .name = "avx512", .round_rows = round_rows, .multiply = multiply_integers};

}  // namespace kernels::cpu
