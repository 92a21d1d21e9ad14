// Training a part of a model: what names mean, what has gradients and moments, low-rank adapters.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "expect_error.h"
#include "model/golden.h"
#include "model/random_model.h"
#include "temporary_folder.h"

namespace model_test {
namespace {

using base::DType;
using base::View;
using model::Config;
using model::Contents;
using model::Gpt2;
using model::Lora;
using model::ParameterInfo;
using model::ParameterSet;
using model::Recompute;
using model::Tuning;

constexpr Config with_layers(Config config, std::int64_t layers) {
  config.layers = layers;
  return config;
}
constexpr Config kConfig = with_layers(kSmallConfig, 3);
const Tuning kLora = {.lora = {.rank = 3, .alpha = 6}, .frozen = {}};

Tuning freezing(std::vector<std::string> frozen) {
  return {.lora = {}, .frozen = std::move(frozen)};
}

std::unique_ptr<kernels::Backend> backend_of(const BackendCase& c) {
  return kernels::make_backend(c.device, c.type);
}
std::unique_ptr<kernels::Backend> cpu(DType type = DType::kF32) {
  return backend_of({kernels::Device::kCpu, type});
}

/// A model whose every parameter is random, adapters too; those that two tunings have in common are
/// the same.
Gpt2 random_model(const Tuning& tuning, std::unique_ptr<kernels::Backend> backend) {
  Gpt2 model(kConfig, std::move(backend), true, tuning);
  randomize(model);
  return model;
}

std::vector<float> copy_of(const View& view) { return {view.f32(), view.f32() + view.elements()}; }

struct Moments {
  ParameterSet m, v;
  explicit Moments(const Tuning& tuning)
      : m(kConfig, Contents::kTrained, tuning), v(kConfig, Contents::kTrained, tuning) {}
};

/// `steps` of training on the same batch; the last loss.
double train(Gpt2& model, Moments& moments, std::int64_t steps, std::int64_t first = 1) {
  const auto ids = random_ids(24, 1), targets = random_ids(24, 2);
  double loss = 0;
  for (std::int64_t step = first; step < first + steps; ++step) {
    model.zero_gradients();
    loss = model.forward_backward(ids, targets, 1.0F / 24);
    model.adamw_step(moments.m, moments.v,
                     {.learning_rate = 0.01F, .weight_decay = 0.1F, .step = step});
  }
  return loss;
}

std::vector<float> losses_of(Gpt2& model) {
  std::vector<float> losses(24);
  model.evaluate(random_ids(24, 7), random_ids(24, 8), 2, 12, losses);
  return losses;
}

/// Names of what is trained, without numbers of blocks where all have it.
std::vector<std::string> trained(const Tuning& tuning) {
  const ParameterSet set(kConfig, Contents::kTrained, tuning);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < set.size(); ++i) {
    EXPECT_EQ(set.view(i).empty(), !set.info(i).trained) << set.info(i).name;
    if (set.info(i).trained) names.push_back(set.info(i).name);
  }
  return names;
}

std::size_t frozen_count(const std::string& word) {
  return ParameterSet(kConfig).size() - trained(freezing({word})).size();
}

// ---- names ------------------------------------------------------------------------------------

TEST(Freeze, NamesMeanGroupsBlocksAndPatterns) {
  using testing::ElementsAre;
  EXPECT_EQ(frozen_count("embeddings"), 2U);
  EXPECT_EQ(frozen_count("blocks"), 36U);
  EXPECT_EQ(frozen_count("blocks=1"), 12U);
  EXPECT_EQ(frozen_count("blocks=0-1"), 24U);
  EXPECT_EQ(frozen_count("attention"), 12U);
  EXPECT_EQ(frozen_count("mlp"), 12U);
  EXPECT_EQ(frozen_count("layernorm"), 14U);
  EXPECT_EQ(frozen_count("biases"), 19U);
  EXPECT_EQ(frozen_count("h.0.*"), 12U);
  EXPECT_EQ(frozen_count("h.0"), 12U);
  EXPECT_EQ(frozen_count("h.?.attn.c_attn.*"), 6U);
  EXPECT_EQ(frozen_count("transformer.h.2.mlp"), 4U);
  EXPECT_EQ(frozen_count("*.weight"), 21U);
  EXPECT_EQ(frozen_count("wte.weight"), 1U);
  EXPECT_EQ(frozen_count("lm_head.weight"), 1U);
  EXPECT_THAT(trained(freezing({"embeddings", "blocks=0-2", "*.bias"})),
              ElementsAre("ln_f.weight"));
}

TEST(Freeze, ANameThatMeansNothingIsAnError) {
  for (const std::string word : {"h.3.*", "blocks=3", "blocks=1-3", "blocks=2-1", "blocks=x",
                                 "blocks=", "embedding", "", "layer_norm"}) {
    expect_error(
        "freeze: '" + word +
            "' means no parameter of this model, which has blocks 0 to 2; expected embeddings, "
            "blocks, attention, mlp, layernorm, biases, blocks=FIRST-LAST, or names as in "
            "model.safetensors with * and ?, such as 'h.0.*' or 'wte.weight'",
        [&] {
          ParameterSet(kConfig, Contents::kAll, freezing({"biases", word}));
        });
  }
}

TEST(Freeze, NothingLeftToTrainIsAnError) {
  const std::string message =
      "freeze: every parameter is frozen, nothing is left to train; freeze less";
  expect_error(message, [] { Gpt2(kConfig, reference(), true, freezing({"*"})); });
  expect_error(message, [] {
    Gpt2(kConfig, reference(), true, {.lora = kLora.lora, .frozen = {"blocks"}});
  });
}

TEST(LoraOptions, OutOfRangeAreErrors) {
  const auto make = [](Lora lora) { Gpt2(kConfig, reference(), true, {lora, {}}); };
  expect_error("LoRA: rank: expected 1 to the model's 24 channels, got 25", [&] { make({25, 1}); });
  expect_error("LoRA: rank: expected 1 to the model's 24 channels, got -1", [&] { make({-1, 1}); });
  expect_error("LoRA: alpha: expected a number above 0, got 0", [&] { make({2, 0}); });
}

TEST(LoraParameters, AreListedBehindTheModelsAndTheOnlyOnesThatAreTrained) {
  const ParameterSet set(kConfig, Contents::kAll, kLora);
  const std::size_t base = ParameterSet(kConfig).size();
  ASSERT_EQ(set.size(), base + 3 * 8);
  EXPECT_EQ(set.info(base).name, "h.0.attn.c_attn.lora_A");
  EXPECT_EQ(set.info(base).shape, base::Shape({24, 3}));
  EXPECT_EQ(set.info(base + 1).shape, base::Shape({3, 72}));
  EXPECT_EQ(set.info(base + 23).name, "h.2.mlp.c_proj.lora_B");
  EXPECT_EQ(set.info(base + 22).shape, base::Shape({96, 3}));
  EXPECT_EQ(set.view(base + 22).data(), set.adapters[2].out_a.data());
  for (std::size_t i = 0; i < set.size(); ++i) {
    const ParameterInfo& info = set.info(i);
    EXPECT_EQ(info.trained, i >= base) << info.name;
    EXPECT_EQ(info.is_adapter, i >= base) << info.name;
    if (info.adapter < 0) continue;
    const auto a = static_cast<std::size_t>(info.adapter);
    const std::string stem = info.name.substr(0, info.name.size() - std::strlen("weight"));
    EXPECT_EQ(set.info(a).name, stem + "lora_A");
    EXPECT_EQ(set.info(a + 1).name, stem + "lora_B");
    EXPECT_EQ(set.info(a).place, info.place);
  }
  EXPECT_EQ(trained({.lora = kLora.lora, .frozen = {"blocks=0-1", "mlp"}}).size(), 4U);
}

// ---- gradients --------------------------------------------------------------------------------

/// Tunings whose lowest trained operation lies in every kind of place.
std::vector<Tuning> tunings() {
  return {freezing({"embeddings"}),
          freezing({"wte"}),
          freezing({"wpe"}),
          freezing({"biases"}),
          freezing({"layernorm"}),
          freezing({"*.weight"}),
          freezing({"embeddings", "blocks=0"}),
          freezing({"embeddings", "blocks=0", "h.1.ln_1"}),
          freezing({"embeddings", "blocks=0", "h.1.ln_1", "h.1.attn.c_attn"}),
          freezing({"embeddings", "blocks=0", "h.1.ln_1", "h.1.attn"}),
          freezing({"embeddings", "blocks=0", "h.1.ln_?", "h.1.attn"}),
          freezing({"embeddings", "blocks=0", "h.1.ln_?", "h.1.attn", "h.1.mlp.c_fc"}),
          freezing({"embeddings", "blocks=0-1", "attention", "mlp"}),
          freezing({"embeddings", "blocks"})};
}

class Part : public testing::TestWithParam<BackendCase> {};
INSTANTIATE_TEST_SUITE_P(, Part,
                         testing::Values(BackendCase{kernels::Device::kReference, DType::kF32},
                                         BackendCase{kernels::Device::kCpu, DType::kF32},
                                         BackendCase{kernels::Device::kCpu, DType::kBf16}),
                         [](const auto& suite) { return name_of(suite.param); });

TEST_P(Part, GradientsOfWhatIsTrainedAreThoseOfTheWholeModel) {
  const auto gradients = [&](const Tuning& tuning, Recompute recompute) {
    Gpt2 model = random_model(tuning, backend_of(GetParam()));
    model.prepare_training(2, 12, recompute);
    model.forward_backward(random_ids(24, 3), random_ids(24, 4), 1.0F / 24);
    model.zero_gradients();  // what the first one left must not show
    model.forward_backward(random_ids(24, 1), random_ids(24, 2), 1.0F / 24);
    model.forward_backward(random_ids(24, 3), random_ids(24, 4), 1.0F / 24);
    return model;
  };
  Gpt2 whole = gradients({}, Recompute::kNone);
  for (const Tuning& tuning : tunings()) {
    SCOPED_TRACE(testing::PrintToString(tuning.frozen));
    const bool slow = GetParam().device == kernels::Device::kReference;
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlock, Recompute::kGelu}) {
      if (slow && recompute != Recompute::kNone) continue;
      Gpt2 part = gradients(tuning, recompute);
      const ParameterSet& all = whole.gradients();
      ASSERT_EQ(part.gradients().size(), all.size());
      for (std::size_t i = 0; i < all.size(); ++i) {
        const View got = part.gradients().view(i);
        if (!part.gradients().info(i).trained) {
          EXPECT_TRUE(got.empty()) << all.info(i).name;
          continue;
        }
        // A bias alone is summed up in another order than beside its weight.
        const View expected = all.view(i);
        for (std::int64_t e = 0; e < got.elements(); ++e) {
          ASSERT_NEAR(got.f32()[e], expected.f32()[e], 1e-7 + 1e-5 * std::abs(expected.f32()[e]))
              << all.info(i).name << " element " << e;
        }
      }
    }
  }
}

TEST(LoraGradients, MatchFiniteDifferencesOfTheWholeModel) {
  Gpt2 model = random_model(kLora, reference());
  const auto ids = random_ids(2 * 9, 1), targets = random_ids(2 * 9, 2);
  model.prepare_training(2, 9);
  model.forward_backward(ids, targets, 1.0F);
  std::vector<float> losses(ids.size());
  const auto loss = [&] {
    model.pack();
    return model.evaluate(ids, targets, 2, 9, losses);
  };
  // As in gpt2_test.cpp: f32's noise over the step, and the cubic term.
  constexpr float kStep = 1e-2F;
  ParameterSet& p = model.parameters();
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (!p.info(i).is_adapter) continue;
    for (std::uint64_t draw = 0; draw < 3; ++draw) {
      const auto count = static_cast<std::uint64_t>(p.view(i).elements());
      const auto at = static_cast<std::int64_t>(base::random_below(count, 9, i, draw));
      float& value = p.view(i).f32()[at];
      const float before = value;
      value = before + kStep;
      const double above = loss();
      value = before - kStep;
      const double below = loss();
      value = before;
      const double difference = (above - below) / (2.0 * double{kStep});
      EXPECT_NEAR(model.gradients().view(i).f32()[at], difference,
                  5e-3 + 5e-3 * std::abs(difference))
          << p.info(i).name << " element " << at;
    }
  }
}

// ---- steps ------------------------------------------------------------------------------------

TEST_P(Part, WhatIsFrozenKeepsEveryBit) {
  std::vector<Tuning> all = tunings();
  all.push_back(kLora);
  all.push_back({.lora = kLora.lora, .frozen = {"blocks=0", "*.lora_A"}});
  for (const Tuning& tuning : all) {
    SCOPED_TRACE(testing::PrintToString(tuning.frozen));
    Gpt2 model = random_model(tuning, backend_of(GetParam()));
    std::vector<std::vector<float>> before;
    for (std::size_t i = 0; i < model.parameters().size(); ++i) {
      before.push_back(copy_of(model.parameters().view(i)));
    }
    Moments moments(tuning);
    model.prepare_training(2, 12);
    train(model, moments, 2);
    for (std::size_t i = 0; i < before.size(); ++i) {
      const ParameterInfo& info = model.parameters().info(i);
      EXPECT_EQ(copy_of(model.parameters().view(i)) == before[i], !info.trained) << info.name;
      EXPECT_EQ(moments.m.view(i).empty(), !info.trained) << info.name;
    }
  }
}

TEST_P(Part, AdaptersLearn) {
  Gpt2 model = random_model({}, backend_of(GetParam()));
  Gpt2 adapted(kConfig, backend_of(GetParam()), true, kLora);
  const ParameterSet& base = model.parameters();
  for (std::size_t i = 0; i < base.size(); ++i) {
    std::memcpy(adapted.parameters().view(i).data(), base.view(i).data(), base.view(i).bytes());
  }
  adapted.initialize_adapters(3);
  EXPECT_EQ(losses_of(adapted), losses_of(model)) << "B is zero at first";
  const View a = adapted.parameters().adapters[1].fc_a;
  const float bound = 1 / std::sqrt(24.0F);
  const auto [low, high] = std::minmax_element(a.f32(), a.f32() + a.elements());
  EXPECT_LT(*low, -0.7F * bound);
  EXPECT_GT(*low, -bound);
  EXPECT_GT(*high, 0.7F * bound);
  EXPECT_LT(*high, bound);

  Moments moments(kLora);
  adapted.prepare_training(2, 12);
  const double first = train(adapted, moments, 1);
  EXPECT_LT(train(adapted, moments, 30, 2), 0.8 * first);
}

TEST_P(Part, AModelDirectoryHoldsTheMergedWeights) {
  Gpt2 model = random_model(kLora, backend_of(GetParam()));
  Moments moments(kLora);
  model.prepare_training(2, 12);
  train(model, moments, 2);
  const TemporaryFolder folder;
  model::save_model(folder.path(), model.parameters());
  Gpt2 loaded = model::load_model(folder.path(), backend_of(GetParam()), false);
  EXPECT_EQ(losses_of(loaded), losses_of(model)) << "products use what the directory holds";
  EXPECT_EQ(loaded.parameters().size(), ParameterSet(kConfig).size());
  EXPECT_NE(copy_of(loaded.parameters().blocks[0].fc_weight),
            copy_of(model.parameters().blocks[0].fc_weight));

  Gpt2 again = model::load_model(folder.path(), backend_of(GetParam()), true, std::nullopt, kLora);
  EXPECT_EQ(losses_of(again), losses_of(model)) << "adapters begin anew on top";
}

TEST(LoraState, SavedAndLoadedGoesOnWithTheSameBits) {
  const TemporaryFolder folder;
  Gpt2 model = random_model(kLora, cpu(DType::kBf16));
  Moments moments(kLora);
  model.prepare_training(2, 12);
  train(model, moments, 2);
  model::save_parameters(folder.path() / "p", model.parameters());
  model::save_parameters(folder.path() / "m", moments.m);
  model::save_parameters(folder.path() / "v", moments.v);
  const double expected = train(model, moments, 3, 3);

  Gpt2 resumed(kConfig, cpu(DType::kBf16), true, kLora);
  Moments its(kLora);
  model::load_parameters(folder.path() / "p", resumed.parameters());
  model::load_parameters(folder.path() / "m", its.m);
  model::load_parameters(folder.path() / "v", its.v);
  resumed.pack();
  resumed.prepare_training(2, 12);
  EXPECT_EQ(train(resumed, its, 3, 3), expected);
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    EXPECT_EQ(copy_of(resumed.parameters().view(i)), copy_of(model.parameters().view(i)));
  }
}

TEST(LoraState, CopiesShareWhatIsFrozen) {
  Gpt2 model = random_model(kLora, cpu());
  ParameterSet copy;
  copy.assign(model.parameters());
  const ParameterSet& p = model.parameters();
  for (std::size_t i = 0; i < p.size(); ++i) {
    EXPECT_EQ(copy.view(i).data() == p.view(i).data(), !p.info(i).trained) << p.info(i).name;
    EXPECT_EQ(copy_of(copy.view(i)), copy_of(p.view(i))) << p.info(i).name;
  }
  EXPECT_LT(copy.bytes(), p.bytes() / 4);
  const float first = copy.adapters[0].qkv_a.f32()[0];
  model.parameters().adapters[0].qkv_a.f32()[0] += 1;
  EXPECT_EQ(copy.adapters[0].qkv_a.f32()[0], first);
  copy.assign(p);
  EXPECT_EQ(copy.adapters[0].qkv_a.f32()[0], first + 1);
}

TEST(LoraState, AnAverageOfTheAdaptersChangesPlaces) {
  Gpt2 model = random_model(kLora, cpu());
  Moments moments(kLora);
  ParameterSet average;
  average.assign(model.parameters());
  const std::vector<float> before = copy_of(model.parameters().adapters[1].out_b);
  model.prepare_training(2, 12);
  model.forward_backward(random_ids(24, 1), random_ids(24, 2), 1.0F / 24);
  model.adamw_step(moments.m, moments.v, {.learning_rate = 0.1F}, {&average, 0.75});
  const std::vector<float> after = copy_of(model.parameters().adapters[1].out_b);
  const std::vector<float> losses = losses_of(model);
  model.exchange_parameters(average);
  const std::vector<float> middle = copy_of(model.parameters().adapters[1].out_b);
  for (std::size_t i = 0; i < middle.size(); ++i) {
    EXPECT_NEAR(middle[i], 0.75F * before[i] + 0.25F * after[i], 1e-6F);
  }
  EXPECT_NE(losses_of(model), losses);
  model.exchange_parameters(average);
  EXPECT_EQ(losses_of(model), losses);
}

// ---- memory -----------------------------------------------------------------------------------

TEST(PartPlan, CountsWhatIsThere) {
  std::vector<Tuning> all = tunings();
  all.push_back(kLora);
  const model::MemoryPlan whole = Gpt2::plan(kConfig, *cpu(), 2, 12, true);
  for (const Tuning& tuning : all) {
    SCOPED_TRACE(testing::PrintToString(tuning.frozen));
    const auto plan = Gpt2::plan(kConfig, *cpu(), 2, 12, true, Recompute::kNone, {},
                                 model::Optimizer::kAdamW, false, tuning);
    Gpt2 model(kConfig, cpu(), true, tuning);
    model.prepare_training(2, 12);
    const Moments moments(tuning);
    EXPECT_EQ(plan.parameters, model.parameters().bytes());
    EXPECT_EQ(plan.gradients, model.gradients().bytes());
    EXPECT_EQ(plan.moments, moments.m.bytes() + moments.v.bytes());
    EXPECT_LT(plan.gradients, whole.gradients);
    EXPECT_LE(plan.activations, whole.activations);
  }
}

TEST(PartPlan, BlocksBelowWhatIsTrainedKeepNothing) {
  Config config = model::preset("124m");
  const auto plan = [&](const Tuning& tuning) {
    return Gpt2::plan(config, *cpu(DType::kBf16), 4, 1024, true, Recompute::kNone, {},
                      model::Optimizer::kAdamW, false, tuning);
  };
  const auto whole = plan({});
  const auto half = plan(freezing({"embeddings", "blocks=0-5"}));
  const std::size_t block = (24 * 1024 + 2 * 1536) * std::size_t{4096};  // about, for six of them
  EXPECT_LT(half.activations, whole.activations - 5 * block);
  EXPECT_LT(half.copies, whole.copies - 5 * 12 * 768 * 768 * std::size_t{2});  // no backward copies
}

TEST(PartPlan, OfLoraOnThe124mPresetIsTheModelAndLittleMore) {
  const Config config = model::preset("124m");
  const Tuning tuning = {.lora = {.rank = 8, .alpha = 16}, .frozen = {}};
  const auto whole = Gpt2::plan(config, *cpu(DType::kBf16), 1, 1024, true);
  const auto lora = Gpt2::plan(config, *cpu(DType::kBf16), 1, 1024, true, Recompute::kNone, {},
                               model::Optimizer::kAdamW, false, tuning);
  // 8 (K + M) for c_attn, c_proj, c_fc and c_proj: 8 x (4 + 2 + 5 + 5) C a block.
  EXPECT_EQ(lora.gradients, std::size_t{8 * 16 * 768 * 12} * 4);
  EXPECT_EQ(lora.moments, 2 * lora.gradients);
  EXPECT_EQ(lora.parameters, whole.parameters + lora.gradients);
  EXPECT_GT(whole.gradients + whole.moments, 90 * (lora.gradients + lora.moments));
}

// ---- golden -----------------------------------------------------------------------------------

/// PyTorch's losses and weights, tests/golden/lora/make_lora.py.
class LoraGolden : public testing::TestWithParam<BackendCase> {};
INSTANTIATE_TEST_SUITE_P(, LoraGolden,
                         testing::Values(BackendCase{kernels::Device::kReference, DType::kF32},
                                         BackendCase{kernels::Device::kCpu, DType::kF32},
                                         BackendCase{kernels::Device::kCpu, DType::kBf16}),
                         [](const auto& suite) { return name_of(suite.param); });

TEST_P(LoraGolden, LossesAndMergedWeightsArePyTorchs) {
  const base::Path golden = base::Path(GPT2_SOURCE_DIR) / "tests/golden/lora";
  const json expected = json::parse(base::read_file(golden / "expected.json"));
  const Tuning tuning = {
      .lora = {expected["rank"].get<std::int64_t>(), expected["alpha"].get<double>()},
      .frozen = {}};
  Gpt2 model =
      model::load_model(golden_folder("tiny"), backend_of(GetParam()), true, std::nullopt, tuning);
  ParameterSet start(model.config(), Contents::kTrained, tuning);
  model::load_parameters(golden / "start.safetensors", start);
  for (std::size_t i = 0; i < start.size(); ++i) {
    if (start.view(i).empty()) continue;
    std::memcpy(model.parameters().view(i).data(), start.view(i).data(), start.view(i).bytes());
  }
  model.pack();

  const bool bf16 = GetParam().type == DType::kBf16;
  const json& hyper = expected["hyper"];
  ParameterSet m(model.config(), Contents::kTrained, tuning),
      v = ParameterSet(model.config(), Contents::kTrained, tuning);
  for (std::size_t step = 0; step < expected["loss"].size(); ++step) {
    const auto ids = flat_ids(expected["inputs"][step]);
    const auto targets = flat_ids(expected["targets"][step]);
    const auto rows = static_cast<std::int64_t>(expected["inputs"][step].size());
    const auto count = static_cast<std::int64_t>(ids.size());
    model.prepare_training(rows, count / rows);
    model.zero_gradients();
    const double loss = model.forward_backward(ids, targets, 1.0F / static_cast<float>(count)) /
                        static_cast<double>(count);
    const double known = expected["loss"][step], norm = expected["grad_norm"][step];
    EXPECT_NEAR(loss, known, known * (bf16 ? 1e-3 : 1e-6)) << "step " << step;
    EXPECT_NEAR(model.gradient_norm(), norm, norm * (bf16 ? 0.02 : 1e-5)) << "step " << step;
    model.adamw_step(m, v,
                     {.learning_rate = hyper["lr"].get<float>(),
                      .beta1 = hyper["beta1"].get<float>(),
                      .beta2 = hyper["beta2"].get<float>(),
                      .epsilon = hyper["eps"].get<float>(),
                      .weight_decay = hyper["weight_decay"].get<float>(),
                      .step = static_cast<std::int64_t>(step) + 1});
  }

  const TemporaryFolder folder;
  model::save_model(folder.path(), model.parameters());
  const auto end = formats::TensorFile::open(golden / "end.safetensors");
  const auto merged = formats::TensorFile::open(folder.path() / "model.safetensors");
  std::size_t compared = 0;
  for (const formats::Tensor& tensor : end.tensors()) {
    const formats::Tensor* const own = merged.find(tensor.name);
    if (own == nullptr) continue;  // an adapter
    ++compared;
    std::vector<double> known(tensor.bytes.size() / sizeof(double));
    std::memcpy(known.data(), tensor.bytes.data(), tensor.bytes.size());
    std::vector<float> values(own->bytes.size() / sizeof(float));
    std::memcpy(values.data(), own->bytes.data(), own->bytes.size());
    ASSERT_EQ(values.size(), known.size());
    for (std::size_t i = 0; i < known.size(); ++i) {
      ASSERT_NEAR(values[i], known[i], bf16 ? 0.03 : 1e-5) << tensor.name << " element " << i;
    }
  }
  EXPECT_EQ(compared, 8U);
}

}  // namespace
}  // namespace model_test
