// Products with weights of 8 and 4 bits. Law: sums of integers are exact, so that a result depends
// neither on the instruction set nor on the rows beside it; docs of WeightFormat say which numbers.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/matmul.h"
#include "kernels/quantized.h"

namespace kernels::cpu {
namespace {

using base::Bf16;
using base::DType;

class IntegerProducts final : public Products {
 public:
  IntegerProducts(WeightFormat format, WeightOrder order, const KernelTable& table)
      : format_(format), order_(order), kernels_(table.bf16) {}

  std::string description() const override {
    return "own " + std::string(name_of(format_)) + " products";
  }
  std::size_t packed_bytes(std::int64_t k, std::int64_t n) const override {
    return layout(k, n).bytes;
  }
  void pack(std::byte* packed, const float* source, std::int64_t k, std::int64_t n,
            bool transposed) override {
    quantize_weight(packed, layout(k, n), source,
                    transposed ? WeightOrder::kOutIn : WeightOrder::kInOut);
  }
  bool can_unpack() const override { return true; }
  void unpack_column(float* out, const std::byte* packed, std::int64_t k, std::int64_t n,
                     std::int64_t column) const override {
    dequantize_output(out, packed, layout(k, n), column);
  }
  std::size_t scratch_bytes(std::int64_t m, std::int64_t k, std::int64_t /*n*/,
                            bool /*transposed*/) const override {
    return static_cast<std::size_t>(m * (k + 1)) * sizeof(float);
  }

  void multiply(const Multiplication& op) override;
  /// Weights of integers are not trained: the door refuses before.
  void add_transposed(const TransposedMultiplication& /*op*/) override {}

 private:
  QuantizedLayout layout(std::int64_t k, std::int64_t n) const {
    return quantized_layout(format_, k, n, order_);
  }

  WeightFormat format_;
  WeightOrder order_;
  const TypedKernels& kernels_;
  Scratch scratch_;
};

/// A row of inputs as integers; returns their scale.
float round_row(float* out, const Bf16* inp, std::int64_t count) {
  float largest = 0;
  bool finite = true;
  for (std::int64_t k = 0; k < count; ++k) {
    const float value = base::to_f32(inp[k]);
    finite = finite && std::isfinite(value);
    largest = std::max(largest, std::abs(value));
  }
  const float inverse = !finite || largest < kSmallestInput ? 0.0F : 127.0F / largest;
  for (std::int64_t k = 0; k < count; ++k) {
    out[k] = finite ? std::nearbyint(base::to_f32(inp[k]) * inverse) : 0.0F;
  }
  if (!finite) return std::numeric_limits<float>::quiet_NaN();
  return inverse == 0.0F ? 0.0F : largest / 127.0F;
}

void IntegerProducts::multiply(const Multiplication& op) {
  const QuantizedLayout lay = layout(op.k, op.n);
  float* rows = scratch_.take_floats(static_cast<std::size_t>(op.m * (op.k + 1)));
  float* row_scales = rows + op.m * op.k;
  base::parallel_for(op.m, [&](std::int64_t row) {
    row_scales[row] =
        round_row(rows + row * op.k, static_cast<const Bf16*>(op.a) + row * op.k, op.k);
  });
  const auto* scales = reinterpret_cast<const float*>(op.packed + lay.scales);
  const bool gelu = op.after == After::kGelu;
  void* z = gelu && op.pre != nullptr ? op.pre : op.c;
  base::parallel_ranges(op.n, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> weight(static_cast<std::size_t>(op.k));
    for (std::int64_t n = begin; n < end; ++n) {
      dequantize_output(weight.data(), op.packed, lay, n);
      for (float& value : weight) value = scales[n] == 0 ? 0 : std::nearbyint(value / scales[n]);
      for (std::int64_t m = 0; m < op.m; ++m) {
        double sum = 0;
        for (std::int64_t k = 0; k < op.k; ++k) {
          sum += static_cast<double>(rows[m * op.k + k] * weight[static_cast<std::size_t>(k)]);
        }
        float value = static_cast<float>(sum) * scales[n] * row_scales[m];
        if (op.bias != nullptr) value += op.bias[n];
        if (op.c_type == DType::kF32) {
          static_cast<float*>(z)[m * op.n + n] = value;
        } else {
          static_cast<Bf16*>(z)[m * op.n + n] = base::to_bf16(value);
        }
      }
    }
  });
  if (gelu) kernels_.gelu_forward(op.c, z, 0, op.m * op.n);
}

}  // namespace

std::unique_ptr<Products> make_integer_products(WeightFormat format, WeightOrder order,
                                                const KernelTable& table) {
  return std::make_unique<IntegerProducts>(format, order, table);
}

}  // namespace kernels::cpu
