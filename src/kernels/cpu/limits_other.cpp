// Processors other than x86-64: one table.

#include "kernels/cpu/limits.h"

namespace kernels::cpu {

std::vector<const LimitsTable*> limits_tables(Isa /*most*/) { return {&kLimitsGenericTable}; }

}  // namespace kernels::cpu
