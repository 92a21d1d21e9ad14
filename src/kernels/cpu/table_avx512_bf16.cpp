// The kernels for AVX-512 with BF16 (Cooper Lake, Sapphire Rapids, Zen 4 and later).

#include "kernels/cpu/table.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_avx512.inc"

#include "kernels/cpu/pointwise_bf16.inc"

#include "kernels/cpu/table.inc"

#include "kernels/cpu/attention_product_dot.inc"

#include "kernels/cpu/attention_bf16_backward.inc"

namespace kernels::cpu {

namespace {

constexpr KernelTable with_bf16_attention(KernelTable table) {
  table.bf16.attention = kBf16Attention;
  return table;
}

}  // namespace

extern constexpr KernelTable kAvx512Bf16Table = with_bf16_attention(make_table("avx512_bf16"));

}  // namespace kernels::cpu
