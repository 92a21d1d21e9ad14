#pragma once
/// Which of the room's instruction sets runs: the strongest, or what GPT2_CPU_ISA allows.

#include <vector>

#include "text/cpu/table.h"

namespace text::cpu {

/// What this processor and this build can run, weakest first.
std::vector<const Kernels*> available_kernels();

/// The strongest of them up to GPT2_CPU_ISA's (the names of the kernels room; those beyond avx512
/// have nothing that a tokenizer needs). Throws Error when that is unknown or not available.
const Kernels& chosen_kernels();

namespace detail {
/// All that this processor has, weakest first: isa_x86.cpp, or isa_other.cpp elsewhere.
std::vector<const Kernels*> kernels_of_processor();
}  // namespace detail

}  // namespace text::cpu
