// Thin products: whatever has R columns is packed or computed anew for each call, since it is
// small.

#include "kernels/cpu/low_rank.h"

#include <algorithm>

namespace kernels::cpu {

LowRank::Places LowRank::places(std::int64_t rows, std::int64_t inputs, std::int64_t outputs,
                                std::int64_t rank) const {
  constexpr std::size_t kLine = 64;  // the products read packed factors by whole lines
  const auto lines = [](std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; };
  Places at{};
  at.packed =
      lines(static_cast<std::size_t>(std::max(inputs, outputs) * rank) * size_of(DType::kF32));
  at.product = at.packed + lines(std::max(products_.packed_bytes(inputs, rank),
                                          products_.packed_bytes(outputs, rank)));
  at.end = at.product + static_cast<std::size_t>(rows * rank) * size_of(type_);
  return at;
}

std::size_t LowRank::scratch_bytes(std::int64_t rows, std::int64_t inputs, std::int64_t outputs,
                                   std::int64_t rank) const {
  const std::size_t theirs = std::max({products_.scratch_bytes(rows, inputs, rank, false),
                                       products_.scratch_bytes(rows, outputs, rank, false),
                                       products_.scratch_bytes(inputs, rows, rank, true),
                                       products_.scratch_bytes(rank, rows, outputs, true)});
  return places(rows, inputs, outputs, rank).end + theirs;
}

/// In `memory`: x (scale factor), (N, R) in A, which is returned. factor: (columns of x, R), or its
/// transpose.
const void* LowRank::thin_product(std::byte* memory, const Places& at, ConstView x,
                                  ConstView factor, bool transposed, float scale) {
  const std::int64_t inputs = x.dim(1), rank = factor.dim(transposed ? 0 : 1);
  auto* scaled = reinterpret_cast<float*>(memory);
  for (std::int64_t i = 0; i < factor.elements(); ++i) scaled[i] = scale * factor.f32()[i];
  products_.pack(memory + at.packed, scaled, inputs, rank, transposed);
  products_.multiply({.c = memory + at.product,
                      .c_type = type_,
                      .a = x.data(),
                      .packed = memory + at.packed,
                      .bias = nullptr,
                      .after = After::kNone,
                      .pre = nullptr,
                      .m = x.dim(0),
                      .k = inputs,
                      .n = rank});
  return memory + at.product;
}

void LowRank::backward(View da, View db, ConstView dout, ConstView inp, ConstView a, ConstView b,
                       float scale) {
  const Places at = places(inp.dim(0), inp.dim(1), dout.dim(1), a.dim(1));
  auto* memory = static_cast<std::byte*>(scratch_.take(at.end));
  const auto add = [&](const View& sum, const void* left, const void* right) {
    products_.add_transposed({.c = sum.f32(),
                              .add = true,
                              .column_sums = nullptr,
                              .a = left,
                              .b = right,
                              .m = sum.dim(0),
                              .k = inp.dim(0),
                              .n = sum.dim(1)});
  };
  if (!db.empty()) add(db, thin_product(memory, at, inp, a, false, scale), dout.data());
  if (!da.empty()) add(da, inp.data(), thin_product(memory, at, dout, b, true, scale));
}

}  // namespace kernels::cpu
