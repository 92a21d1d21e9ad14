// Products with weights of 8 and 4 bits. Law: sums of integers are exact, so that a result depends
// neither on the instruction set nor on the rows beside it; docs of WeightFormat say which numbers.

#include <fmt/format.h>

#include <algorithm>

#include "base/parallel.h"
#include "kernels/cpu/integer.h"
#include "kernels/cpu/matmul.h"
#include "kernels/quantized.h"

namespace kernels::cpu {
namespace {

using base::DType;

/// Panels of a task where there are many rows: 128 outputs.
constexpr std::int64_t kTaskPanels = 8;
/// Up to this many inputs are rounded by the calling thread: threads would take longer to start.
constexpr std::int64_t kSerialInputs = 16 * 1024;

std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

class IntegerProducts final : public Products {
 public:
  IntegerProducts(WeightFormat format, WeightOrder order, const IntegerTable& table)
      : format_(format), order_(order), table_(table) {}

  std::string description() const override {
    return fmt::format("own {} products ({})", name_of(format_), table_.name);
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
  std::size_t scratch_bytes(std::int64_t m, std::int64_t k, std::int64_t n,
                            bool /*transposed*/) const override {
    const std::int64_t depth = layout(k, n).depth;
    const std::int64_t row = depth + 4 + 4 + depth / kStepInputs * 4;
    return static_cast<std::size_t>(parts(m, kRowUnit) * kRowUnit * row +
                                    base::thread_count() * integer_scratch(depth));
  }

  void multiply(const Multiplication& op) override;
  /// Weights of integers are not trained: the door refuses before.
  void add_transposed(const TransposedMultiplication& /*op*/) override {}

 private:
  /// Memory for the rounded rows of `op`.
  RoundedRows take_rows(const Multiplication& op, std::int64_t depth);
  QuantizedLayout layout(std::int64_t k, std::int64_t n) const {
    return quantized_layout(format_, k, n, order_);
  }

  WeightFormat format_;
  WeightOrder order_;
  const IntegerTable& table_;
  Scratch rows_;
  std::byte* threads_ = nullptr;  // behind the rows: integer_scratch() bytes for each thread
};

/// Rows of a task where there are many: as many bytes as stay in a core's L2 beside the weights.
std::int64_t rows_of_task(std::int64_t rows, std::int64_t depth) {
  constexpr std::int64_t kBytes = 1 << 20;
  const std::int64_t most = std::max(kRowUnit, kBytes / depth / kRowUnit * kRowUnit);
  const std::int64_t tasks = parts(rows, most);
  return parts(parts(rows, tasks), kRowUnit) * kRowUnit;
}

RoundedRows IntegerProducts::take_rows(const Multiplication& op, std::int64_t depth) {
  const std::int64_t rows = parts(op.m, kRowUnit) * kRowUnit;
  const std::int64_t blocks = depth / kStepInputs;
  auto* memory = static_cast<std::byte*>(rows_.take(scratch_bytes(op.m, op.k, op.n, false)));
  RoundedRows rounded;
  rounded.inp = op.a;
  rounded.values = reinterpret_cast<std::int8_t*>(memory);
  memory += rows * depth;
  rounded.scales = reinterpret_cast<float*>(memory);
  memory += rows * 4;
  rounded.sums = reinterpret_cast<std::int32_t*>(memory);
  memory += rows * 4;
  rounded.block_sums = reinterpret_cast<std::int32_t*>(memory);
  memory += rows * blocks * 4;
  threads_ = memory;
  rounded.inputs = op.k;
  rounded.depth = depth;
  return rounded;
}

void IntegerProducts::multiply(const Multiplication& op) {
  const QuantizedLayout lay = layout(op.k, op.n);
  const RoundedRows rounded = take_rows(op, lay.depth);
  if (op.m * op.k <= kSerialInputs) {
    table_.round_rows(rounded, 0, op.m);
  } else {
    base::parallel_ranges(op.m, [&](std::int64_t begin, std::int64_t end) {
      table_.round_rows(rounded, begin, end);
    });
  }
  const IntegerProduct product{
      .c = op.c,
      .pre = op.pre,
      .bias = op.bias,
      .rows = rounded.values,
      .row_scales = rounded.scales,
      .row_sums = rounded.sums,
      .block_sums = rounded.block_sums,
      .values = reinterpret_cast<const std::uint8_t*>(op.packed),
      .steps =
          lay.four_bits ? reinterpret_cast<const std::int8_t*>(op.packed + lay.steps) : nullptr,
      .scales = reinterpret_cast<const float*>(op.packed + lay.scales),
      .outputs = op.n,
      .depth = lay.depth,
      .c_is_f32 = op.c_type == DType::kF32,
      .gelu = op.after == After::kGelu};
  const auto scratch = [&] { return threads_ + base::thread_index() * integer_scratch(lay.depth); };
  if (op.m <= kStreamRows) {
    base::parallel_ranges(lay.panels, [&](std::int64_t begin, std::int64_t end) {
      table_.multiply(product, 0, op.m, begin, end, scratch());
    });
    return;
  }
  const std::int64_t rows = rows_of_task(op.m, lay.depth);
  const std::int64_t groups = parts(lay.panels, kTaskPanels);
  base::parallel_for_dynamic(parts(op.m, rows) * groups, [&](std::int64_t task) {
    const std::int64_t row = task / groups * rows;
    const std::int64_t panel = task % groups * kTaskPanels;
    table_.multiply(product, row, std::min(row + rows, op.m), panel,
                    std::min(panel + kTaskPanels, lay.panels), scratch());
  });
}

}  // namespace

std::unique_ptr<Products> make_integer_products(WeightFormat format, WeightOrder order, Isa isa) {
  return std::make_unique<IntegerProducts>(format, order, integer_table_for(isa));
}

}  // namespace kernels::cpu
