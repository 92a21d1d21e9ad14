// Figures of tiny models: they must fit together. How large they are is the machine's affair.

#include "measure/measure.h"

#include <gmock/gmock.h>

#include "expect_error.h"

namespace measure {
namespace {

using testing::Each;
using testing::Gt;

model::Config tiny() {
  model::Config config = model::preset("tiny");
  config.vocab_size = 300;
  config.end_of_text.reset();
  return config;
}

const Operation* row_of(const std::vector<Operation>& rows, const std::string& name) {
  for (const Operation& row : rows) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

double milliseconds_of(const std::vector<Operation>& rows) {
  double sum = 0;
  for (const Operation& row : rows) sum += row.milliseconds;
  return sum;
}

TEST(Series, KnowsItsMedianAndItsEnds) {
  Series series;
  EXPECT_EQ(series.median(), 0);
  for (const double value : {5.0, 1.0, 4.0}) series.add(value);
  EXPECT_EQ(series.median(), 4);
  series.add(2);
  EXPECT_EQ(series.median(), 3);
  EXPECT_EQ(series.smallest(), 1);
  EXPECT_EQ(series.largest(), 5);
  EXPECT_EQ(series.sum(), 12);
}

// 124m at T = 1024: 6N + 6LCT with N = 12 * 12 * 768^2 + 50257 * 768 = 123,532,032 is 741,192,192 +
// 56,623,104.
TEST(Flops, OfTrainingAreThoseOfTheFormula) {
  const model::Config config = model::preset("124m");
  EXPECT_EQ(training_flops_per_token(config, 1024), 797815296.0);
  EXPECT_EQ(scoring_flops_per_token(config, 1024), 797815296.0 / 3);
}

TEST(Flops, OfAPromptLeaveOutTheHeadOfAllButItsLastToken) {
  const model::Config config = model::preset("124m");
  const double head = 2.0 * 50257 * 768;
  EXPECT_EQ(prompt_flops(config, 512), 512 * (scoring_flops_per_token(config, 512) - head) + head);
}

TEST(Operations, AreTimesAndSharesOfOneStep) {
  const std::vector<kernels::OperationTotals> profile = {
      {.operation = "squared_norm", .calls = 4, .seconds = 2, .bytes = 100},
      {.operation = "linear_forward",
       .inputs = 3,
       .outputs = 5,
       .calls = 2,
       .seconds = 4,
       .flops = 300,
       .bytes = 20}};
  const std::vector<Operation> rows = operations_of(profile, 2, 7, /*peak=*/100, /*read=*/100);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].name, "linear_forward 3x5");  // what takes longest stands first
  EXPECT_EQ(rows[0].calls, 1);
  EXPECT_EQ(rows[0].milliseconds, 2000);
  EXPECT_EQ(rows[0].flops_per_second, 75);
  EXPECT_EQ(rows[0].bytes_per_second, 5);
  EXPECT_EQ(rows[0].fraction_of_roofline, 0.75);  // 3 of 4 seconds at the peak
  EXPECT_EQ(rows[1].fraction_of_roofline, 0.5);   // 1 of 2 seconds of reading
  EXPECT_EQ(rows[2].name, "other");
  EXPECT_EQ(rows[2].milliseconds, 500);
}

TEST(MeasureMachine, FindsEveryLimit) {
  const Machine machine = measure_machine(0.05, Clock::kWall);
  EXPECT_GT(machine.f32, 0);
  EXPECT_GT(machine.bf16, 0);
  EXPECT_GT(machine.int8, 0);
  EXPECT_GT(machine.read, 0);
  EXPECT_GT(machine.copy, 0);
  EXPECT_FALSE(machine.instruction_set.empty());
}

TEST(MeasureTraining, CountsEveryOperationOfAStep) {
  std::vector<std::int64_t> steps;
  const Training result = measure_training(
      {.config = tiny(), .length = 32, .micro_batch = 2, .accumulation = 3, .steps = 2},
      [&](std::int64_t step, double seconds) {
        steps.push_back(step);
        EXPECT_GT(seconds, 0);
      });
  EXPECT_THAT(steps, testing::ElementsAre(0, 1, 2));
  EXPECT_EQ(result.tokens_per_step, 2 * 32 * 3);
  EXPECT_EQ(result.step_seconds.values().size(), 2U);
  EXPECT_EQ(result.peaks.values().size(), 3U);
  EXPECT_THAT(result.peaks.values(), Each(Gt(0)));
  EXPECT_GT(result.resident_bytes, 0U);
  EXPECT_GE(result.best_tokens_per_second(), result.tokens_per_second());

  const Operation* qkv = row_of(result.operations, "linear_forward 32x96");
  ASSERT_NE(qkv, nullptr);
  EXPECT_EQ(qkv->calls, 2 * 3);  // layers x micro-batches
  const Operation* head = row_of(result.operations, "head_loss 32x384");
  ASSERT_NE(head, nullptr);
  EXPECT_EQ(head->calls, 3);
  const double mean = result.step_seconds.sum() / 2 * 1e3;
  EXPECT_NEAR(milliseconds_of(result.operations), mean, mean * 1e-9);
  EXPECT_LT(row_of(result.operations, "other")->milliseconds, mean);
}

TEST(MeasureScoring, HasNoBackwardPass) {
  const Training result =
      measure_scoring({.config = tiny(), .length = 16, .batch = 2, .steps = 2}, {});
  EXPECT_EQ(result.tokens_per_step, 32);
  EXPECT_NE(row_of(result.operations, "head_loss_forward 32x384"), nullptr);
  for (const Operation& row : result.operations) {
    EXPECT_EQ(row.name.find("backward"), std::string::npos) << row.name;
  }
}

TEST(MeasureGeneration, TimesThePromptAndEachToken) {
  using enum kernels::WeightFormat;
  for (const kernels::WeightFormat format : {kF32, kBf16, kInt8, kInt4}) {
    const Generation result = measure_generation({.config = tiny(),
                                                  .format = format,
                                                  .batch = format == kF32 ? 3 : 1,
                                                  .prompt_tokens = 20,
                                                  .depth = 7,
                                                  .tokens = 10});
    EXPECT_EQ(result.token_seconds.values().size(), 10U);
    EXPECT_THAT(result.token_seconds.values(), Each(Gt(0)));
    EXPECT_EQ(result.fractions.values().size(), 2U);
    EXPECT_THAT(result.fractions.values(), Each(Gt(0)));
    EXPECT_GT(result.prompt_tokens_per_second(), 0);
    EXPECT_GT(result.prompt_fraction_of_peak(), 0);
    // At least half a byte for each weight: 2 blocks of 12 C^2 and the head.
    EXPECT_GE(result.weight_bytes, (2 * 12 * 32 * 32 + 300 * 32) / 2.0);
    EXPECT_DOUBLE_EQ(result.bytes_per_second() / result.tokens_per_second(),
                     result.weight_bytes / result.batch);
    EXPECT_EQ(row_of(result.operations, "attention_cached")->calls, 2);
    EXPECT_EQ(row_of(result.prompt_operations, "attention_cached")->calls, 2);
  }
}

TEST(MeasureGeneration, RefusesWhatTheContextCannotHold) {
  const model::Config config = tiny();
  expect_error("prompt of 65 tokens: expected 1 to the model's context of 64",
               [&] { measure_generation({.config = config, .prompt_tokens = 65, .tokens = 1}); });
  expect_error("40 tokens after 30: expected at most the model's context of 64", [&] {
    measure_generation({.config = config, .prompt_tokens = 1, .depth = 30, .tokens = 40});
  });
  expect_error("tokens: expected 1 or more, got 0",
               [&] { measure_generation({.config = config, .prompt_tokens = 1, .tokens = 0}); });
}

}  // namespace
}  // namespace measure
