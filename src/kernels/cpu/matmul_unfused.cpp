// Epilogues as passes after a product.

#include <algorithm>

#include "base/parallel.h"
#include "kernels/cpu/matmul.h"

namespace kernels::cpu {
namespace {

/// Elements of a task of an elementwise pass.
constexpr std::int64_t kElements = 16 * 1024;
/// Rows whose contributions to a sum over rows are added up first.
constexpr std::int64_t kSumRows = 64;

std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

}  // namespace

void UnfusedProducts::multiply(const Multiplication& op) {
  const bool gelu = op.after == After::kGelu;
  void* z = gelu && op.pre != nullptr ? op.pre : op.c;
  multiply(z, op.c_type, op.a, op.packed, op.bias, op.m, op.k, op.n);
  if (op.after == After::kNone) return;
  const std::int64_t count = op.m * op.n;
  base::parallel_for(parts(count, kElements), [&](std::int64_t part) {
    const std::int64_t begin = part * kElements;
    const std::int64_t end = std::min(begin + kElements, count);
    if (gelu) {
      kernels_.gelu_forward(op.c, z, begin, end);
    } else {
      kernels_.gelu_backward(op.c, op.pre, begin, end);
    }
  });
}

void UnfusedProducts::add_transposed(const TransposedMultiplication& op) {
  if (!op.add) std::fill_n(op.c, op.m * op.n, 0.0F);
  add_transposed(op.c, op.a, op.b, op.m, op.k, op.n);
  if (op.column_sums == nullptr) return;
  const std::int64_t count = parts(op.k, kSumRows);
  float* sums = sums_.take_floats(static_cast<std::size_t>(count * op.n));
  base::parallel_for(count, [&](std::int64_t part) {
    kernels_.column_sums(sums + part * op.n, op.b, op.n, part * kSumRows,
                         std::min((part + 1) * kSumRows, op.k));
  });
  for (std::int64_t part = 1; part < count; ++part) {
    table_.accumulate(sums, sums + part * op.n, op.n);
  }
  if (op.add) {
    table_.accumulate(op.column_sums, sums, op.n);
  } else {
    std::copy_n(sums, op.n, op.column_sums);
  }
}

}  // namespace kernels::cpu
