// Processors other than x86-64: one table.

#include "text/cpu/isa.h"

namespace text::cpu::detail {

std::vector<const Kernels*> kernels_of_processor() { return {&kGenericTable}; }

}  // namespace text::cpu::detail
