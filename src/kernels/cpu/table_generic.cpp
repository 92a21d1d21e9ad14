// The kernels for any processor.

#include "kernels/cpu/table.h"

#include "kernels/cpu/simd_generic.inc"

#include "kernels/cpu/table.inc"

namespace kernels::cpu {

extern constexpr KernelTable kGenericTable = make_table("generic");

}  // namespace kernels::cpu
