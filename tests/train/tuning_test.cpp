// Fine-tuning runs: parts that are frozen, adapters; resumed runs are the uninterrupted ones.

#include "expect_error.h"
#include "train/checkpoint.h"
#include "train/helpers.h"
#include "train/plan.h"

namespace train {
namespace {

using testing::HasSubstr;

/// A folder with data and a trained model to start from.
class FineTuning : public testing::Test {
 protected:
  FineTuning() {
    make_data(folder_ / "data");
    Options base = small_run(folder_ / "data", folder_ / "base");
    base.layers = 2;
    run_steps(base);
  }
  Options options(const std::string& name) const {
    Options o = small_run(folder_ / "data", folder_ / name);
    o.layers.reset();
    o.heads.reset();
    o.channels.reset();
    o.init = init();
    return o;
  }
  Options lora(const std::string& name) const {
    Options o = options(name);
    o.lora_rank = 2;
    return o;
  }
  Options frozen(const std::string& name) const {
    Options o = options(name);
    o.freeze = {"embeddings", "blocks=0"};
    return o;
  }
  base::Path init() const { return folder_ / "base" / "model"; }
  static model::ParameterSet parameters_of(const base::Path& model) {
    model::ParameterSet set(model::read_config(model));
    model::load_parameters(model / "model.safetensors", set);
    return set;
  }
  /// Names of the parameters in which two model directories differ.
  static std::vector<std::string> changed(const base::Path& a, const base::Path& b) {
    const model::ParameterSet x = parameters_of(a), y = parameters_of(b);
    std::vector<std::string> names;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const base::View &p = x.view(i), &q = y.view(i);
      if (!std::equal(p.f32(), p.f32() + p.elements(), q.f32())) names.push_back(x.info(i).name);
    }
    return names;
  }
  void expect_resumes(const std::function<Options(const std::string&)>& make) {
    const Options whole = make("whole");
    run_steps(whole);
    for (const std::int64_t stop : {1, 6, 14}) {
      Options o = make(fmt::format("stop_{}", stop));
      EXPECT_EQ(run_steps(o, stop).end, End::kStopped);
      o.resume = true;
      EXPECT_EQ(run_steps(o).end, End::kFinished);
      EXPECT_EQ(numbers_of(*o.out), numbers_of(*whole.out)) << stop;
      EXPECT_EQ(base::read_file(*o.out / "model" / "model.safetensors"),
                base::read_file(*whole.out / "model" / "model.safetensors"));
    }
  }
  TemporaryFolder folder_;
};

TEST_F(FineTuning, AdaptersChangeTheMatricesOfTheBlocksAlone) {
  Options o = lora("run");
  const Outcome outcome = run_steps(o);
  EXPECT_THAT(changed(init(), *o.out / "model"),
              testing::UnorderedElementsAre("h.0.attn.c_attn.weight", "h.0.attn.c_proj.weight",
                                            "h.0.mlp.c_fc.weight", "h.0.mlp.c_proj.weight",
                                            "h.1.attn.c_attn.weight", "h.1.attn.c_proj.weight",
                                            "h.1.mlp.c_fc.weight", "h.1.mlp.c_proj.weight"));
  // What was validated last is what the directory holds.
  Options again = options("again");
  again.init = *o.out / "model";
  again.learning_rate = 0;
  again.validate_every = 1;
  again.steps = 1;
  EXPECT_EQ(run_steps(again).last_validation_loss, outcome.last_validation_loss);
}

TEST_F(FineTuning, WhatIsFrozenIsInTheModelAsItWas) {
  const Options o = frozen("run");
  run_steps(o);
  for (const std::string& name : changed(init(), *o.out / "model")) {
    EXPECT_TRUE(name.starts_with("h.1.") || name.starts_with("ln_f.")) << name;
  }
  EXPECT_EQ(changed(init(), *o.out / "model").size(), 14U);
}

TEST_F(FineTuning, CheckpointsHoldMomentsOfWhatIsTrainedOnly) {
  Options o = lora("run");
  o.freeze = {"mlp"};
  run_steps(o, 3);
  const base::Path checkpoint = list_checkpoints(*o.out).back().folder;
  const auto names = [&](const std::string& file) {
    std::vector<std::string> found;
    const base::MappedFile content(checkpoint / file);
    const std::string bytes(reinterpret_cast<const char*>(content.bytes().data()),
                            content.bytes().size());
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    const Json header = Json::parse(bytes.substr(8, size));
    for (const auto& [name, entry] : header.items()) {
      if (name != "__metadata__") found.push_back(name);
    }
    return found;
  };
  EXPECT_THAT(names("adam_v.safetensors"),
              testing::UnorderedElementsAre("h.0.attn.c_attn.lora_A", "h.0.attn.c_attn.lora_B",
                                            "h.0.attn.c_proj.lora_A", "h.0.attn.c_proj.lora_B",
                                            "h.1.attn.c_attn.lora_A", "h.1.attn.c_attn.lora_B",
                                            "h.1.attn.c_proj.lora_A", "h.1.attn.c_proj.lora_B"));
  EXPECT_EQ(names("adam_m.safetensors"), names("adam_v.safetensors"));
  EXPECT_EQ(names("parameters.safetensors").size(), 28U + 16U);
}

TEST_F(FineTuning, ARunWithAdaptersResumesWithTheSameBits) {
  expect_resumes([&](const std::string& name) {
    Options o = lora("lora_" + name);
    o.precision = base::DType::kBf16;
    return o;
  });
}

TEST_F(FineTuning, ARunWithAnAverageOfAdaptersResumesWithTheSameBits) {
  expect_resumes([&](const std::string& name) {
    Options o = lora("ema_" + name);
    o.ema = 0.9;
    o.freeze = {"blocks=0"};
    return o;
  });
}

TEST_F(FineTuning, ARunWithFrozenPartsResumesWithTheSameBits) {
  expect_resumes([&](const std::string& name) { return frozen("frozen_" + name); });
  expect_resumes([&](const std::string& name) {
    Options o = frozen("muon_" + name);
    o.optimizer = model::Optimizer::kMuon;
    return o;
  });
}

TEST_F(FineTuning, AResumedRunKeepsItsTuning) {
  Options o = lora("run");
  run_steps(o, 2);
  o.resume = true;
  o.lora_rank = 3;
  EXPECT_THAT(error_of([&] { Trainer{o}; }), HasSubstr("--lora-rank 3 (the run has 2)"));
  o.lora_rank.reset();
  o.freeze = {"mlp"};
  EXPECT_THAT(error_of([&] { Trainer{o}; }), HasSubstr("--freeze [\"mlp\"] (the run has none)"));
  o.freeze.reset();
  const Trainer trainer(o);
  EXPECT_EQ(trainer.plan().tuning.lora, (model::Lora{2, 4}));
}

TEST_F(FineTuning, MemoryIsLess) {
  const auto memory = [](const Options& o) { return Trainer(o).memory(); };
  const model::MemoryPlan whole = memory(options("a")), adapters = memory(lora("b")),
                          part = memory(frozen("c"));
  EXPECT_LT(adapters.gradients, whole.gradients / 2);
  EXPECT_LT(adapters.moments, whole.moments / 2);
  EXPECT_LT(part.gradients, whole.gradients);
  EXPECT_LT(part.activations, whole.activations);
}

TEST_F(FineTuning, RefusesWhatCannotBe) {
  Options o = lora("run");
  o.optimizer = model::Optimizer::kMuon;
  expect_error(
      "--lora-rank and --optimizer muon exclude each other: thin matrices are trained with AdamW; "
      "drop one",
      [&] { Trainer{o}; });
  o = small_run(folder_ / "data", folder_ / "run");
  o.lora_rank = 2;
  expect_error(
      "--lora-rank trains additions to a model that is there; add --init DIR, or drop --lora-rank "
      "to train a new one",
      [&] { Trainer{o}; });
  o = lora("run");
  o.lora_rank = 17;
  expect_error("--lora-rank: expected 1 to the model's 16 channels, got 17", [&] { Trainer{o}; });
  o.lora_rank = 2;
  o.lora_alpha = 0;
  expect_error("--lora-alpha: expected a number above 0, got 0", [&] { Trainer{o}; });
  o = options("run");
  o.lora_alpha = 4;
  expect_error("--lora-alpha belongs to --lora-rank; drop it or choose that", [&] { Trainer{o}; });
  o = options("run");
  o.freeze = {"blocks=7"};
  EXPECT_THAT(error_of([&] { Trainer{o}; }), HasSubstr("freeze: 'blocks=7' means no parameter"));
  o.freeze = {"*"};
  EXPECT_THAT(error_of([&] { Trainer{o}; }), HasSubstr("nothing is left to train"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
}

TEST_F(FineTuning, ConfigFilesHoldNamesAsAListOrWithCommas) {
  const base::Path file = folder_ / "config.json";
  base::write_file(file, R"({"freeze": ["mlp", "h.0.*"], "lora-rank": 4, "lora-alpha": 6})");
  Options o = read_options(file);
  EXPECT_EQ(o.freeze, (std::vector<std::string>{"mlp", "h.0.*"}));
  EXPECT_EQ(o.lora_rank, 4);
  EXPECT_EQ(o.lora_alpha, 6.0);
  EXPECT_EQ(options_json(o).dump(), R"({"freeze":["mlp","h.0.*"],"lora-rank":4,"lora-alpha":6.0})");
  base::write_file(file, R"({"freeze": "mlp,h.0.*"})");
  EXPECT_EQ(read_options(file).freeze, o.freeze);
  base::write_file(file, R"({"freeze": [3]})");
  EXPECT_THAT(error_of([&] { read_options(file); }),
              HasSubstr("key 'freeze': expected a list of strings, or one with commas, got 3"));
}

}  // namespace
}  // namespace train
