// Runs with Muon and with an average of the weights: that they learn, what they keep, how they go
// on.

#include "expect_error.h"
#include "train/checkpoint.h"
#include "train/helpers.h"

namespace train {
namespace {

using testing::HasSubstr;

class OptimizerRun : public testing::Test {
 protected:
  OptimizerRun() { make_data(folder_ / "data"); }
  Options options(const std::string& out) const {
    Options o = small_run(folder_ / "data", folder_ / out);
    o.optimizer = model::Optimizer::kMuon;
    return o;
  }
  std::string model_of(const std::string& out) {
    return base::read_file(folder_ / out / "model" / "model.safetensors");
  }
  TemporaryFolder folder_;
};

TEST_F(OptimizerRun, MuonLearnsAndSaysSoInItsCheckpoint) {
  for (const base::DType precision : {base::DType::kF32, base::DType::kBf16}) {
    Options o = options(std::string(base::name_of(precision)));
    o.precision = precision;
    o.steps = 60;
    o.checkpoint_every = 60;
    const Outcome outcome = run_steps(o);
    EXPECT_LT(*outcome.last_loss, *outcome.first_loss - 0.5);
    EXPECT_EQ(check_checkpoint(*outcome.checkpoint).optimizer, "muon");
    const base::Path folder = *outcome.checkpoint;
    EXPECT_LT(std::filesystem::file_size(folder / "adam_v.safetensors"),
              std::filesystem::file_size(folder / "adam_m.safetensors"));
    EXPECT_FALSE(std::filesystem::exists(folder / "average.safetensors"));
  }
}

TEST_F(OptimizerRun, AnotherRateOfMuonGivesOtherLosses) {
  Options o = options("a"), other = options("b");
  other.muon_learning_rate = 0.02;
  run_steps(o);
  run_steps(other);
  EXPECT_EQ(numbers_of(*o.out)[0], numbers_of(*other.out)[0]) << "the first step's loss";
  EXPECT_NE(numbers_of(*o.out), numbers_of(*other.out));
}

TEST_F(OptimizerRun, GoesOnBitForBit) {
  Options whole = options("whole");
  whole.schedule = Schedule::kWsd;
  whole.decay_steps = 0.5;
  whole.ema = 0.9;
  run_steps(whole);
  for (const std::int64_t stop : {1, 6, 14}) {
    Options o = whole;
    o.out = folder_ / "stopped";
    EXPECT_EQ(run_steps(o, stop).end, End::kStopped);
    EXPECT_TRUE(std::filesystem::exists(*o.out / "checkpoints" / checkpoint_name(stop) /
                                        "average.safetensors"));
    o.resume = true;
    run_steps(o);
    EXPECT_EQ(numbers_of(*o.out), numbers_of(*whole.out)) << stop;
    EXPECT_EQ(model_of("stopped"), model_of("whole")) << stop;
    std::filesystem::remove_all(*o.out);
  }
}

TEST_F(OptimizerRun, IsNotResumedWithAnotherOptimizer) {
  Options o = options("run");
  run_steps(o, 3);
  o.resume = true;
  o.optimizer = model::Optimizer::kAdamW;
  EXPECT_THAT(error_of([&] { Trainer trainer(o); }),
              HasSubstr("--optimizer \"adamw\" (the run has \"muon\")"));
  o.optimizer.reset();
  o.muon_learning_rate = 0.5;
  EXPECT_THAT(error_of([&] { Trainer trainer(o); }), HasSubstr("--muon-lr 0.5 (the run has 0.01)"));
}

/// Training is the same with and without it; what is told of the weights is the average's.
TEST_F(OptimizerRun, AnAverageIsWhatIsValidatedAndSaved) {
  Options plain = options("plain"), averaged = options("averaged");
  plain.optimizer = averaged.optimizer = model::Optimizer::kAdamW;
  averaged.ema = 0.9;
  run_steps(plain);
  Trainer trainer(averaged);
  trainer.run({});
  const auto a = read_log(*plain.out / "log.jsonl").steps;
  const auto b = read_log(*averaged.out / "log.jsonl").steps;
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].loss, b[i].loss) << i;
    if (!a[i].validation_loss) continue;
    EXPECT_NE(*a[i].validation_loss, *b[i].validation_loss) << i;
  }
  EXPECT_NE(model_of("averaged"), model_of("plain"));
  // The trainer's model has the weights themselves: those that the other run saved.
  base::create_folders(folder_ / "weights" / "model");
  model::save_model(folder_ / "weights" / "model", trainer.model().parameters());
  EXPECT_EQ(model_of("weights"), model_of("plain"));
}

TEST_F(OptimizerRun, SamplesAreOfTheAverage) {
  const auto sampled = [&](double ema) {
    Options o = options("sampled_" + std::to_string(ema));
    o.ema = ema;
    o.sample_every = 15;
    Callbacks callbacks;
    float weight = 0;
    callbacks.sample = [&](model::Gpt2& model, std::int64_t) {
      weight = model.parameters().blocks[0].fc_weight.f32()[5];
      return std::string("text");
    };
    Trainer trainer(o);
    trainer.run(callbacks);
    return std::pair(weight, trainer.model().parameters().blocks[0].fc_weight.f32()[5]);
  };
  const auto [plain, plain_weight] = sampled(0);
  EXPECT_EQ(plain, plain_weight);
  const auto [average, weight] = sampled(0.9);
  EXPECT_EQ(weight, plain_weight);
  EXPECT_NE(average, weight);
}

}  // namespace
}  // namespace train
