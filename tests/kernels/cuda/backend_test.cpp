// The CUDA backend, its kernels played by the host, against the f32 reference: the door's
// operations over awkward shapes, as far as the backend goes (channels in multiples of 8).

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>

#include "expect_error.h"
#include "kernels/cuda/gpu_types.h"
#include "kernels/operations.h"

namespace kernels::test {
namespace {

constexpr Dropout kDropout{0.25F, 0xfedcba9876543210ULL, 1000};

/// By what the backend computes in; products of f32 are not rounded to TF32.
class Cuda : public testing::TestWithParam<DType> {
 protected:
  static std::unique_ptr<Backend> backend() {
    return make_backend(Device::kCuda, GetParam(), nullptr, 0, /*tf32=*/false);
  }
  template <class Operation>
  static void check(const Operation& operation) {
    against_reference({Device::kCuda, GetParam()}, operation);
  }
  template <class Operation>
  static void check_with_dropout(Operation operation) {
    check(operation);
    operation.dropout = kDropout;
    check(operation);
  }
};
INSTANTIATE_TEST_SUITE_P(Formats, Cuda, testing::Values(DType::kBf16, DType::kF32),
                         [](const auto& c) { return std::string(base::name_of(c.param)); });

/// In bf16 the losses of a training step are those of logits in bf16, which their gradients are
/// made of.
struct TrainingLoss : HeadLoss {
  Outputs operator()(Backend& backend, Draw draw) const {
    Outputs outputs = HeadLoss::operator()(backend, draw);
    if (backend.compute_type() == DType::kF32) return outputs;
    for (Output& output : outputs) output.tolerance = 0;
    return outputs;
  }
};

constexpr std::int64_t kWidths[] = {8, 16, 24, 40, 64, 264};

TEST_P(Cuda, Embed) {
  for (const std::int64_t channels : kWidths) {
    SCOPED_TRACE(channels);
    check_with_dropout(Embed{3, 5, channels, 11, 2});
    check_with_dropout(EmbedBackward{3, 5, channels});
  }
  check(EmbedBackward{4, 70, 40, 11, true});
}

TEST_P(Cuda, EmbedPacked) {
  const auto backend = Cuda::backend();
  const auto truth = make_backend(Device::kReference, DType::kF32);
  Draw draw(GetParam());
  const Tensor wte = draw({16, 24}), wpe = draw({9, 24});
  const Tensor ids = draw.ids(7, 11), positions = draw.ids(7, 9);
  Tensor x = unwritten(DType::kF32, {7, 24}), expected = unwritten(DType::kF32, {7, 24});
  backend->embed_packed(x, ids, positions, Weight(*backend, wte, WeightOrder::kOutIn), wpe);
  truth->embed_packed(expected, ids, positions, Weight(*truth, wte, WeightOrder::kOutIn), wpe);
  backend->finish();
  expect_close({"x", x}, {"x", expected}, tolerance_of(DType::kF32));
}

TEST_P(Cuda, LayerNorm) {
  for (const std::int64_t channels : kWidths) {
    SCOPED_TRACE(channels);
    check_with_dropout(LayerNorm{5, channels});
    check_with_dropout(LayerNorm{3, channels, true, true});
    check(LayerNorm{3, channels, false, true});
    check_with_dropout(LayerNormBackward{5, channels});
  }
  check(LayerNorm{7, 40, true, false, 100.0, 1.0});
  check(LayerNormBackward{700, 24});
}

TEST_P(Cuda, Linear) {
  struct Sizes {
    std::int64_t rows, inputs, outputs;
  };
  for (const auto& [rows, inputs, outputs] :
       {Sizes{1, 8, 8}, Sizes{3, 8, 24}, Sizes{17, 40, 16}, Sizes{65, 16, 72}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << inputs << " x " << outputs);
    check(Linear{rows, inputs, outputs});
    check(Linear{rows, inputs, outputs, Epilogue::kGelu});
    check(Linear{rows, inputs, outputs, Epilogue::kGelu, false});
    check(LinearBackward{rows, inputs, outputs});
    check(LinearBackward{rows, inputs, outputs, Epilogue::kGelu});
    check(LinearBackward{rows, inputs, outputs, Epilogue::kNone, Gradient::kOverwrite});
    check(GeluForward{rows, inputs, outputs});
    for (const std::int64_t rank : {1, 8, 17}) {
      check(LowRankBackward{rows, inputs, outputs, rank});
    }
  }
}

TEST_P(Cuda, LinearForInferenceAndForTrainingAreTheSame) {
  const auto backend = Cuda::backend();
  const auto truth = make_backend(Device::kReference, DType::kF32);
  const DType type = GetParam();
  Draw draw(type);
  const Tensor parameter = draw({40, 24}), bias = draw({24});
  const PackedBytes bytes = backend->packed_bytes(40, 24, WeightOrder::kInOut, false);
  std::vector<std::byte> memory(bytes.forward);
  const PackedWeight alone{.inputs = 40, .outputs = 24, .forward = memory.data()};
  backend->pack_weight(alone, parameter);
  const Weight exact(*truth, parameter, WeightOrder::kInOut);
  for (const std::int64_t rows : {1, 4, 5, 33}) {
    SCOPED_TRACE(rows);
    const Tensor inp = draw({rows, 40});
    Tensor out = unwritten(type, {rows, 24});
    Tensor expected = unwritten(DType::kF32, {rows, 24});
    for (const Epilogue epilogue : {Epilogue::kNone, Epilogue::kGelu}) {
      backend->linear_forward(out, {}, inp.as(type), alone, bias, epilogue);
      truth->linear_forward(expected, {}, inp, exact, bias, epilogue);
      expect_close({"out", out}, {"out", expected}, tolerance_of(type));
    }
  }
}

TEST_P(Cuda, Attention) {
  for (const std::int64_t length : {1, 2, 17, 64, 65, 129}) {
    SCOPED_TRACE(length);
    check_with_dropout(Attention{2, 2, length, 16});
    check_with_dropout(AttentionBackward{2, 2, length, 16});
  }
  for (const std::int64_t head_size : {8, 20, 64, 80, 128}) {
    SCOPED_TRACE(head_size);
    check_with_dropout(Attention{1, 2, 70, head_size});
    check_with_dropout(AttentionBackward{1, 2, 70, head_size});
  }
  for (const double score : {0.0, 16.0, 256.0}) {
    SCOPED_TRACE(score);
    check(Attention{1, 2, 70, 64, score, true});
    check(AttentionBackward{1, 2, 70, 64, score});
  }
}

TEST_P(Cuda, CachedAttention) {
  for (const std::int64_t head_size : {8, 16, 24, 64, 80, 128}) {
    SCOPED_TRACE(head_size);
    check(AttentionCached{2, 13, head_size, 13});
    check(AttentionCached{3, 13, head_size, 1});
    check(AttentionCached{1, 70, head_size, 9, 0});
  }
  check(AttentionOfSequences{2, 16, {{0, 5}, {7, 1}, {3, 4}}});
  check(AttentionOfSequences{2, 64, {{0, 5}, {0, 1}, {3, 4}, {0, 70}}});
}

TEST_P(Cuda, HeadLoss) {
  for (const LossOptions& options :
       {LossOptions{}, LossOptions{0.1F, 0}, LossOptions{0.1F, 1e-2F}}) {
    TrainingLoss loss{{9, 24, 97, 128}};
    loss.options = options;
    check(loss);
  }
  check(TrainingLoss{{5, 40, 128, 128, 4.0}});
  check(TrainingLoss{{5, 40, 97, 128, 1.0, 1}});
  check(HeadLoss{5, 40, 97, 128, 1.0, 3, false});
  check(HeadLoss{5, 40, 97, 128, 30.0, 3, false});
  TrainingLoss overwrite{{9, 24, 97, 128}};
  overwrite.gradient = Gradient::kOverwrite;
  check(overwrite);
  check(HeadLogits{5, 40, 97, 128});
}

/// Those of a row in order, as head_logits() and the base class have them.
TEST_P(Cuda, CandidatesAreTheMostLikelyLogits) {
  constexpr std::int64_t kRows = 6, kChannels = 40, kVocab = 1100, kPadded = 1152;
  for (const std::int64_t rows : {std::int64_t{2}, kRows}) {
    const auto own = backend();
    ASSERT_TRUE(own->has_candidates());
    Draw draw(DType::kF32);
    const Tensor x = draw({rows, kChannels}).as(GetParam());
    const Tensor table = draw({kPadded, kChannels});
    const Weight wte(*own, table, WeightOrder::kOutIn);
    Tensor logits = unwritten(DType::kF32, {rows, kVocab});
    own->head_logits(logits, x, wte, kVocab);
    std::vector<TopLogits> tops(static_cast<std::size_t>(rows));
    const std::vector<float> temperatures(tops.size(), 0.7F);
    own->head_candidates(tops, temperatures, x, wte, kVocab);
    for (std::int64_t n = 0; n < rows; ++n) {
      const TopLogits& top = tops[static_cast<std::size_t>(n)];
      const float* row = base::View(logits).f32() + n * kVocab;
      std::vector<float> sorted(row, row + kVocab);
      std::ranges::sort(sorted, std::greater<>());
      sorted.resize(TopLogits::kCount);
      EXPECT_TRUE(std::ranges::equal(top.logits, sorted));
      for (std::size_t i = 0; i < top.ids.size(); ++i) EXPECT_EQ(row[top.ids[i]], sorted[i]);
      double mass = 0;
      for (std::int64_t v = 0; v < kVocab; ++v) {
        mass += std::exp(static_cast<double>(row[v] - sorted[0]) * 0.7);
      }
      EXPECT_NEAR(top.mass, mass, 1e-6 * mass);
    }
  }
}

TEST_P(Cuda, AdamW) {
  check(AdamWSteps{{24, 40}});
  check(AdamWSteps{{7}});
  check(AdamWSteps{{24, 40}, 3, 1.0, 0.9});
}

TEST_P(Cuda, Muon) {
  check(MuonSteps{24, 24});
  check(MuonSteps{24, 72, 3});
  check(MuonSteps{16, 64, 1, 2, 1.0, 0.9});
  check(MuonSteps{64, 16});
}

/// Parameters that follow each other are stepped by one launch, which comes before whatever is
/// asked for next, and before a step with other numbers.
TEST_P(Cuda, AdamWOfSeveral) {
  struct Parameter {
    Tensor value, gradient, m, v;
  };
  const auto norms = [](Backend& backend) {
    Draw draw(DType::kF32);
    std::vector<Parameter> all;
    for (const std::int64_t count : {5000, 1, 4096, 264}) {
      const Shape shape{count};
      all.push_back(
          {draw(shape), draw(shape), Tensor(DType::kF32, shape), Tensor(DType::kF32, shape)});
    }
    AdamW hyper{.learning_rate = 0.1F, .step = 1};
    std::vector<double> squares;
    for (const float rate : {0.1F, 0.2F}) {
      hyper.learning_rate = rate;
      for (Parameter& p : all) {
        hyper.weight_decay = &p == &all[1] ? 0.0F : 0.1F;
        backend.adamw_step(p.value, p.gradient, p.m, p.v, hyper, nullptr);
      }
      ++hyper.step;
      if (rate > 0.15F) break;
      for (const Parameter& p : all) squares.push_back(backend.squared_norm(p.value));
    }
    const std::vector<base::ConstView> both = {all[0].value, all[3].value};
    squares.push_back(backend.squared_norm(both));
    return squares;
  };
  const std::vector<double> got = norms(*Cuda::backend());
  const std::vector<double> expected = norms(*make_backend(Device::kReference, DType::kF32));
  ASSERT_EQ(got.size(), 5U);
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], expected[i], 1e-5 * expected[i]) << i;
  }
}

TEST_P(Cuda, Norm) {
  const auto backend = Cuda::backend();
  const auto truth = make_backend(Device::kReference, DType::kF32);
  Draw draw(DType::kF32);
  for (const std::int64_t count : {1, 3, 4, 1027}) {
    const Tensor values = draw({count});
    const double expected = truth->squared_norm(values);
    EXPECT_NEAR(backend->squared_norm(values), expected, 1e-12 * expected) << count;
    const std::vector<base::ConstView> two = {values, values};
    EXPECT_NEAR(backend->squared_norm(two), 2 * expected, 2e-12 * expected) << count;
  }
}

TEST_P(Cuda, ChoicesGoFromOneToAnother) {
  const auto backend = Cuda::backend();
  Draw draw(GetParam());
  (void)Linear{17, 40, 16}(*backend, draw);
  const std::string text = backend->choices();
  const auto other = Cuda::backend();
  EXPECT_EQ(other->use_choices(text), "");
  (void)Linear{17, 40, 16}(*other, draw);
  EXPECT_EQ(other->choices(), text);
  EXPECT_EQ(other->use_choices("cuBLASLt 1 on another\n"),
            "they were made with cuBLASLt 1 on another, this is plain loops");
  EXPECT_EQ(other->use_choices("plain loops\n8 8 many\n"),
            "a line of them cannot be read: 8 8 many");
  EXPECT_EQ(make_backend(Device::kReference, DType::kF32)->choices(), "");
}

TEST_P(Cuda, SaysWhatItCannot) {
  const auto backend = Cuda::backend();
  Draw draw(DType::kF32);
  EXPECT_THAT(error_of([&] {
                Linear{3, 12, 8}(*backend, draw);
              }),
              testing::HasSubstr("multiples of 8"));
  // The heads of all sequences are a dimension of a launch's grid.
  const Tensor qkv = Tensor(GetParam(), {8192, 3 * 64});
  const Tensor out(GetParam(), {8192, 64}), lse(DType::kF32, {8192, 8, 1});
  EXPECT_THROW(backend->attention_forward(out, lse, qkv), gpu::Error);
  EXPECT_THAT(error_of([] { make_backend(Device::kCuda, GetParam(), nullptr, 3); }),
              testing::HasSubstr("--device cuda:3: no CUDA device 3"));
}

TEST(CudaDoor, SaysWhatItCannot) {
  EXPECT_THAT(error_of([] { make_inference_backend(Device::kCuda, WeightFormat::kInt8); }),
              testing::HasSubstr("bf16 and fp32 only, not in int8"));
  EXPECT_EQ(cuda_trouble(0), "");
  EXPECT_NE(cuda_trouble(1), "");
}

/// Of a linear layer with (rows, K, M) = (17, 40, 16).
Tensor linear_on(Backend& backend) {
  return Linear{17, 40, 16}(backend, Draw(DType::kF32)).front().tensor;
}

TEST(CudaDoor, RoundsProductsOfF32ToTf32WhereItMay) {
  const auto rounding = make_backend(Device::kCuda, DType::kF32);
  const auto exact = make_backend(Device::kCuda, DType::kF32, nullptr, 0, /*tf32=*/false);
  EXPECT_THAT(rounding->description(), testing::EndsWith("cuBLASLt tf32"));
  EXPECT_THAT(exact->description(), testing::EndsWith("cuBLASLt fp32"));
  EXPECT_THAT(make_backend(Device::kCuda, DType::kBf16)->description(),
              testing::EndsWith("cuBLASLt bf16"));
  const Tensor expected = linear_on(*make_backend(Device::kReference, DType::kF32));
  const Tensor rounded = linear_on(*rounding);
  expect_close({"fp32", linear_on(*exact)}, {"fp32", expected}, tolerance_of(DType::kF32));
  expect_close({"tf32", rounded}, {"tf32", expected}, 1e-3);
  double difference = 0;
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    difference = std::max(difference, std::abs(rounded.at(i) - expected.at(i)));
  }
  EXPECT_GT(difference, 1e-5);
}

TEST(CudaDoor, MakesBothFormatsForInference) {
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kBf16}) {
    const auto backend = make_inference_backend(Device::kCuda, format, nullptr, 0, /*tf32=*/false);
    EXPECT_EQ(backend->weight_format(), format);
    EXPECT_EQ(backend->compute_type(), format == WeightFormat::kF32 ? DType::kF32 : DType::kBf16);
    EXPECT_THAT(backend->description(),
                testing::EndsWith(format == WeightFormat::kF32 ? "cuBLASLt fp32" : "bf16"));
  }
}

}  // namespace
}  // namespace kernels::test
