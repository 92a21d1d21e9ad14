// Processors other than x86-64: one table.

#include "kernels/cpu/isa.h"

namespace kernels::cpu::detail {

Isa strongest_isa() { return Isa::kGeneric; }

const KernelTable& table_up_to(Isa /*isa*/) { return kGenericTable; }

const IntegerTable& integer_table_up_to(Isa /*isa*/) { return kIntegerGenericTable; }

const AttentionKernels* amx_attention() { return nullptr; }

const TileTable* tiles_up_to(Isa /*isa*/) { return nullptr; }

}  // namespace kernels::cpu::detail
