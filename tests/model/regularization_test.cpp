// Dropout, label smoothing and z-loss in the whole model: against PyTorch's GPT-2, and what they
// must leave alone. tests/golden/regularization/make.py made the golden values.

#include <algorithm>
#include <cmath>
#include <limits>

#include "expect_error.h"
#include "model/golden.h"

namespace model_test {
namespace {

using base::DType;
using model::Gpt2;
using model::Regularization;

const base::Path kFolder = GPT2_SOURCE_DIR "/tests/golden/regularization";

json golden() { return json::parse(base::read_file(kFolder / "golden.json")); }

class Regularized : public testing::TestWithParam<BackendCase> {
 protected:
  Regularized() : ids(flat_ids(ref["inputs"])), targets(flat_ids(ref["targets"])) {}
  void SetUp() override {
    if (const std::string reason = missing_instruction_set(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
    const char* const isa = std::getenv("GPT2_CPU_ISA");
    if (GetParam().device == kernels::Device::kReference && isa != nullptr &&
        std::string_view(isa) != "generic") {
      GTEST_SKIP() << "the reference knows no instruction sets: once is enough";
    }
  }
  Gpt2 load() const {
    return model::load_model(golden_folder("tiny"),
                             kernels::make_backend(GetParam().device, GetParam().type), true);
  }
  bool f32() const { return GetParam().type == DType::kF32; }
  float scale() const {
    const auto ignored = std::ranges::count(targets, kernels::kIgnoredTarget);
    return 1.0F / static_cast<float>(static_cast<std::ptrdiff_t>(targets.size()) - ignored);
  }
  /// Loss and gradients of rows [first, first + count) of the three sequences of 16.
  double pass(Gpt2& model, std::size_t first, std::size_t count, std::int64_t step = 12,
              std::int64_t first_row = 0) const {
    return model.forward_backward(
        std::span(ids).subspan(first, count), std::span(targets).subspan(first, count), scale(),
        {.step = step, .first_row = first_row + static_cast<std::int64_t>(first)});
  }
  /// Every bit of one step's gradients.
  std::vector<float> gradients(Regularization regularization, std::int64_t step = 12,
                               model::Recompute recompute = model::Recompute::kNone,
                               std::int64_t sequences = 3) const {
    Gpt2 model = load();
    model.prepare_training(sequences, 16, recompute, regularization);
    model.zero_gradients();
    for (std::int64_t done = 0; done < 3; done += sequences) {
      pass(model, static_cast<std::size_t>(done * 16), static_cast<std::size_t>(sequences * 16),
           step);
    }
    std::vector<float> values;
    for (std::size_t i = 0; i < model.gradients().size(); ++i) {
      const std::span<const float> own =
          file_values(model.gradients().view(i), model.gradients().info(i));
      values.insert(values.end(), own.begin(), own.end());
    }
    return values;
  }

  const json ref = golden();
  const std::vector<std::int32_t> ids, targets;
};

INSTANTIATE_TEST_SUITE_P(All, Regularized,
                         testing::Values(BackendCase{kernels::Device::kReference, DType::kF32},
                                         BackendCase{kernels::Device::kCpu, DType::kF32},
                                         BackendCase{kernels::Device::kCpu, DType::kBf16}),
                         [](const auto& c) { return name_of(c.param); });

/// Largest magnitude.
double largest(std::span<const float> values) {
  double most = 0;
  for (const float value : values) most = std::max(most, std::abs(double{value}));
  return most;
}

double norm(std::span<const float> values) {
  double sum = 0;
  for (const float v : values) sum += double{v} * double{v};
  return std::sqrt(sum);
}

TEST_P(Regularized, LossAndGradientsArePyTorchs) {
  const formats::TensorFile file = formats::TensorFile::open(kFolder / "gradients.safetensors");
  Gpt2 model = load();
  for (const json& c : ref["cases"]) {
    SCOPED_TRACE(c["name"]);
    Regularization r;
    r.dropout = c["dropout"].get<float>();
    r.seed = c["seed"].get<std::uint64_t>();
    r.loss = {c["label_smoothing"].get<float>(), c["z_loss"].get<float>()};
    model.prepare_training(3, 16, model::Recompute::kNone, r);
    model.zero_gradients();
    const double loss = pass(model, 0, ids.size(), c["step"], c["first_row"]);
    const double expected = c["loss"];
    EXPECT_NEAR(loss * double{scale()}, expected, (f32() ? 1e-6 : 5e-4) * expected);
    std::size_t compared = 0;
    for (std::size_t i = 0; i < model.gradients().size(); ++i) {
      const model::ParameterInfo& info = model.gradients().info(i);
      const std::span<const float> own = file_values(model.gradients().view(i), info);
      const double length = c["gradient_norms"][info.name];
      EXPECT_NEAR(norm(own), length, (f32() ? 1e-5 : 0.01) * length) << info.name;
      const formats::Tensor* tensor = file.find(c["name"].get<std::string>() + "/" + info.name);
      if (tensor == nullptr) continue;
      ++compared;
      std::vector<float> values(own.size());
      ASSERT_EQ(tensor->bytes.size(), values.size() * sizeof(float));
      std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
      const double allowed = (f32() ? 1e-5 : 0.025) * largest(values);
      for (std::size_t j = 0; j < values.size(); ++j) {
        ASSERT_NEAR(own[j], values[j], allowed) << info.name << "[" << j << "]";
      }
    }
    EXPECT_GE(compared, 5U);
  }
}

TEST_P(Regularized, DropoutHasPyTorchsExpectation) {
  const json& drawn = ref["drawn"];
  constexpr std::int64_t kSteps = 500;
  Gpt2 model = load();
  Regularization r;
  r.dropout = drawn["dropout"].get<float>();
  model.prepare_training(3, 16, model::Recompute::kNone, r);
  double sum = 0, squares = 0;
  std::vector<double> gradient;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    model.zero_gradients();
    const double loss = pass(model, 0, ids.size(), step) * double{scale()};
    sum += loss;
    squares += loss * loss;
    const base::View& bias = model.gradients().blocks[0].fc_bias;
    gradient.resize(static_cast<std::size_t>(bias.elements()));
    for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += double{bias.f32()[i]};
  }
  // Five standard errors of the mean of so many steps.
  const double mean = drawn["loss"]["mean"], deviation = drawn["loss"]["deviation"];
  const double rounding = f32() ? 0 : 5e-4 * mean;
  EXPECT_NEAR(sum / kSteps, mean, 5 * deviation / std::sqrt(kSteps) + rounding);
  const double own = std::sqrt(squares / kSteps - sum / kSteps * sum / kSteps);
  EXPECT_NEAR(own, deviation, 0.2 * deviation);
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double error = drawn["gradient"]["deviation"][i].get<double>() / std::sqrt(kSteps);
    EXPECT_NEAR(gradient[i] / kSteps, drawn["gradient"]["mean"][i].get<double>(), 5 * error) << i;
  }
}

TEST_P(Regularized, MasksDependOnSeedAndStep) {
  const Regularization r{.dropout = 0.1F, .seed = 5, .loss = {}};
  const std::vector<float> once = gradients(r);
  EXPECT_EQ(gradients(r), once);
  EXPECT_NE(gradients(r, 13), once);
  EXPECT_NE(gradients({.dropout = 0.1F, .seed = 6, .loss = {}}), once);
  EXPECT_EQ(gradients({.dropout = 0, .seed = 6, .loss = {}}), gradients({}));
}

TEST_P(Regularized, MasksAreTheSameWhateverIsComputedAgain) {
  const Regularization r{.dropout = 0.2F, .seed = 5, .loss = {.label_smoothing = 0.1F}};
  const std::vector<float> kept = gradients(r);
  EXPECT_EQ(gradients(r, 12, model::Recompute::kBlock), kept);
  if (GetParam().device == kernels::Device::kReference) return;  // GELU of what it has not rounded
  EXPECT_EQ(gradients(r, 12, model::Recompute::kGelu), kept);
}

TEST_P(Regularized, MasksAreTheSameInMicroBatchesOfAnySize) {
  const Regularization r{.dropout = 0.5F, .seed = 5, .loss = {}};
  const std::vector<float> whole = gradients(r);
  const std::vector<float> parts = gradients(r, 12, model::Recompute::kNone, 1);
  const double allowed = (f32() ? 1e-6 : 0.02) * largest(whole);
  for (std::size_t i = 0; i < whole.size(); ++i) ASSERT_NEAR(parts[i], whole[i], allowed) << i;
}

TEST_P(Regularized, EvaluationDropsNothing) {
  Gpt2 plain = load(), trained = load();
  trained.prepare_training(3, 16, model::Recompute::kNone, {.dropout = 0.5F, .loss = {}});
  pass(trained, 0, ids.size());
  std::vector<float> expected(ids.size()), losses(ids.size());
  EXPECT_EQ(trained.evaluate(ids, targets, 3, 16, losses),
            plain.evaluate(ids, targets, 3, 16, expected));
  EXPECT_EQ(losses, expected);
}

TEST(RegularizedPlan, CountsTheCopyThatDropoutNeeds) {
  const auto backend = kernels::make_backend(kernels::Device::kReference, DType::kF32);
  const model::Config config = model::preset("tiny");
  const auto bytes = [&](float dropout) {
    const Regularization r{.dropout = dropout, .loss = {}};
    return Gpt2::plan(config, *backend, 2, 64, true, model::Recompute::kNone, r).activations;
  };
  EXPECT_EQ(bytes(0.1F) - bytes(0), std::size_t{2} * 64 * 32 * sizeof(float));
}

TEST(RegularizedPlan, RefusesWhatIsNoProbability) {
  Gpt2 model = model::load_model(
      golden_folder("tiny"), kernels::make_backend(kernels::Device::kReference, DType::kF32), true);
  model.prepare_training(1, 2, model::Recompute::kNone, {.dropout = 1.0F, .loss = {}});
  const std::vector<std::int32_t> ids = {1, 2};
  expect_error("embed_forward: dropout: expected a probability from 0 to below 1, got 1",
               [&] { model.forward_backward(ids, ids, 1); });
}

}  // namespace
}  // namespace model_test
