// Limits of AVX512_BF16: dot products of two bf16 (Cooper Lake, Sapphire Rapids, Zen 4 and later).

#include <immintrin.h>

#include "kernels/cpu/limits_table.h"

#include "kernels/cpu/limits_use.inc"

namespace kernels::cpu {
namespace {

constexpr int kSums = 16;

void run_bf16(std::int64_t rounds) {
  __m512 sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));  // 1
  const auto b = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3a80));  // 2^-10
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) use(sums[i]);
}

}  // namespace

extern constexpr LimitsTable kLimitsAvx512Bf16Table = {
    .f32 = {}, .bf16 = {run_bf16, 2.0 * kSums * 32}, .int8 = {}, .read = nullptr};

}  // namespace kernels::cpu
