// Products with weights of 8 and 4 bits on the cpu backend, against the reference that rounds the
// same way. CMakeLists.txt registers this file once for each instruction set.

#include <cstring>
#include <limits>

#include "kernels/helpers.h"

namespace kernels::test {
namespace {

class Integers : public testing::TestWithParam<WeightFormat> {
 protected:
  void SetUp() override {
    if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
    cpu = make_inference_backend(Device::kCpu, GetParam());
    reference = make_inference_backend(Device::kReference, GetParam());
  }
  std::unique_ptr<Backend> cpu;
  std::unique_ptr<Backend> reference;
};

INSTANTIATE_TEST_SUITE_P(, Integers, testing::Values(WeightFormat::kInt8, WeightFormat::kInt4),
                         [](const auto& suite) { return std::string(name_of(suite.param)); });

/// Every operand is rounded alike and sums are exact: what is left is a few roundings of f32.
constexpr double kF32 = 1e-6;
/// One rounding to bf16, which a difference in f32 can tip over.
constexpr double kBf16 = 0x1.01p-8;

Tensor bf16(Tensor tensor) { return tensor.as(DType::kBf16); }

void expect_same(const Tensor& actual, const Tensor& expected, double tolerance,
                 const std::string& name) {
  expect_close({name, actual, 0, tolerance}, {name, expected}, tolerance);
}

// ---- linear layers ----------------------------------------------------------------------------

struct Layer {
  Tensor out;
  Tensor pre;
};

Layer run_linear(Backend& backend, const Tensor& inp, const Tensor& parameter, const Tensor& bias,
                 Epilogue epilogue, bool keep_pre) {
  const Weight weight(backend, parameter, WeightOrder::kInOut);
  const Shape shape{inp.shape()[0], parameter.shape()[1]};
  Layer layer{unwritten(DType::kBf16, shape), keep_pre ? unwritten(DType::kBf16, shape) : Tensor()};
  backend.linear_forward(layer.out, layer.pre, inp, weight, bias, epilogue);
  return layer;
}

void check_linear(Backend& cpu, Backend& reference, std::int64_t rows, std::int64_t inputs,
                  std::int64_t outputs, Epilogue epilogue = Epilogue::kNone,
                  bool keep_pre = false) {
  SCOPED_TRACE(fmt::format("{} rows, {} inputs, {} outputs", rows, inputs, outputs));
  Draw draw(DType::kBf16);
  const Tensor inp = bf16(draw({rows, inputs}));
  const Tensor parameter = draw({inputs, outputs}, 0.1);
  const Tensor bias = draw({outputs});
  const Layer actual = run_linear(cpu, inp, parameter, bias, epilogue, keep_pre);
  const Layer expected = run_linear(reference, inp, parameter, bias, epilogue, keep_pre);
  expect_same(actual.out, expected.out, kBf16, "out");
  if (keep_pre) expect_same(actual.pre, expected.pre, kBf16, "pre");
}

TEST_P(Integers, LinearOfAwkwardShapes) {
  for (const std::int64_t inputs : {1, 4, 31, 32, 33, 63, 64, 65, 100, 129}) {
    for (const std::int64_t outputs : {1, 15, 16, 17, 33, 48, 97}) {
      for (const std::int64_t rows : {1, 3, 17})
        check_linear(*cpu, *reference, rows, inputs, outputs);
    }
  }
}

TEST_P(Integers, LinearOfEveryFewRows) {
  for (std::int64_t rows = 1; rows <= 17; ++rows) {
    check_linear(*cpu, *reference, rows, 70, 50);
    check_linear(*cpu, *reference, rows, 192, 80, Epilogue::kGelu);
  }
}

TEST_P(Integers, LinearOfManyRows) {
  for (const std::int64_t rows : {31, 32, 33, 47, 64, 65, 97, 512}) {
    check_linear(*cpu, *reference, rows, 70, 50);
    check_linear(*cpu, *reference, rows, 128, 96, Epilogue::kGelu, true);
  }
  check_linear(*cpu, *reference, 130, 768, 130, Epilogue::kGelu);
}

TEST_P(Integers, LinearWithGelu) {
  for (const bool keep_pre : {false, true}) {
    for (const std::int64_t rows : {1, 5, 40}) {
      check_linear(*cpu, *reference, rows, 64, 33, Epilogue::kGelu, keep_pre);
    }
  }
}

TEST_P(Integers, SumsAtTheEndsOfTheirRange) {
  // 3,072 products of largest magnitude, all of one sign, then of the other.
  for (const double sign : {1.0, -1.0}) {
    for (const std::int64_t rows : {1, 2, 40}) {
      constexpr std::int64_t kInputs = 3072;
      constexpr std::int64_t kOutputs = 40;
      Tensor inp(DType::kBf16, {rows, kInputs});
      Tensor parameter(DType::kF32, {kInputs, kOutputs});
      for (std::int64_t i = 0; i < inp.size(); ++i) inp.set(i, 2);
      for (std::int64_t i = 0; i < parameter.size(); ++i) parameter.set(i, sign * 0.5);
      const Tensor bias(DType::kF32, {kOutputs});
      const Layer layer = run_linear(*cpu, inp, parameter, bias, Epilogue::kNone, false);
      for (std::int64_t i = 0; i < layer.out.size(); ++i) {
        ASSERT_EQ(layer.out.at(i), sign * kInputs) << i;
      }
    }
  }
}

Tensor with_zero_output(Tensor parameter, std::int64_t output) {
  const std::int64_t outputs = parameter.shape()[1];
  for (std::int64_t i = output; i < parameter.size(); i += outputs) parameter.set(i, 0);
  return parameter;
}

Tensor with_zero_row(Tensor inp, std::int64_t row) {
  const std::int64_t inputs = inp.shape()[1];
  for (std::int64_t i = 0; i < inp.size(); ++i) {
    if (i / inputs == row) inp.set(i, 0);
  }
  return inp;
}

TEST_P(Integers, ZeroRowsGiveTheBiasAndNanStaysInItsRow) {
  Draw draw(DType::kBf16);
  for (const std::int64_t rows : {4, 40}) {
    Tensor inp = with_zero_row(bf16(draw({rows, 70})), 1);
    inp.set(2 * 70 + 69, std::numeric_limits<double>::quiet_NaN());
    inp.set(3 * 70 + 1, std::numeric_limits<double>::infinity());
    const Tensor parameter = with_zero_output(draw({70, 20}), 4);
    const Tensor bias = draw({20});
    const Layer layer = run_linear(*cpu, inp, parameter, bias, Epilogue::kNone, false);
    for (std::int64_t m = 0; m < 20; ++m) {
      EXPECT_TRUE(std::isfinite(layer.out.at(m)));
      EXPECT_EQ(layer.out.at(20 + m), bias.at(m));
      EXPECT_TRUE(std::isnan(layer.out.at(40 + m)));
      EXPECT_TRUE(std::isnan(layer.out.at(60 + m)));
    }
    EXPECT_EQ(layer.out.at(4), bias.at(4));
  }
}

TEST_P(Integers, ARowDoesNotDependOnTheRowsBesideIt) {
  Draw draw(DType::kBf16);
  const Tensor inp = bf16(draw({97, 200}));
  const Tensor parameter = draw({200, 70}, 0.1);
  const Tensor bias = draw({70});
  const Layer all = run_linear(*cpu, inp, parameter, bias, Epilogue::kGelu, true);
  for (const std::int64_t count : {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 64}) {
    Tensor some(DType::kBf16, {count, 200});
    for (std::int64_t i = 0; i < some.size(); ++i) some.set(i, inp.at(i));
    const Layer part = run_linear(*cpu, some, parameter, bias, Epilogue::kGelu, true);
    EXPECT_EQ(0,
              std::memcmp(part.out.bytes().data(), all.out.bytes().data(), part.out.bytes().size()))
        << count;
    EXPECT_EQ(0,
              std::memcmp(part.pre.bytes().data(), all.pre.bytes().data(), part.pre.bytes().size()))
        << count;
  }
}

// ---- head -------------------------------------------------------------------------------------

TEST_P(Integers, HeadLogits) {
  Draw draw(DType::kBf16);
  for (const auto& [channels, vocab, padded] :
       {std::tuple{1, 1, 1}, {33, 50, 50}, {64, 100, 128}, {130, 257, 384}}) {
    for (const std::int64_t rows : {1, 2, 5, 16, 17, 33, 260}) {
      SCOPED_TRACE(fmt::format("{} rows, {} channels, {} ids", rows, channels, vocab));
      const Tensor x = bf16(draw({rows, channels}));
      const Tensor parameter = draw({padded, channels}, 0.1);
      Tensor actual = unwritten(DType::kF32, {rows, vocab});
      Tensor expected = unwritten(DType::kF32, {rows, vocab});
      cpu->head_logits(actual, x, Weight(*cpu, parameter, WeightOrder::kOutIn), vocab);
      reference->head_logits(expected, x, Weight(*reference, parameter, WeightOrder::kOutIn),
                             vocab);
      expect_same(actual, expected, kF32, "logits");
    }
  }
}

TEST_P(Integers, HeadLossForward) {
  Draw draw(DType::kBf16);
  const Tensor x = bf16(draw({70, 48}));
  const Tensor parameter = draw({128, 48}, 0.3);
  Tensor targets = draw.ids(70, 101);
  targets.set(3, kIgnoredTarget);
  Tensor actual = unwritten(DType::kF32, {70});
  Tensor expected = unwritten(DType::kF32, {70});
  const double sum =
      cpu->head_loss_forward(actual, x, Weight(*cpu, parameter, WeightOrder::kOutIn), targets, 101);
  const double truth = reference->head_loss_forward(
      expected, x, Weight(*reference, parameter, WeightOrder::kOutIn), targets, 101);
  expect_same(actual, expected, 2e-6, "losses");
  EXPECT_NEAR(sum, truth, 1e-6 * truth);
}

// ---- against the numbers before rounding --------------------------------------------------------

TEST_P(Integers, LinearLiesNearTheUnrounded) {
  Draw draw(DType::kBf16);
  const Tensor inp = bf16(draw({24, 768}));
  const Tensor parameter = draw({768, 96}, 0.05);
  const Tensor bias = draw({96});
  const auto truth = make_backend(Device::kReference, DType::kBf16);
  const Layer actual = run_linear(*cpu, inp, parameter, bias, Epilogue::kNone, false);
  const Layer exact = run_linear(*truth, inp, parameter, bias, Epilogue::kNone, false);
  double error = 0;
  double power = 0;
  for (std::int64_t i = 0; i < actual.out.size(); ++i) {
    error += std::pow(actual.out.at(i) - exact.out.at(i), 2);
    power += std::pow(exact.out.at(i), 2);
  }
  EXPECT_LT(std::sqrt(error / power), GetParam() == WeightFormat::kInt8 ? 0.012 : 0.09);
}

// ---- embedding --------------------------------------------------------------------------------

class EmbedPackedOn : public testing::TestWithParam<WeightFormat> {
 protected:
  void SetUp() override {
    if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
  }
};

INSTANTIATE_TEST_SUITE_P(, EmbedPackedOn,
                         testing::Values(WeightFormat::kF32, WeightFormat::kBf16,
                                         WeightFormat::kInt8, WeightFormat::kInt4),
                         [](const auto& suite) { return std::string(name_of(suite.param)); });

TEST_P(EmbedPackedOn, ReadsTheHeadsRows) {
  const auto cpu = make_inference_backend(Device::kCpu, GetParam());
  const auto reference = make_inference_backend(Device::kReference, GetParam());
  for (const std::int64_t channels : {1, 31, 64, 97}) {
    for (const std::int64_t rows : {1, 2, 33}) {
      Draw draw(DType::kF32);
      const Tensor wte = draw({150, channels});
      const Tensor wpe = draw({9, channels});
      const Tensor ids = draw.ids(rows, 150);
      const Tensor positions = draw.ids(rows, 9);
      Tensor actual = unwritten(DType::kF32, {rows, channels});
      Tensor expected = unwritten(DType::kF32, {rows, channels});
      cpu->embed_packed(actual, ids, positions, Weight(*cpu, wte, WeightOrder::kOutIn), wpe);
      reference->embed_packed(expected, ids, positions,
                              Weight(*reference, wte, WeightOrder::kOutIn), wpe);
      expect_same(actual, expected, kF32, "x");
    }
  }
}

}  // namespace
}  // namespace kernels::test
