// Training on data with masks: the loss is the mean over what counts, computed here by hand.

#include <cmath>

#include "expect_error.h"
#include "train/checkpoint.h"
#include "train/helpers.h"

namespace train {
namespace {

/// Adds masks to a prepared folder: token i of a split is learnt where `learnt(i)`.
void add_masks(const base::Path& folder, const std::function<bool(std::int64_t)>& learnt) {
  data::Manifest manifest = data::read_manifest(folder);
  manifest.mask = "prompt";
  for (auto* shards : {&manifest.train, &manifest.validation}) {
    std::int64_t first = 0;
    for (data::ShardInfo& info : *shards) {
      std::vector<std::uint8_t> bits;
      for (std::int64_t i = 0; i < info.tokens; ++i) bits.push_back(learnt(first + i) ? 1 : 0);
      data::MaskWriter writer(folder / data::mask_name(info.file));
      writer.append(bits);
      info.mask_crc32c = writer.commit();
      first += info.tokens - 1;
    }
  }
  data::write_manifest(folder, manifest);
}

class MaskedRun : public testing::Test {
 protected:
  MaskedRun() { make_data(folder_ / "data"); }
  Options options(const std::string& out = "run") const {
    Options o = small_run(folder_ / "data", folder_ / out);
    o.order = data::Order::kSequential;
    return o;
  }
  std::vector<StepReport> steps(const std::string& out = "run") const {
    return read_log(folder_ / out / "log.jsonl").steps;
  }
  /// The losses of windows [first, last) of a split under `model`, target by target.
  std::vector<double> losses(model::Gpt2& model, data::Split split, std::int64_t first,
                             std::int64_t last) const {
    const auto stream = data::TokenStream::open(folder_ / "data", split);
    std::vector<double> all;
    std::vector<std::int32_t> window(9);
    std::vector<float> row(8);
    for (std::int64_t w = first; w < last; ++w) {
      stream.read(w * 8, 50, window);
      model.evaluate(std::span(window).first(8), std::span(window).subspan(1), 1, 8, row);
      all.insert(all.end(), row.begin(), row.end());
    }
    return all;
  }
  TemporaryFolder folder_;
};

model::Gpt2 untrained(const Options& o) {
  model::Config config = model::preset("124m");
  config.layers = *o.layers;
  config.heads = *o.heads;
  config.channels = *o.channels;
  config.context = *o.context;
  config.vocab_size = 50;
  config.end_of_text = 0;
  model::Gpt2 model(config, kernels::make_backend(kernels::Device::kReference, base::DType::kF32),
                    true);
  model.initialize(o.seed.value_or(1337));
  return model;
}

TEST_F(MaskedRun, LossIsTheMeanOverTheAnswersOfTheWholeStep) {
  // Uneven over the micro-batches: the first of a step has 3 targets, the second 13.
  const auto learnt = [](std::int64_t i) { return i % 32 < 4 ? i % 32 > 0 : i % 32 > 19; };
  add_masks(folder_ / "data", learnt);
  Options o = options();
  o.steps = 1;
  o.validate_every = 1;
  o.learning_rate = 0;
  model::Gpt2 model = untrained(o);
  const auto mean = [&](data::Split split, std::int64_t first, std::int64_t last) {
    const auto each = losses(model, split, first, last);
    double sum = 0;
    std::int64_t count = 0;
    for (std::size_t i = 0; i < each.size(); ++i) {
      if (!learnt(first * 8 + static_cast<std::int64_t>(i) + 1)) continue;
      sum += each[i];
      ++count;
    }
    EXPECT_GT(count, 0);
    return std::pair(sum / static_cast<double>(count), count);
  };
  run_steps(o);
  const auto [loss, count] = mean(data::Split::kTrain, 0, 4);
  ASSERT_EQ(steps().size(), 1U);
  EXPECT_EQ(steps()[0].targets, count);
  EXPECT_EQ(count, 15);  // token 32 is a target, token 0 is none
  EXPECT_NEAR(steps()[0].loss, loss, 1e-5);
  ASSERT_TRUE(steps()[0].validation_loss);
  EXPECT_NEAR(*steps()[0].validation_loss, mean(data::Split::kValidation, 0, 5).first, 1e-5);
}

/// The same targets cut into micro-batches in another way give the same gradients.
TEST_F(MaskedRun, DoesNotDependOnTheMicroBatches) {
  add_masks(folder_ / "data", [](std::int64_t i) { return i % 32 < 4 || i % 37 == 30; });
  for (const std::int64_t micro_batch : {1, 4}) {
    Options o = options(std::to_string(micro_batch));
    o.micro_batch = micro_batch;
    o.device = kernels::Device::kReference;
    run_steps(o);
  }
  const auto a = steps("1");
  const auto b = steps("4");
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i].loss, b[i].loss, 1e-5);
    EXPECT_NEAR(a[i].grad_norm, b[i].grad_norm, 1e-4);
    EXPECT_NEAR(a[i].validation_loss.value_or(0), b[i].validation_loss.value_or(0), 1e-5);
  }
}

TEST_F(MaskedRun, WhereAllIsLearntIsTheRunWithoutMasks) {
  run_steps(options("plain"));
  add_masks(folder_ / "data", [](std::int64_t) { return true; });
  run_steps(options("masked"));
  EXPECT_EQ(numbers_of(folder_ / "plain"), numbers_of(folder_ / "masked"));
  EXPECT_FALSE(steps("plain")[0].targets);
  EXPECT_EQ(steps("masked")[0].targets, 32);
}

TEST_F(MaskedRun, AStepWithoutATargetChangesNothing) {
  add_masks(folder_ / "data", [](std::int64_t i) { return i > 64 && i <= 96; });  // step 2 alone
  Options o = options();
  o.steps = 6;
  o.checkpoint_every = 1;
  o.keep_checkpoints = 0;
  o.validate_every = 1;
  const Outcome outcome = run_steps(o);
  const auto all = steps();
  ASSERT_EQ(all.size(), 6U);
  for (const StepReport& step : all) {
    EXPECT_EQ(step.targets, step.step == 2 ? 32 : 0);
    EXPECT_EQ(step.loss == 0, step.step != 2);
    EXPECT_EQ(step.grad_norm == 0, step.step != 2);
    EXPECT_FALSE(step.validation_loss);  // its 41 tokens are all given
  }
  EXPECT_EQ(outcome.first_loss, all[2].loss);  // the others have none
  const auto weights = [&](int step) {
    return base::read_file(folder_ / "run" / "checkpoints" / fmt::format("step_{:08}", step) /
                           "parameters.safetensors");
  };
  EXPECT_TRUE(weights(1) == weights(2));
  EXPECT_FALSE(weights(2) == weights(3));
  EXPECT_TRUE(weights(3) == weights(6));
}

TEST_F(MaskedRun, ResumesExactlyAndNotWithOtherMasks) {
  const auto learnt = [](std::int64_t i) { return i % 5 == 0 || i % 64 > 40; };
  add_masks(folder_ / "data", learnt);
  Options o = options("whole");
  o.order = data::Order::kShuffled;
  run_steps(o);
  o.out = folder_ / "run";
  run_steps(o, 4);
  o.resume = true;
  run_steps(o, 5);
  run_steps(o);
  EXPECT_EQ(numbers_of(folder_ / "whole"), numbers_of(folder_ / "run"));
  for (std::size_t i = 0; i < 15; ++i) EXPECT_EQ(steps()[i].targets, steps("whole")[i].targets);
  add_masks(folder_ / "data", [&](std::int64_t i) { return !learnt(i); });
  EXPECT_THAT(error_of([&] { Trainer trainer(o); }), testing::HasSubstr("differ from the run's"));
}

}  // namespace
}  // namespace train
