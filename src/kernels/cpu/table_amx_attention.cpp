// Attention of bf16 on AMX tiles, for processors that have them (Sapphire Rapids and later).

#include "kernels/cpu/table.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_avx512.inc"

#include "kernels/cpu/attention_product_amx.inc"

#include "kernels/cpu/attention_bf16_backward.inc"

namespace kernels::cpu {

extern constexpr AttentionKernels kAmxAttentionTable = kBf16Attention;

}  // namespace kernels::cpu
