// What the model promises beside the golden values: finite differences, generation, memory, ids.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/rng.h"
#include "expect_error.h"
#include "model/golden.h"
#include "model/random_model.h"

namespace model_test {
namespace {

using base::DType;
using model::Config;
using model::Gpt2;
using model::KvCache;
using model::Optimizer;
using model::ParameterInfo;
using model::ParameterSet;

constexpr Config kConfig = kSmallConfig;

/// A model whose every parameter is random.
Gpt2 random_model(const Config& config, bool trainable, std::unique_ptr<kernels::Backend> backend) {
  Gpt2 model(config, std::move(backend), trainable);
  randomize(model);
  return model;
}

// ---- the list of parameters -------------------------------------------------------------------

TEST(ParameterSet, TheListCoversTheConfig) {
  const Config config = model::preset("tiny");
  const ParameterSet set(config);
  std::int64_t count = 0;
  set.for_each([&](const base::View& view, const model::ParameterInfo& info) {
    EXPECT_EQ(view.shape(), info.shape) << info.name;
    count += static_cast<std::int64_t>(file_values(view, info).size());
    EXPECT_EQ(info.decays, info.shape.rank() == 2) << info.name;
  });
  EXPECT_EQ(count, config.parameter_count());
}

TEST(ParameterSet, NamesAreHuggingFaces) {
  const ParameterSet set(kConfig);
  EXPECT_EQ(set.size(), 28U);
  EXPECT_EQ(set.info(0).name, "wte.weight");
  EXPECT_EQ(set.info(4).name, "h.0.attn.c_attn.weight");
  EXPECT_EQ(set.info(25).name, "h.1.mlp.c_proj.bias");
  EXPECT_EQ(set.view(25).data(), set.blocks[1].out_bias.data());
  EXPECT_EQ(set.view(27).data(), set.lnf_bias.data());
}

TEST(Initialize, IsGpt2sAndAPureFunctionOfTheSeed) {
  Config config = kConfig;
  config.channels = 96;
  Gpt2 model(config, reference(), false), again(config, reference(), false);
  model.initialize(3);
  again.initialize(3);
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const model::ParameterInfo& info = model.parameters().info(i);
    const base::View& view = model.parameters().view(i);
    EXPECT_EQ(std::memcmp(view.data(), again.parameters().view(i).data(), view.bytes()), 0);
    const std::span<const float> values = file_values(view, info);
    const auto n = static_cast<double>(values.size());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    double squares = 0;
    for (const float v : values) squares += (v - mean) * (v - mean);
    const bool residual = info.name.ends_with("c_proj.weight");
    const double expected_deviation = info.shape.rank() == 1 ? 0 : residual ? 0.01 : 0.02;
    // Four standard errors of a sample's deviation and mean.
    EXPECT_NEAR(std::sqrt(squares / n), expected_deviation,
                4 * expected_deviation / std::sqrt(2 * n) + 1e-9)
        << info.name;
    EXPECT_NEAR(mean, info.init == model::Init::kOnes ? 1 : 0,
                4 * expected_deviation / std::sqrt(n) + 1e-9)
        << info.name;
  }
  again.initialize(4);
  EXPECT_NE(again.parameters().wpe.f32()[0], model.parameters().wpe.f32()[0]);
}

TEST(Initialize, TheFirstLossIsThatOfAUniformGuess) {
  Gpt2 model(kConfig, reference(), false);
  model.initialize(1);
  const auto ids = random_ids(12, 1), targets = random_ids(12, 2);
  std::vector<float> losses(12);
  EXPECT_NEAR(model.evaluate(ids, targets, 1, 12, losses) / 12, std::log(61.0), 0.05);
}

// ---- gradients --------------------------------------------------------------------------------

TEST(Gradients, MatchFiniteDifferencesOfTheWholeModel) {
  Gpt2 model = random_model(kConfig, true, reference());
  const auto ids = random_ids(2 * 9, 1), targets = random_ids(2 * 9, 2);
  model.prepare_training(2, 9);
  model.forward_backward(ids, targets, 1.0F);
  std::vector<float> losses(ids.size());
  const auto loss = [&] {
    model.pack();
    return model.evaluate(ids, targets, 2, 9, losses);
  };
  // The residual stream is f32: a loss of about 80 carries an error near 1e-5, a step of 1e-2 one
  // of that over the step, 1e-3, and a cubic term of the same size.
  constexpr float kStep = 1e-2F;
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const model::ParameterInfo& info = model.parameters().info(i);
    const std::span<const float> gradient = file_values(model.gradients().view(i), info);
    for (std::uint64_t draw = 0; draw < 3; ++draw) {
      const auto at = static_cast<std::size_t>(base::random_below(gradient.size(), 9, i, draw));
      float& value = model.parameters().view(i).f32()[at];
      const float before = value;
      value = before + kStep;
      const double above = loss();
      value = before - kStep;
      const double below = loss();
      value = before;
      const double difference = (above - below) / (2.0 * double{kStep});
      EXPECT_NEAR(gradient[at], difference, 5e-3 + 5e-3 * std::abs(difference))
          << info.name << " element " << at;
    }
  }
}

TEST(Gradients, AccumulateOverMicroBatches) {
  Gpt2 whole = random_model(kConfig, true, reference()),
       parts = random_model(kConfig, true, reference());
  const auto ids = random_ids(4 * 7, 1), targets = random_ids(4 * 7, 2);
  whole.prepare_training(4, 7);
  const double expected = whole.forward_backward(ids, targets, 1.0F / 28);
  parts.prepare_training(2, 7);
  double sum = 0;
  for (std::size_t part = 0; part < 2; ++part) {
    sum += parts.forward_backward(std::span(ids).subspan(part * 14, 14),
                                  std::span(targets).subspan(part * 14, 14), 1.0F / 28);
  }
  EXPECT_NEAR(sum, expected, 1e-5 * expected);
  EXPECT_NEAR(parts.gradient_norm(), whole.gradient_norm(), 1e-5 * whole.gradient_norm());
  parts.zero_gradients();
  EXPECT_EQ(parts.gradient_norm(), 0);
}

/// Every bit of two steps' gradients.
std::vector<float> gradients_of(DType type, model::Recompute recompute) {
  Gpt2 model = random_model(kConfig, true, kernels::make_backend(kernels::Device::kCpu, type));
  model.prepare_training(2, 12, recompute);
  model.forward_backward(random_ids(24, 5), random_ids(24, 6), 1);
  model.zero_gradients();  // what the first one left must not show
  model.forward_backward(random_ids(24, 1), random_ids(24, 2), 1.0F / 24);
  model.forward_backward(random_ids(24, 3), random_ids(24, 4), 1.0F / 24);
  std::vector<float> values;
  for (std::size_t i = 0; i < model.gradients().size(); ++i) {
    const base::View& view = model.gradients().view(i);
    values.insert(values.end(), view.f32(), view.f32() + view.elements());
  }
  return values;
}

TEST(Gradients, AreTheSameBitsWhateverIsComputedAgain) {
  for (const DType type : {DType::kF32, DType::kBf16}) {
    const std::vector<float> kept = gradients_of(type, model::Recompute::kNone);
    EXPECT_EQ(gradients_of(type, model::Recompute::kGelu), kept) << base::name_of(type);
    EXPECT_EQ(gradients_of(type, model::Recompute::kBlock), kept) << base::name_of(type);
  }
}

TEST(Gradients, BeginAnewAfterZeroing) {
  const auto gradients = [](bool used) {
    Gpt2 model = random_model(kConfig, true, reference());
    model.prepare_training(1, 12);
    if (used) {
      model.forward_backward(random_ids(12, 5), random_ids(12, 6), 1);
      model.zero_gradients();
    }
    model.forward_backward(random_ids(12, 1), random_ids(12, 2), 1);
    return model.gradient_norm();
  };
  EXPECT_EQ(gradients(true), gradients(false));
}

TEST(Gradients, ThePaddingOfTheVocabularyStaysZero) {
  Gpt2 model = random_model(kConfig, true, reference());
  ParameterSet m(kConfig), v(kConfig);
  model.prepare_training(1, 12);
  const auto ids = random_ids(12, 1), targets = random_ids(12, 2);
  model.forward_backward(ids, targets, 1);
  model.adamw_step(m, v, {.learning_rate = 0.1F, .weight_decay = 0.1F});
  for (const base::View& wte : {model.parameters().wte, model.gradients().wte, m.wte, v.wte}) {
    const base::View padding = wte.rows(61, 128 - 61);
    EXPECT_TRUE(std::all_of(padding.f32(), padding.f32() + padding.elements(),
                            [](float value) { return value == 0; }));
  }
}

TEST(Training, OtherSizesMayFollow) {
  Gpt2 model = random_model(kConfig, true, reference());
  model.prepare_training(1, 5);
  model.forward_backward(random_ids(5, 1), random_ids(5, 2), 1);
  const double norm = model.gradient_norm();
  model.prepare_training(3, 12);
  EXPECT_EQ(model.gradient_norm(), norm) << "gradients are kept";
  model.forward_backward(random_ids(36, 1), random_ids(36, 2), 1);
  expect_error("ids: expected 36 values, got 5",
               [&] { model.forward_backward(random_ids(5, 1), random_ids(5, 2), 1); });
}

TEST(Training, SameBitsEveryTime) {
  const auto run = [] {
    Gpt2 model = random_model(kConfig, true, reference());
    ParameterSet m(kConfig), v(kConfig);
    model.prepare_training(2, 12);
    double loss = 0;
    for (std::int64_t step = 1; step <= 3; ++step) {
      model.zero_gradients();
      loss = model.forward_backward(random_ids(24, 1), random_ids(24, 2), 1.0F / 24);
      model.adamw_step(m, v, {.learning_rate = 0.01F, .weight_decay = 0.1F, .step = step});
    }
    return loss;
  };
  EXPECT_EQ(run(), run());
}

TEST(Training, OnlyMatricesDecay) {
  Gpt2 model = random_model(kConfig, true, reference());
  ParameterSet m(kConfig), v(kConfig);
  const float bias = model.parameters().lnf_bias.f32()[0];
  const float weight = model.parameters().blocks[1].fc_weight.f32()[0];
  model.prepare_training(1, 1);  // gradients are zero: decay alone moves anything
  model.adamw_step(m, v, {.learning_rate = 0.5F, .weight_decay = 0.1F});
  EXPECT_EQ(model.parameters().lnf_bias.f32()[0], bias);
  EXPECT_FLOAT_EQ(model.parameters().blocks[1].fc_weight.f32()[0], weight * 0.95F);
}

// What the model adds to the operation: which parameters, which matrices, which scale.
TEST(Training, MuonStepsTheBlocksMatrices) {
  Gpt2 model = random_model(kConfig, true, reference()),
       other = random_model(kConfig, true, reference());
  ParameterSet m(kConfig), v(kConfig, second_moments_of(Optimizer::kMuon));
  ParameterSet other_m(kConfig), other_v(kConfig);
  const auto ids = random_ids(12, 1), targets = random_ids(12, 2);
  for (Gpt2* each : {&model, &other}) {
    each->prepare_training(1, 12);
    each->forward_backward(ids, targets, 1);
  }
  const kernels::AdamW adamw{.learning_rate = 0.01F, .weight_decay = 0.1F};
  kernels::Muon muon{.learning_rate = 0.02F, .weight_decay = 0.25F};
  other.adamw_step(other_m, other_v, adamw);
  Gpt2 before = random_model(kConfig, true, reference());
  model.muon_step(m, v, muon, adamw);
  const auto values = [](const base::View& view) {
    return std::vector<float>(view.f32(), view.f32() + view.elements());
  };
  std::size_t matrices = 0;
  for (std::size_t i = 0; i < m.size(); ++i) {
    const ParameterInfo& info = m.info(i);
    if (info.matrices == 0) {
      EXPECT_EQ(values(model.parameters().view(i)), values(other.parameters().view(i)))
          << info.name;
      EXPECT_EQ(values(v.view(i)), values(other_v.view(i))) << info.name;
      continue;
    }
    ++matrices;
    EXPECT_EQ(info.matrices, info.name.ends_with("attn.c_attn.weight") ? 3 : 1) << info.name;
    EXPECT_TRUE(v.view(i).empty()) << info.name;
    const std::int64_t rows = info.shape[0], columns = info.shape[1] / info.matrices;
    muon.parts = info.matrices;
    muon.scale = static_cast<float>(0.2 * std::sqrt(static_cast<double>(std::max(rows, columns))));
    const base::View expected = before.parameters().view(i);
    base::Arena arena = base::Arena(expected.bytes());
    const base::View moment = arena.take(DType::kF32, info.shape);
    before.backend().muon_step(expected, other.gradients().view(i), moment, muon, nullptr);
    EXPECT_EQ(values(model.parameters().view(i)), values(expected)) << info.name;
    EXPECT_EQ(values(m.view(i)), values(moment)) << info.name;
  }
  EXPECT_EQ(matrices, 4U * static_cast<std::size_t>(kConfig.layers));
  std::vector<float> logits(12 * 61), packed(12 * 61);
  model.logits(ids, logits);
  model.pack();
  model.logits(ids, packed);
  EXPECT_EQ(logits, packed) << "the products' copies are those of the new parameters";
}

TEST(Training, AnAverageFollowsAndChangesPlaces) {
  Gpt2 model = random_model(kConfig, true, reference());
  ParameterSet m(kConfig), v(kConfig), average(kConfig);
  for (std::size_t i = 0; i < average.size(); ++i) {
    model.backend().convert(average.view(i), model.parameters().view(i));
  }
  const auto ids = random_ids(12, 1), targets = random_ids(12, 2);
  model.prepare_training(1, 12);
  std::vector<float> begin(12 * 61), now(12 * 61), back(12 * 61);
  model.logits(ids, begin);
  model.forward_backward(ids, targets, 1);
  const float old = average.lnf_weight.f32()[3], old_matrix = average.blocks[0].fc_weight.f32()[3];
  model.adamw_step(m, v, {.learning_rate = 0.01F}, {&average, 0.75});
  model.muon_step(m, v, {.learning_rate = 0}, {.learning_rate = 0}, {&average, 1 - 0x1p-20});
  const float moved = model.parameters().lnf_weight.f32()[3];
  EXPECT_NE(moved, old);
  EXPECT_NEAR(average.lnf_weight.f32()[3], 0.75 * old + 0.25 * moved, 1e-6);
  const float moved_matrix = model.parameters().blocks[0].fc_weight.f32()[3];
  EXPECT_NEAR(average.blocks[0].fc_weight.f32()[3], 0.75 * old_matrix + 0.25 * moved_matrix, 1e-6);

  model.logits(ids, now);
  model.exchange_parameters(average);
  EXPECT_EQ(average.lnf_weight.f32()[3], moved);
  model.logits(ids, back);
  EXPECT_NE(back, now);
  EXPECT_NE(back, begin);
  model.exchange_parameters(average);
  model.logits(ids, back);
  EXPECT_EQ(back, now);
  Config wrong = kConfig;
  wrong.context = 5;
  ParameterSet misfit(wrong);
  expect_error("exchange_parameters: the set belongs to a model of another shape",
               [&] { model.exchange_parameters(misfit); });
  expect_error("muon_step: the moments belong to a model of another shape", [&] {
    model.muon_step(m, v, {}, {}, {&misfit, 0.5});
  });
}

TEST(Memory, MuonNeedsNoSecondMomentsOfTheBlocksMatrices) {
  const auto backend = kernels::make_backend(kernels::Device::kCpu, DType::kBf16);
  const auto plan = [&](Optimizer optimizer, bool average) {
    return Gpt2::plan(kConfig, *backend, 2, 12, true, model::Recompute::kNone, {}, optimizer,
                      average);
  };
  const model::MemoryPlan adamw = plan(Optimizer::kAdamW, false);
  const model::MemoryPlan muon = plan(Optimizer::kMuon, true);
  const ParameterSet all(kConfig), second(kConfig, second_moments_of(Optimizer::kMuon));
  EXPECT_EQ(adamw.moments, 2 * all.bytes());
  EXPECT_EQ(muon.moments, all.bytes() + second.bytes());
  EXPECT_LT(second.bytes(), all.bytes());
  EXPECT_EQ(adamw.average, 0U);
  EXPECT_EQ(muon.average, all.bytes());
  EXPECT_GT(muon.workspace, adamw.workspace);
  EXPECT_EQ(muon.total() - adamw.total(), second.bytes() + muon.workspace - adamw.workspace);
}

TEST(Training, RefusesWhatCannotBe) {
  Gpt2 fixed(kConfig, reference(), false), model(kConfig, reference(), true);
  expect_error("prepare_training: this model was made for inference only",
               [&] { fixed.prepare_training(1, 1); });
  expect_error("gradients: prepare_training() was not called", [&] { model.gradients(); });
  expect_error("gradients: prepare_training() was not called",
               [&] { model.forward_backward(random_ids(1, 1), random_ids(1, 2), 1); });
  expect_error("sequence length: expected 1 to the model's context of 12, got 13",
               [&] { model.prepare_training(1, 13); });
  expect_error("prepare_training: batch: expected 1 or more, got 0",
               [&] { model.prepare_training(0, 3); });
  model.prepare_training(1, 3);
  Config other = kConfig;
  other.context = 5;
  ParameterSet m(other), v(kConfig);
  expect_error("adamw_step: the moments belong to a model of another shape",
               [&] { model.adamw_step(m, v, {}); });
}

// ---- ids --------------------------------------------------------------------------------------

TEST(Ids, OutsideTheVocabularyAreRefusedAlsoInsideItsPadding) {
  Gpt2 model = random_model(kConfig, true, reference());
  std::vector<float> losses(2), logits(61);
  KvCache cache(kConfig, DType::kF32);
  model.prepare_training(1, 2);
  expect_error("id 61 at position 1: expected 0 to 60", [&] {
    model.forward_backward(std::vector<std::int32_t>{0, 61}, std::vector<std::int32_t>{0, 0}, 1);
  });
  expect_error("target -2 at position 0: expected -1 to 60", [&] {
    model.forward_backward(std::vector<std::int32_t>{0, 1}, std::vector<std::int32_t>{-2, 0}, 1);
  });
  expect_error("id -1 at position 0: expected 0 to 60", [&] {
    model.evaluate(std::vector<std::int32_t>{-1, 0}, std::vector<std::int32_t>{0, 0}, 1, 2, losses);
  });
  expect_error("target 61 at position 0: expected -1 to 60", [&] {
    model.evaluate(std::vector<std::int32_t>{0, 0}, std::vector<std::int32_t>{61, 0}, 1, 2, losses);
  });
  expect_error("id 100 at position 0: expected 0 to 60",
               [&] { model.logits(std::vector<std::int32_t>{100}, logits); });
  expect_error("id 61 at position 0: expected 0 to 60",
               [&] { model.decode(cache, std::vector<std::int32_t>{61}, logits); });
  EXPECT_EQ(cache.length(), 0);
  EXPECT_EQ(model.gradient_norm(), 0) << "a refused batch leaves the gradients alone";
}

TEST(Evaluate, RefusesSizesThatDisagree) {
  Gpt2 model(kConfig, reference(), false);
  std::vector<float> losses(4);
  const auto ids = random_ids(4, 1);
  const auto evaluate = [&](std::size_t n_ids, std::size_t n_targets, std::int64_t batch,
                            std::int64_t length) {
    model.evaluate(std::span(ids).first(n_ids), std::span(ids).first(n_targets), batch, length,
                   losses);
  };
  expect_error("ids: expected 4 values, got 3", [&] { evaluate(3, 4, 2, 2); });
  expect_error("targets: expected 4 values, got 3", [&] { evaluate(4, 3, 2, 2); });
  expect_error("losses: expected 2 values, got 4", [&] { evaluate(2, 2, 2, 1); });
  expect_error("evaluate: batch: expected 1 or more, got 0", [&] { evaluate(0, 0, 0, 1); });
  expect_error("sequence length: expected 1 to the model's context of 12, got 13",
               [&] { evaluate(4, 4, 1, 13); });
  std::vector<float> logits(61);
  expect_error("logits: expected 122 values, got 61",
               [&] { model.logits(std::span(ids).first(2), logits); });
}

// ---- generation -------------------------------------------------------------------------------

class Generation : public testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    if (GetParam().device != kernels::Device::kCpu) return;
    if (const std::string reason = missing_instruction_set(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
  }
  Gpt2 model() const {
    return random_model(kConfig, false, kernels::make_backend(GetParam().device, GetParam().type));
  }
  std::unique_ptr<kernels::Backend> inference_backend() const {
    const bool f32 = GetParam().type == DType::kF32;
    return kernels::make_inference_backend(
        GetParam().device, f32 ? kernels::WeightFormat::kF32 : kernels::WeightFormat::kBf16);
  }
  /// Logits of this model reach about 3; bf16 carries 8 bits through two blocks.
  float tolerance() const { return GetParam().type == DType::kF32 ? 1e-4F : 0.15F; }
};

TEST_P(Generation, DecodingInAnyPiecesGivesTheLogitsOfTheWhole) {
  Gpt2 model = this->model();
  const auto ids = random_ids(12, 8);
  std::vector<float> whole(12 * 61), last(61);
  model.logits(ids, whole);
  for (const std::vector<std::size_t>& pieces : std::vector<std::vector<std::size_t>>{
           {12}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {5, 1, 6}}) {
    KvCache cache(kConfig, GetParam().type);
    std::size_t at = 0;
    for (const std::size_t piece : pieces) {
      model.decode(cache, std::span(ids).subspan(at, piece), last);
      at += piece;
      EXPECT_EQ(cache.length(), static_cast<std::int64_t>(at));
      for (std::size_t i = 0; i < last.size(); ++i) {
        ASSERT_NEAR(last[i], whole[(at - 1) * 61 + i], tolerance()) << "after " << at;
      }
    }
  }
}

TEST_P(Generation, ATruncatedCacheGoesOnFromThere) {
  Gpt2 model = this->model();
  const auto ids = random_ids(12, 8);
  std::vector<float> first(61), second(61);
  KvCache cache(kConfig, GetParam().type);
  model.decode(cache, std::span(ids).first(6), first);
  model.decode(cache, std::span(ids).subspan(6, 1), first);
  model.decode(cache, std::span(ids).subspan(9, 2), second);  // another way to go on, forgotten
  cache.truncate(6);
  model.decode(cache, std::span(ids).subspan(6, 1), second);
  EXPECT_EQ(first, second);
}

TEST_P(Generation, AModelWithoutMastersComputesTheSame) {
  Gpt2 with = this->model();
  Gpt2 without = Gpt2::for_inference(kConfig, inference_backend());
  without.set_parameters([&](const model::ParameterInfo& info) {
    base::ConstView rows;
    with.parameters().for_each([&](const base::View& view, const model::ParameterInfo& own) {
      if (own.name == info.name) rows = view.rows(0, own.file_rows);
    });
    return rows;
  });
  const auto ids = random_ids(24, 8), targets = random_ids(24, 9);
  std::vector<float> expected(24), losses(24), logits(12 * 61), own_logits(12 * 61);
  with.evaluate(ids, targets, 2, 12, expected);
  without.evaluate(ids, targets, 2, 12, losses);
  with.logits(std::span(ids).first(12), logits);
  without.logits(std::span(ids).first(12), own_logits);
  // The embedding comes from the packed head, which has the compute type.
  const float near = GetParam().type == DType::kF32 ? 1e-5F : 0.1F;
  for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], near);
  for (std::size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(own_logits[i], logits[i], near);
  expect_error("parameters: this model was made for inference only", [&] { without.parameters(); });
}

TEST_P(Generation, InitialisationNeedsNoMasters) {
  Gpt2 with(kConfig, kernels::make_backend(GetParam().device, GetParam().type), false);
  Gpt2 without = Gpt2::for_inference(kConfig, inference_backend());
  with.initialize(4);
  without.initialize(4);
  const auto ids = random_ids(12, 1);
  std::vector<float> logits(12 * 61), own_logits(12 * 61);
  with.logits(ids, logits);
  without.logits(ids, own_logits);
  const float near = GetParam().type == DType::kF32 ? 1e-5F : 0.02F;
  for (std::size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(own_logits[i], logits[i], near);
}

TEST_P(Generation, EvaluationReusesItsMemoryForEverySize) {
  Gpt2 model = this->model();
  const auto ids = random_ids(36, 1), targets = random_ids(36, 2);
  std::vector<float> first(36), again(36), few(4);
  const double sum = model.evaluate(ids, targets, 3, 12, first);
  model.evaluate(std::span(ids).first(4), std::span(targets).first(4), 2, 2, few);
  model.evaluate(std::span(ids).first(4), std::span(targets).first(4), 1, 4, few);
  EXPECT_EQ(model.evaluate(ids, targets, 3, 12, again), sum);
  EXPECT_EQ(first, again);
}

TEST_P(Generation, LossesOfTheRowsWithTargetsAreThoseOfAFullEvaluation) {
  Gpt2 model = this->model();
  const auto ids = random_ids(36, 1);
  const auto all = random_ids(36, 2);
  std::vector<float> full(36), losses(36);
  model.evaluate(ids, all, 3, 12, full);
  // Rows before, between and after the scored ones; a sequence without any.
  for (const std::vector<std::size_t>& scored :
       std::vector<std::vector<std::size_t>>{{5, 6, 8, 30, 35}, {0, 13}, {}}) {
    std::vector<std::int32_t> targets(36, kernels::kIgnoredTarget);
    std::vector<float> expected(36);
    double sum = 0;
    for (const std::size_t row : scored) {
      targets[row] = all[row];
      expected[row] = full[row];
      sum += static_cast<double>(full[row]);
    }
    std::ranges::fill(losses, -1.0F);
    EXPECT_NEAR(model.evaluate(ids, targets, 3, 12, losses), sum, 1e-5);
    EXPECT_EQ(losses, expected);
  }
}

TEST_P(Generation, PaddingAtTheEndChangesNothingBeforeIt) {
  Gpt2 model = this->model();
  const auto ids = random_ids(12, 1), targets = random_ids(12, 2);
  std::vector<float> alone(7), padded(24);
  model.evaluate(std::span(ids).first(7), std::span(targets).first(7), 1, 7, alone);
  std::vector<std::int32_t> two(24, 0), two_targets(24, kernels::kIgnoredTarget);
  std::copy_n(ids.begin(), 12, two.begin());
  std::copy_n(targets.begin(), 12, two_targets.begin());
  std::copy_n(ids.begin(), 7, two.begin() + 12);
  std::copy_n(targets.begin(), 7, two_targets.begin() + 12);
  model.evaluate(two, two_targets, 2, 12, padded);
  EXPECT_EQ(alone, std::vector<float>(padded.begin() + 12, padded.begin() + 19));
}

INSTANTIATE_TEST_SUITE_P(All, Generation,
                         testing::Values(BackendCase{kernels::Device::kReference, DType::kF32},
                                         BackendCase{kernels::Device::kCpu, DType::kF32},
                                         BackendCase{kernels::Device::kCpu, DType::kBf16}),
                         [](const auto& c) { return name_of(c.param); });

TEST(Decode, RefusesWhatTheCacheCannotTake) {
  Gpt2 model = random_model(kConfig, false, reference());
  std::vector<float> logits(61), short_logits(60);
  const auto ids = random_ids(12, 1);
  KvCache cache(kConfig, DType::kF32);
  expect_error("decode: expected at least one id", [&] { model.decode(cache, {}, logits); });
  expect_error("logits: expected 61 values, got 60",
               [&] { model.decode(cache, std::span(ids).first(1), short_logits); });
  model.decode(cache, std::span(ids).first(7), logits);
  expect_error("decode: 6 ids after 7 go past the model's context of 12",
               [&] { model.decode(cache, std::span(ids).first(6), logits); });
  expect_error("KvCache::truncate: expected a length from 0 to 7, got 8",
               [&] { cache.truncate(8); });
  KvCache half(kConfig, DType::kBf16);
  expect_error("decode: the cache belongs to a model of another shape or type",
               [&] { model.decode(half, std::span(ids).first(1), logits); });
}

TEST(Cache, HoldsACopyOfAnother) {
  Gpt2 model = random_model(kConfig, false, reference());
  const auto ids = random_ids(12, 1);
  std::vector<float> first(61), second(61);
  KvCache prompt(kConfig, DType::kF32), copy(kConfig, DType::kF32, 1);
  model.decode(prompt, std::span(ids).first(7), first);
  copy.assign(prompt);
  EXPECT_EQ(copy.length(), 7);
  EXPECT_EQ(copy.capacity(), 7);
  model.decode(prompt, std::span(ids).subspan(7, 1), first);
  model.decode(copy, std::span(ids).subspan(7, 1), second);
  EXPECT_EQ(first, second);
  EXPECT_EQ(copy.capacity(), 12) << "doubled, but not past the context";
  expect_error("KvCache::reserve: expected at most the model's context of 12, got 13",
               [&] { copy.reserve(13); });
  KvCache half(kConfig, DType::kBf16);
  expect_error("KvCache::assign: the other cache belongs to a model of another shape or type",
               [&] { half.assign(copy); });
}

TEST(DecodeBatch, RefusesWhatDoesNotFit) {
  Gpt2 model = random_model(kConfig, false, reference());
  std::vector<float> logits(2 * 61);
  KvCache one(kConfig, DType::kF32), full(kConfig, DType::kF32);
  model.decode(full, random_ids(12, 1), std::span(logits).first(61));
  KvCache* const caches[] = {&one, &full};
  const std::vector<std::int32_t> ids = {1, 2};
  expect_error("decode: 1 ids after 12 go past the model's context of 12",
               [&] { model.decode_batch(caches, ids, logits); });
  full.truncate(3);
  expect_error("ids: expected 2 values, got 1",
               [&] { model.decode_batch(caches, std::span(ids).first(1), logits); });
  expect_error("logits: expected 122 values, got 61",
               [&] { model.decode_batch(caches, ids, std::span(logits).first(61)); });
  expect_error("id 61 at position 1: expected 0 to 60", [&] {
    model.decode_batch(caches, std::vector<std::int32_t>{1, 61}, logits);
  });
  EXPECT_EQ(one.length(), 0);
  EXPECT_EQ(full.length(), 3);
}

// ---- memory -----------------------------------------------------------------------------------

TEST(Plan, CountsWhatIsThere) {
  const auto backend = reference();
  const model::MemoryPlan training = Gpt2::plan(kConfig, *backend, 2, 12, true);
  const model::MemoryPlan inference = Gpt2::plan(kConfig, *backend, 2, 12, false);
  const ParameterSet set(kConfig);
  EXPECT_EQ(training.parameters, set.bytes());
  EXPECT_EQ(training.gradients, set.bytes());
  EXPECT_EQ(training.moments, 2 * set.bytes());
  EXPECT_EQ(inference.gradients + inference.moments, 0U);
  EXPECT_EQ(inference.parameters, ParameterSet(kConfig, model::Contents::kUnpacked).bytes());
  EXPECT_LT(inference.parameters, training.parameters);
  EXPECT_LE(inference.copies, training.copies);
  EXPECT_LT(inference.activations, training.activations);
}

TEST(Plan, ActivationsFollowTheFormula) {
  const auto backend = reference();
  const Config config = model::preset("124m");
  const std::int64_t c = config.channels, rows = 4 * 1024;
  // f32, a token and layer: two residuals, qkv, attention, two of 4 C; four statistics and H
  // log-sum-exps; two normed once for all layers. See docs/design.md.
  const std::int64_t per_layer = 4 * (2 * c + 3 * c + c + 8 * c + 4 + config.heads);
  const std::int64_t rest = 4 * (2 * c + 3 * c + 3 + c + c + 4 * c);
  const model::MemoryPlan plan = Gpt2::plan(config, *backend, 4, 1024, true);
  EXPECT_NEAR(static_cast<double>(plan.activations),
              static_cast<double>(rows * (config.layers * per_layer + rest)),
              0.001 * static_cast<double>(plan.activations));
}

TEST(Plan, WhatIsComputedAgainNeedsNoRoom) {
  const auto backend = reference();
  const Config config = model::preset("124m");
  const auto layer_bytes = [&](model::Recompute recompute) {
    Config deeper = config;
    ++deeper.layers;
    return Gpt2::plan(deeper, *backend, 4, 1024, true, recompute).activations -
           Gpt2::plan(config, *backend, 4, 1024, true, recompute).activations;
  };
  const std::size_t hidden = std::size_t{4} * 1024 * 768 * 4 * 4;
  EXPECT_EQ(layer_bytes(model::Recompute::kNone) - layer_bytes(model::Recompute::kGelu), hidden);
  EXPECT_EQ(layer_bytes(model::Recompute::kBlock), std::size_t{4} * 1024 * 768 * 4);
}

TEST(Plan, RefusesAShapeThatCannotExist) {
  Config config = kConfig;
  config.heads = 5;
  expect_error("model shape: channels: expected a multiple of 5 heads, got 24",
               [&] { Gpt2::plan(config, *reference(), 1, 1, true); });
  expect_error("model shape: channels: expected a multiple of 5 heads, got 24",
               [&] { Gpt2(config, reference(), true); });
}

}  // namespace
}  // namespace model_test
