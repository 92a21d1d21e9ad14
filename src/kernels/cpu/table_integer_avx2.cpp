// Products of integers for avx2.

#include "kernels/cpu/integer.h"

#include "kernels/cpu/simd_avx2.inc"

#include "kernels/cpu/simd.inc"

#include "kernels/cpu/integer_avx2.inc"

#include "kernels/cpu/integer.inc"

namespace kernels::cpu {

extern constexpr IntegerTable kIntegerAvx2Table = {
    .name = "avx2", .round_rows = round_rows, .multiply = multiply_integers};

}  // namespace kernels::cpu
