#pragma once
/// Which of the loops this processor can run.

#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/limits_table.h"

namespace kernels::cpu {

/// The tables that run on this processor, none above `most`, weakest first: limits_x86.cpp, or
/// limits_other.cpp elsewhere.
std::vector<const LimitsTable*> limits_tables(Isa most);

}  // namespace kernels::cpu
