// Limits of AVX512_VNNI: dot products of four int8 (Cascade Lake, Ice Lake, Zen 4 and later).

#include <immintrin.h>

#include "kernels/cpu/limits_table.h"

#include "kernels/cpu/limits_use.inc"

namespace kernels::cpu {
namespace {

constexpr int kSums = 12;

void run_int8(std::int64_t rounds) {
  __m512i sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(1);
  const __m512i b = _mm512_set1_epi8(2);
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i) use(sums[i]);
}

}  // namespace

extern constexpr LimitsTable kLimitsVnniTable = {
    .f32 = {}, .bf16 = {}, .int8 = {run_int8, 2.0 * kSums * 64}, .read = nullptr};

}  // namespace kernels::cpu
