// Products of integers for AVX512_VNNI, which every processor with AVX512_BF16 has.

#include "kernels/cpu/integer.h"

#include "kernels/cpu/simd_avx512.inc"

#include "kernels/cpu/bf16_avx512.inc"

#include "kernels/cpu/simd.inc"

#include "kernels/cpu/integer_vnni.inc"

#include "kernels/cpu/integer.inc"

#include "kernels/cpu/integer_nibbles.inc"

namespace kernels::cpu {
namespace {

void multiply(const IntegerProduct& op, Index row_begin, Index row_end, Index panel_begin,
              Index panel_end, void* scratch) {
  if (takes_nibbles(op, row_end - row_begin)) {
    return multiply_nibbles(op, row_begin, row_end, panel_begin, panel_end);
  }
  multiply_integers(op, row_begin, row_end, panel_begin, panel_end, scratch);
}

}  // namespace

extern constexpr IntegerTable kIntegerVnniTable = {
    .name = "avx512_vnni", .round_rows = round_rows, .multiply = multiply};

}  // namespace kernels::cpu
