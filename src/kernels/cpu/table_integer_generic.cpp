// Products of integers for generic.

#include "kernels/cpu/integer.h"

#include "kernels/cpu/simd_generic.inc"

#include "kernels/cpu/simd.inc"

#include "kernels/cpu/integer_plain.inc"

#include "kernels/cpu/integer.inc"

namespace kernels::cpu {

extern constexpr IntegerTable kIntegerGenericTable = {
    .name = "generic", .round_rows = round_rows, .multiply = multiply_integers};

}  // namespace kernels::cpu
