#pragma once
/// Which instruction set runs: what the processor has, capped by GPT2_CPU_ISA.

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "kernels/cpu/integer.h"
#include "kernels/cpu/table.h"
#include "kernels/cpu/tiles.h"

namespace kernels::cpu {

/// Weakest first; each includes those before it.
enum class Isa : std::uint8_t {
  kGeneric,     ///< "generic": any processor
  kAvx2,        ///< "avx2": AVX2, FMA, F16C
  kAvx512,      ///< "avx512": AVX-512 F, BW, DQ, VL
  kAvx512Bf16,  ///< "avx512_bf16": and AVX512_BF16, bf16 dot products
  kAmx,         ///< "amx": and AMX tiles of bf16
};

std::string_view name_of(Isa isa);

/// What this processor, this system and this build can run, weakest first.
std::vector<Isa> available_isas();

/// The strongest of them, or GPT2_CPU_ISA's. Throws Error when that is unknown or not available.
Isa chosen_isa();

/// The kernels for an available instruction set.
const KernelTable& table_for(Isa isa);
/// The products of integers for it.
const IntegerTable& integer_table_for(Isa isa);

/// Its attention for operands of `type`, f32 or bf16.
const AttentionKernels& attention_for(Isa isa, base::DType type);

namespace detail {
/// What processor and system can run: isa_x86.cpp, or isa_other.cpp elsewhere.
Isa strongest_isa();
const KernelTable& table_up_to(Isa isa);
const IntegerTable& integer_table_up_to(Isa isa);
/// Attention of bf16 on AMX; null where this build has none.
const AttentionKernels* amx_attention();
/// The kernels of bf16 products on tiles; null where there are none.
const TileTable* tiles_up_to(Isa isa);
}  // namespace detail

}  // namespace kernels::cpu
