// Weights of 8 and 4 bits: how they are rounded, how they lie, and what the door says about them.

#include "kernels/quantized.h"

#include <limits>

#include "expect_error.h"
#include "kernels/helpers.h"

namespace kernels::test {
namespace {

constexpr WeightFormat kFormats[] = {WeightFormat::kInt8, WeightFormat::kInt4};
constexpr WeightOrder kOrders[] = {WeightOrder::kInOut, WeightOrder::kOutIn};

Shape shape_of(std::int64_t inputs, std::int64_t outputs, WeightOrder order) {
  return order == WeightOrder::kInOut ? Shape{inputs, outputs} : Shape{outputs, inputs};
}

/// Packed and read back: row m holds output m's weights.
std::vector<std::vector<float>> round_trip(const Tensor& parameter, WeightFormat format,
                                           WeightOrder order) {
  const bool in_out = order == WeightOrder::kInOut;
  const auto layout = quantized_layout(format, parameter.shape()[in_out ? 0 : 1],
                                       parameter.shape()[in_out ? 1 : 0], order);
  std::vector<std::byte> packed(layout.bytes);
  const View view = parameter;
  quantize_weight(packed.data(), layout, view.f32(), order);
  std::vector<std::vector<float>> rows;
  for (std::int64_t m = 0; m < layout.outputs; ++m) {
    rows.emplace_back(static_cast<std::size_t>(layout.inputs));
    dequantize_output(rows.back().data(), packed.data(), layout, m);
  }
  return rows;
}

double value_of(const Tensor& parameter, WeightOrder order, std::int64_t k, std::int64_t m) {
  const std::int64_t columns = parameter.shape()[1];
  return parameter.at(order == WeightOrder::kInOut ? k * columns + m : m * columns + k);
}

/// Largest magnitude of output m's weights [first, last).
double largest(const Tensor& parameter, WeightOrder order, std::int64_t m, std::int64_t first,
               std::int64_t last) {
  double result = 0;
  for (std::int64_t k = first; k < last; ++k) {
    result = std::max(result, std::abs(value_of(parameter, order, k, m)));
  }
  return result;
}

void expect_rounded(WeightFormat format, WeightOrder order, std::int64_t inputs,
                    std::int64_t outputs) {
  SCOPED_TRACE(fmt::format("{}, {} inputs, {} outputs", name_of(format), inputs, outputs));
  Draw draw(DType::kF32);
  const Tensor parameter = draw(shape_of(inputs, outputs, order), 0.02);
  const auto rows = round_trip(parameter, format, order);
  const bool eight = format == WeightFormat::kInt8 || order == WeightOrder::kOutIn;
  for (std::int64_t m = 0; m < outputs; ++m) {
    const double of_row = largest(parameter, order, m, 0, inputs);
    for (std::int64_t k = 0; k < inputs; ++k) {
      // 8 bits: half a unit of largest / 127. 4 bits: what lies beyond eight nibbles of a step of
      // 0.7 times the one that fits, or one step of the smallest.
      const std::int64_t block = k / kStepInputs * kStepInputs;
      const double of_block =
          largest(parameter, order, m, block, std::min(block + kStepInputs, inputs));
      const double allowed = eight ? 0.5001 * of_row / 127 : 0.31 * of_block + of_row / 112;
      const double error = std::abs(
          static_cast<double>(rows[static_cast<std::size_t>(m)][static_cast<std::size_t>(k)]) -
          value_of(parameter, order, k, m));
      ASSERT_LE(error, allowed) << k << ", " << m;
    }
  }
}

TEST(Quantize, StaysWithinItsErrorOnAwkwardShapes) {
  for (const WeightFormat format : kFormats) {
    for (const WeightOrder order : kOrders) {
      for (const auto& [inputs, outputs] :
           {std::pair{1, 1}, {31, 5}, {32, 16}, {33, 17}, {64, 15}, {100, 33}, {129, 7}}) {
        expect_rounded(format, order, inputs, outputs);
      }
    }
  }
}

/// Root of the mean squared error over that of the values.
double relative_error(const Tensor& parameter, WeightFormat format) {
  const auto rows = round_trip(parameter, format, WeightOrder::kInOut);
  double error = 0;
  double power = 0;
  for (std::size_t m = 0; m < rows.size(); ++m) {
    for (std::size_t k = 0; k < rows[m].size(); ++k) {
      const double value = value_of(parameter, WeightOrder::kInOut, static_cast<std::int64_t>(k),
                                    static_cast<std::int64_t>(m));
      error += std::pow(static_cast<double>(rows[m][k]) - value, 2);
      power += value * value;
    }
  }
  return std::sqrt(error / power);
}

TEST(Quantize, OfNormalWeightsLosesLittle) {
  Draw draw(DType::kF32);
  const Tensor parameter = draw({768, 48}, 0.02);
  EXPECT_LT(relative_error(parameter, WeightFormat::kInt8), 0.009);
  EXPECT_LT(relative_error(parameter, WeightFormat::kInt4), 0.095);
}

TEST(Quantize, KeepsZerosAndWhatIsExact) {
  Tensor parameter(DType::kF32, {64, 3});
  for (std::int64_t k = 0; k < 64; ++k) {
    parameter.set(k * 3 + 1, k % 2 == 0 ? 127 : -127);  // every value at the end of the range
    parameter.set(k * 3 + 2, k == 63 ? -2.5 : 0);
  }
  for (const WeightFormat format : kFormats) {
    const auto rows = round_trip(parameter, format, WeightOrder::kInOut);
    for (std::size_t k = 0; k < 64; ++k) {
      EXPECT_EQ(rows[0][k], 0);
      EXPECT_NEAR(rows[1][k], k % 2 == 0 ? 127 : -127, format == WeightFormat::kInt8 ? 0 : 9);
      EXPECT_FLOAT_EQ(rows[2][k], k == 63 ? -2.5F : 0.0F);
    }
  }
}

TEST(Quantize, TakesWeightsTooSmallToDivideByForZeros) {
  Tensor parameter(DType::kF32, {32, 1});
  for (std::int64_t k = 0; k < 32; ++k) parameter.set(k, 1e-39);
  for (const WeightFormat format : kFormats) {
    const auto rows = round_trip(parameter, format, WeightOrder::kInOut);
    for (const float value : rows[0]) EXPECT_EQ(value, 0);
  }
}

// ---- the packed form --------------------------------------------------------------------------

TEST(PackedParts, FillTheBytesWithoutGaps) {
  for (const WeightFormat format : kFormats) {
    for (const WeightOrder order : kOrders) {
      for (const auto& [inputs, outputs] : {std::pair{1, 1}, {768, 2304}, {100, 33}}) {
        std::size_t end = 0;
        for (const PackedPart& part : packed_parts(format, inputs, outputs, order)) {
          EXPECT_EQ(part.offset, end);
          EXPECT_EQ(part.offset % 32, 0);
          end += static_cast<std::size_t>(part.shape.elements()) * base::size_of(part.type);
        }
        EXPECT_EQ(end, make_inference_backend(Device::kReference, format)
                           ->packed_bytes(inputs, outputs, order, false)
                           .forward);
      }
    }
  }
}

TEST(PackedParts, AreWhatTheDocumentationSays) {
  const auto eight = packed_parts(WeightFormat::kInt8, 100, 33, WeightOrder::kInOut);
  ASSERT_EQ(eight.size(), 2);
  EXPECT_EQ(eight[0].suffix, "");
  EXPECT_EQ(eight[0].type, DType::kU8);
  EXPECT_EQ(eight[0].shape, (Shape{3, 32, 16, 4}));
  EXPECT_EQ(eight[1].suffix, ".scale");
  EXPECT_EQ(eight[1].type, DType::kF32);
  EXPECT_EQ(eight[1].shape, (Shape{3, 16}));
  const auto four = packed_parts(WeightFormat::kInt4, 100, 33, WeightOrder::kInOut);
  ASSERT_EQ(four.size(), 3);
  EXPECT_EQ(four[0].shape, (Shape{3, 4, 4, 64}));
  EXPECT_EQ(four[1].suffix, ".step");
  EXPECT_EQ(four[1].type, DType::kI8);
  EXPECT_EQ(four[1].shape, (Shape{3, 4, 16}));
  EXPECT_EQ(four[2].shape, (Shape{3, 16}));
  EXPECT_EQ(packed_parts(WeightFormat::kInt4, 100, 33, WeightOrder::kOutIn).size(), 2);
}

TEST(PackedParts, RefusesOtherFormatsAndSizes) {
  expect_error("packed_parts: expected int8 or int4, got bf16; other formats have no fixed layout",
               [] { packed_parts(WeightFormat::kBf16, 1, 1, WeightOrder::kInOut); });
  expect_error("packed_parts: expected 1 to 65536 inputs and 1 or more outputs, got 65537 and 1",
               [] { packed_parts(WeightFormat::kInt8, 65537, 1, WeightOrder::kInOut); });
}

TEST(CheckPacked, FindsWhatNobodyPacked) {
  const auto parts = packed_parts(WeightFormat::kInt4, 32, 16, WeightOrder::kInOut);
  std::vector<std::byte> memory(64 * 8 + 2 * 16 + 16 * 4);
  const PackedWeight weight{32, 16, WeightOrder::kInOut, memory.data(), nullptr};
  EXPECT_NO_THROW(check_packed(WeightFormat::kInt4, weight, "w"));
  auto* steps = reinterpret_cast<std::int8_t*>(memory.data() + parts[1].offset);
  auto* scales = reinterpret_cast<float*>(memory.data() + parts[2].offset);
  steps[3] = -16;
  expect_error("w: step[3]: expected -15 to 15, got -16; quantize again",
               [&] { check_packed(WeightFormat::kInt4, weight, "w"); });
  steps[3] = 15;
  scales[2] = -1;
  expect_error("w: scale[2]: expected a finite number, 0 or more, got -1; quantize again",
               [&] { check_packed(WeightFormat::kInt4, weight, "w"); });
  scales[2] = std::numeric_limits<float>::infinity();
  expect_error("w: scale[2]: expected a finite number, 0 or more, got inf; quantize again",
               [&] { check_packed(WeightFormat::kInt4, weight, "w"); });
}

// ---- the door ---------------------------------------------------------------------------------

TEST(InferenceBackend, NamesItsFormat) {
  for (const Device device : {Device::kReference, Device::kCpu}) {
    for (const auto& [format, type] : {std::pair{WeightFormat::kF32, DType::kF32},
                                       {WeightFormat::kBf16, DType::kBf16},
                                       {WeightFormat::kInt8, DType::kBf16},
                                       {WeightFormat::kInt4, DType::kBf16}}) {
      const auto backend = make_inference_backend(device, format);
      EXPECT_EQ(backend->weight_format(), format);
      EXPECT_EQ(backend->compute_type(), type);
    }
    EXPECT_EQ(make_backend(device, DType::kBf16)->weight_format(), WeightFormat::kBf16);
  }
  EXPECT_EQ(make_inference_backend(Device::kReference, WeightFormat::kInt4)->description(),
            "reference, bf16 stored, int4 weights, f64 computed");
}

TEST(InferenceBackend, RefusesWeightsThatAreNotFinite) {
  for (const WeightFormat format : kFormats) {
    const auto backend = make_inference_backend(Device::kCpu, format);
    Tensor parameter(DType::kF32, {5, 3});
    const Weight weight(*backend, parameter, WeightOrder::kInOut);
    parameter.set(7, std::numeric_limits<double>::quiet_NaN());
    parameter.set(11, std::numeric_limits<double>::infinity());
    expect_error(fmt::format("pack_weight: parameter[2][1]: expected finite values for {} weights, "
                             "got nan",
                             name_of(format)),
                 [&] { backend->pack_weight(weight, parameter); });
    parameter.set(7, 0);
    expect_error(fmt::format("pack_weight: parameter[3][2]: expected finite values for {} weights, "
                             "got inf",
                             name_of(format)),
                 [&] { backend->pack_weight(weight, parameter); });
  }
}

TEST(InferenceBackend, RefusesSumsThatCouldOverflow) {
  const auto backend = make_inference_backend(Device::kCpu, WeightFormat::kInt8);
  expect_error("packed_bytes: expected at most 65536 inputs for int8 weights, got 65537",
               [&] { backend->packed_bytes(65537, 1, WeightOrder::kInOut, false); });
}

TEST(InferenceBackend, OfIntegersRefusesToTrain) {
  const auto backend = make_inference_backend(Device::kCpu, WeightFormat::kInt8);
  const auto bf16 = [](Shape shape) { return Tensor(DType::kBf16, shape); };
  const auto f32 = [](Shape shape) { return Tensor(DType::kF32, shape); };
  const Weight weight(*backend, f32({4, 3}), WeightOrder::kInOut);
  const Weight head(*backend, f32({5, 4}), WeightOrder::kOutIn);
  const std::string rest =
      ": int8 weights cannot be trained; make a backend of f32 or bf16 with make_backend()";
  expect_error("linear_backward" + rest, [&] {
    backend->linear_backward(bf16({2, 4}), f32({4, 3}), f32({3}), bf16({2, 3}), bf16({2, 4}),
                             weight, Epilogue::kNone, {});
  });
  expect_error("head_loss" + rest, [&] {
    backend->head_loss(f32({2}), bf16({2, 4}), f32({5, 4}), bf16({2, 4}), head, integers({1, 2}), 5,
                       1.0F);
  });
  expect_error("adamw_step" + rest, [&] {
    backend->adamw_step(f32({4, 3}), f32({4, 3}), f32({4, 3}), f32({4, 3}), {}, &weight);
  });
}

TEST(EmbedPacked, ChecksWhatItReads) {
  const auto backend = make_inference_backend(Device::kReference, WeightFormat::kInt8);
  const Tensor wte(DType::kF32, {6, 4});
  const Weight head(*backend, wte, WeightOrder::kOutIn);
  const Tensor wpe(DType::kF32, {3, 4});
  const Tensor x(DType::kF32, {2, 4});
  backend->embed_packed(x, integers({0, 5}), integers({2, 0}), head, wpe);
  expect_error("embed_packed: ids[1]: expected 0 to 5, got 6", [&] {
    backend->embed_packed(x, integers({0, 6}), integers({2, 0}), head, wpe);
  });
  expect_error("embed_packed: positions[0]: expected 0 to 2, got 3", [&] {
    backend->embed_packed(x, integers({0, 5}), integers({3, 0}), head, wpe);
  });
  expect_error("embed_packed: positions: expected shape (2), got (1)", [&] {
    backend->embed_packed(x, integers({0, 5}), integers({0}), head, wpe);
  });
  expect_error("embed_packed: x: expected shape (2, 4), got (2, 5)", [&] {
    backend->embed_packed(Tensor(DType::kF32, {2, 5}), integers({0, 5}), integers({0, 0}), head,
                          wpe);
  });
  expect_error(
      "embed_packed: wte: expected a weight of shape (outputs, inputs), got (inputs, "
      "outputs)",
      [&] {
        const Weight other(*backend, Tensor(DType::kF32, {4, 6}), WeightOrder::kInOut);
        backend->embed_packed(x, integers({0, 5}), integers({0, 0}), other, wpe);
      });
}

}  // namespace
}  // namespace kernels::test
