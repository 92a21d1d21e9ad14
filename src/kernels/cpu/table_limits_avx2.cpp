// Limits of AVX2 with FMA. Its int8 sums go through 16 bits: multiply pairs, widen, add.

#include "kernels/cpu/limits_table.h"

#include "kernels/cpu/simd_avx2.inc"

#include "kernels/cpu/limits.inc"

namespace kernels::cpu {
namespace {

constexpr int kInt8Sums = 6;

void run_int8(std::int64_t rounds) {
  __m256i sums[kInt8Sums];
  for (int i = 0; i < kInt8Sums; ++i) sums[i] = _mm256_set1_epi32(i);
  const __m256i values = _mm256_set1_epi8(2);
  const __m256i weights = _mm256_set1_epi8(1);
  const __m256i ones = _mm256_set1_epi16(1);
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 6
    for (int i = 0; i < kInt8Sums; ++i) {
      __m256i own = values;
      asm volatile("" : "+x"(own));  // else its product would be made once, before the loop
      const __m256i pairs = _mm256_maddubs_epi16(own, weights);
      sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kInt8Sums; ++i) use(sums[i]);
}

}  // namespace

extern constexpr LimitsTable kLimitsAvx2Table = {.f32 = {run_f32, kF32Operations},
                                                 .bf16 = {},
                                                 .int8 = {run_int8, 2.0 * kInt8Sums* kVectorBytes},
                                                 .read = read_memory};

}  // namespace kernels::cpu
