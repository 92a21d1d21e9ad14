// Defaults, the rules that lower them, and every contradiction.

#include "train/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "train/options.h"

namespace train {
namespace {

using testing::HasSubstr;

DataFacts facts_of(std::int64_t tokens) {
  return {"DATA", tokens, 10'000, std::int64_t{50257}, std::int32_t{50256}};
}

Plan plan_of(Options& options, std::int64_t tokens) {
  return resolve(options, facts_of(tokens), std::nullopt);
}

std::string refusal(Options options, std::int64_t tokens = 1'000'000,
                    const std::optional<model::Config>& init = std::nullopt) {
  return error_of([&] { resolve(options, facts_of(tokens), init); });
}

TEST(Plan, KeepsItsDefaultsOnLargeData) {
  Options o;
  const Plan plan = plan_of(o, 10'000'000'000);
  EXPECT_EQ(plan.config, model::preset("124m"));
  EXPECT_EQ(plan.micro_batch, 16);
  EXPECT_EQ(plan.batch_tokens, 524288);
  EXPECT_EQ(plan.accumulation, 32);
  EXPECT_EQ(plan.steps, 19074);  // one epoch, the last batch reaching into the next
  EXPECT_EQ(plan.warmup_steps, 700);
  EXPECT_DOUBLE_EQ(plan.min_learning_rate, 6e-5);
  EXPECT_EQ(plan.validate_every, 250);
  EXPECT_EQ(plan.checkpoint_every, 500);
  EXPECT_EQ(plan.validation_windows, 9);
  EXPECT_TRUE(plan.lowered.empty());
}

TEST(Plan, MakesEveryOptionEffective) {
  Options o;
  o.schedule = Schedule::kWsd;  // with which its own options go
  o.optimizer = model::Optimizer::kMuon;
  plan_of(o, 1'000'000);
  o.init = o.out = "x";
  o.data = base::Path("x");
  o.epochs = 1;
  o.freeze = {"mlp"};
  o.lora_rank = 1;
  o.lora_alpha = 1;
  o.max_seconds = 1;
  o.resume = true;
  for_each_option([&](const char* name, auto member, OnResume) {
    EXPECT_TRUE((o.*member).has_value()) << name;
  });
}

TEST(Plan, LeavesWhatBelongsToOtherChoicesAbsent) {
  Options o;
  plan_of(o, 1'000'000);
  EXPECT_EQ(o.optimizer, model::Optimizer::kAdamW);
  EXPECT_EQ(o.ema, 0.0);
  EXPECT_FALSE(o.muon_learning_rate || o.muon_momentum || o.decay_steps || o.decay_shape);
  o.muon_learning_rate = 0.01;
  EXPECT_EQ(refusal(o), "--muon-lr belongs to --optimizer muon; drop it or choose that");
  Options decaying;
  decaying.decay_steps = 0.5;
  EXPECT_EQ(refusal(decaying),
            "--decay-steps belongs to --lr-schedule wsd; drop it or choose that");
}

TEST(Plan, DecaysOverAShareOrANumberOfSteps) {
  Options share;
  share.schedule = Schedule::kWsd;
  share.steps = 101;
  Options half = share, number = share, all = share;
  EXPECT_EQ(plan_of(share, 1'000'000).decay_steps, 21);
  EXPECT_EQ(share.decay_steps, 0.2);
  EXPECT_EQ(share.decay_shape, DecayShape::kSqrt);
  EXPECT_EQ(share.min_learning_rate, 0.0);
  half.decay_steps = 0.5;
  EXPECT_EQ(plan_of(half, 1'000'000).decay_steps, 51);
  number.decay_steps = 37;
  EXPECT_EQ(plan_of(number, 1'000'000).decay_steps, 37);
  all.warmup_steps = 11;
  all.decay_steps = 0.99;  // no more than what the warmup leaves
  EXPECT_EQ(plan_of(all, 1'000'000).decay_steps, 90);
  all.decay_steps = 91;
  EXPECT_EQ(refusal(all), "--decay-steps 91 is more than the 90 steps after the warmup of 11");
  all.decay_steps = 1.5;
  EXPECT_EQ(refusal(all),
            "--decay-steps: expected a whole number, or a share of all steps below 1, got 1.5");
}

TEST(Plan, LowersDefaultsToAHundredthOfTheDataInWholeMicroBatches) {
  Options o;
  const Plan plan = plan_of(o, 993'333);  // a hundredth: 9933 tokens
  EXPECT_EQ(plan.micro_batch, 9);         // 9 x 1024 = 9216
  EXPECT_EQ(plan.batch_tokens, 9216);
  EXPECT_EQ(plan.accumulation, 1);
  EXPECT_EQ(plan.steps, 108);
  EXPECT_EQ(plan.warmup_steps, 5);
  ASSERT_EQ(plan.lowered.size(), 3U);
  EXPECT_THAT(plan.lowered[0], HasSubstr("--micro-batch lowered from 16 to 9"));
  EXPECT_THAT(plan.lowered[1], HasSubstr("--batch-tokens lowered from 524288 to 9216"));
  EXPECT_THAT(plan.lowered[2], HasSubstr("--warmup-steps lowered from 700 to 5"));
}

TEST(Plan, LowersTheBatchInWholeMicroBatchesOfTheGivenSize) {
  Options o;
  o.context = 64;
  o.micro_batch = 10;
  const Plan plan = plan_of(o, 993'333);
  EXPECT_EQ(plan.micro_batch, 10);
  EXPECT_EQ(plan.batch_tokens, 15 * 640);
}

TEST(Plan, NeverGoesBelowOneMicroBatch) {
  Options o;
  o.context = 64;
  Plan plan = plan_of(o, 65);  // one window
  EXPECT_EQ(plan.micro_batch, 1);
  EXPECT_EQ(plan.batch_tokens, 64);
  EXPECT_EQ(plan.steps, 1);
  o = {};
  o.context = 64;
  o.micro_batch = 16;
  plan = plan_of(o, 2000);
  EXPECT_EQ(plan.batch_tokens, 1024);
}

TEST(Plan, FitsTheDefaultMicroBatchToAGivenBatch) {
  Options o;
  o.context = 64;
  o.batch_tokens = 192;
  EXPECT_EQ(plan_of(o, 1'000'000).micro_batch, 3);
  o = {};
  o.context = 64;
  o.batch_tokens = 64 * 30;
  EXPECT_EQ(plan_of(o, 1'000'000).micro_batch, 15);
}

TEST(Plan, NeverChangesGivenValues) {
  Options o;
  o.context = 8;
  o.micro_batch = 16;
  o.batch_tokens = 4096;
  o.warmup_steps = 900;
  o.steps = 10;
  const Plan plan = plan_of(o, 1000);
  EXPECT_EQ(plan.micro_batch, 16);
  EXPECT_EQ(plan.batch_tokens, 4096);
  EXPECT_EQ(plan.warmup_steps, 900);
  EXPECT_EQ(plan.steps, 10);
  EXPECT_TRUE(plan.lowered.empty());
}

TEST(Plan, NamesTheNearestValidBatches) {
  Options o;
  o.context = 64;
  o.micro_batch = 4;
  o.batch_tokens = 1000;
  EXPECT_EQ(refusal(o),
            "--batch-tokens 1000 is not a multiple of micro-batch x context = 4 x 64 = 256; the "
            "nearest valid values are 768 and 1024");
  o.batch_tokens = 100;
  EXPECT_THAT(refusal(o), HasSubstr("the nearest valid values are 256"));
  o.micro_batch.reset();
  EXPECT_THAT(refusal(o), HasSubstr("the nearest valid values are 64 and 128"));
}

TEST(Plan, CountsEpochs) {
  Options o;
  o.context = 10;
  o.micro_batch = 1;
  o.batch_tokens = 30;
  o.epochs = 3;
  EXPECT_EQ(plan_of(o, 101).steps, 10);
  EXPECT_EQ(steps_of_epochs(1, 10, 10, 30), 4);
  EXPECT_EQ(steps_of_epochs(0.5, 10, 10, 30), 2);
  EXPECT_EQ(steps_of_epochs(1e-6, 10, 10, 30), 1);
}

TEST(Plan, TakesTheVocabularyFromTheData) {
  Options o;
  DataFacts facts = facts_of(1'000'000);
  facts.vocab_size = 300;
  facts.end_of_text = 299;
  Plan plan = resolve(o, facts, std::nullopt);
  EXPECT_EQ(plan.config.vocab_size, 300);
  EXPECT_EQ(plan.config.end_of_text, 299);
  o = {};
  o.vocab_size = 256;
  expect_error("--vocab-size 256 is smaller than the data's vocabulary of 300 (DATA/manifest.json)",
               [&] { resolve(o, facts, std::nullopt); });
  facts.vocab_size.reset();
  facts.end_of_text.reset();
  plan = resolve(o, facts, std::nullopt);
  EXPECT_EQ(plan.config.vocab_size, 256);
  EXPECT_FALSE(plan.config.end_of_text);
  o = {};
  EXPECT_EQ(resolve(o, facts, std::nullopt).config.vocab_size, 50257);
}

TEST(Plan, KeepsTheShapeOfAModelItStartsFrom) {
  model::Config init = model::preset("tiny");
  init.vocab_size = 50257;
  Options o;
  o.init = "MODEL";
  o.context = 16;
  const Plan plan = resolve(o, facts_of(1'000'000), init);
  EXPECT_EQ(plan.config.context, 16);
  EXPECT_EQ(plan.config.channels, init.channels);
  EXPECT_FALSE(o.preset);
  o.context = 65;
  EXPECT_EQ(refusal(o, 1'000'000, init),
            "--context 65 is longer than the 64 positions of MODEL; choose at most that");
  o.context = 16;
  o.layers = 2;
  EXPECT_EQ(refusal(o, 1'000'000, init),
            "--layers and --init exclude each other: the shape comes from the model; drop one");
  o.layers.reset();
  init.vocab_size = 100;
  EXPECT_THAT(
      refusal(o, 1'000'000, init),
      HasSubstr("MODEL has a vocabulary of 100, smaller than the 50257 of the data in DATA"));
}

TEST(Plan, RefusesDataShorterThanAWindow) {
  Options o;
  o.context = 64;
  EXPECT_EQ(refusal(o, 64),
            "DATA: 64 training tokens are too few for one window of 64 + 1; lower --context or "
            "prepare more text");
}

TEST(Plan, SaysOnceThatThereIsNoValidation) {
  Options o;
  DataFacts facts = facts_of(10'000'000'000);
  facts.validation_tokens = 1024;
  const Plan plan = resolve(o, facts, std::nullopt);
  EXPECT_EQ(plan.validate_every, 0);
  ASSERT_EQ(plan.lowered.size(), 1U);
  EXPECT_EQ(plan.lowered[0],
            "no validation: its 1024 tokens are fewer than one window of 1024 + 1");
}

TEST(Plan, NamesEachValueOutOfRange) {
  const auto with = [](auto member, auto value) {
    Options o;
    o.*member = value;
    return refusal(o);
  };
  EXPECT_EQ(with(&Options::learning_rate, -1.0), "--lr: expected a number of at least 0, got -1");
  EXPECT_EQ(with(&Options::min_learning_rate, 1.0),
            "--min-lr: expected 0 to the --lr of 0.0006, got 1");
  EXPECT_EQ(with(&Options::beta1, 1.0), "--beta1: expected at least 0 and below 1, got 1");
  EXPECT_EQ(with(&Options::beta2, -0.5), "--beta2: expected at least 0 and below 1, got -0.5");
  EXPECT_EQ(with(&Options::weight_decay, -0.5),
            "--weight-decay: expected a number of at least 0, got -0.5");
  EXPECT_EQ(with(&Options::grad_clip, -0.5),
            "--grad-clip: expected a number of at least 0, got -0.5");
  EXPECT_EQ(with(&Options::dropout, 1.0), "--dropout: expected at least 0 and below 1, got 1");
  EXPECT_EQ(with(&Options::dropout, -0.5), "--dropout: expected at least 0 and below 1, got -0.5");
  EXPECT_THAT(with(&Options::dropout, 0.99999999999), testing::HasSubstr("below 1"));
  EXPECT_EQ(with(&Options::label_smoothing, 1.5), "--label-smoothing: expected 0 to 1, got 1.5");
  EXPECT_EQ(with(&Options::z_loss, -1e-4),
            "--z-loss: expected a number of at least 0, got -0.0001");
  EXPECT_EQ(with(&Options::threads, 0), "--threads: expected 1 to 1024, got 0");
  EXPECT_EQ(with(&Options::steps, 0), "--steps: expected at least 1, got 0");
  EXPECT_EQ(with(&Options::epochs, 0.0), "--epochs: expected more than 0, got 0");
  EXPECT_EQ(with(&Options::micro_batch, 0), "--micro-batch: expected at least 1, got 0");
  EXPECT_EQ(with(&Options::batch_tokens, 0), "--batch-tokens: expected at least 1, got 0");
  EXPECT_EQ(with(&Options::warmup_steps, -1), "--warmup-steps: expected at least 0, got -1");
  EXPECT_EQ(with(&Options::validate_every, -1),
            "--val-every: expected at least 0 (0: never), got -1");
  EXPECT_EQ(with(&Options::keep_checkpoints, -1),
            "--keep-checkpoints: expected at least 0, got -1");
  Options both;
  both.steps = 1;
  both.epochs = 1;
  EXPECT_EQ(refusal(both), "--steps and --epochs exclude each other; drop one");
}

TEST(Memory, NamesTheFlagToChangeAndBothFigures) {
  Plan plan;
  plan.micro_batch = 16;
  const auto needed = [](std::int64_t batch) {
    model::MemoryPlan memory;
    memory.parameters = 2'000'000'000;
    memory.activations = static_cast<std::size_t>(batch) * 1'000'000'000;
    return memory;
  };
  EXPECT_NO_THROW(check_memory(plan, 18'000'000'000, needed));
  expect_error(
      "training needs 18.00 GB of memory, but 7.50 GB are free; lower --micro-batch from 16 "
      "to 5 or less, or try --recompute block",
      [&] { check_memory(plan, 7'500'000'000, needed); });
  expect_error(
      "training needs 18.00 GB of memory, but 2.50 GB are free; choose a smaller model "
      "(--preset, --layers, --channels) or --context",
      [&] { check_memory(plan, 2'500'000'000, needed); });
}

}  // namespace
}  // namespace train
