// Learning rates against the golden ones and at the ends.

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "train/train.h"

namespace train {
namespace {

// Source: tests/golden/model_golden/tiny/ref.json, made by an independent float64 program.
TEST(Schedule, IsTheGoldenRunsCosine) {
  const auto golden = nlohmann::json::parse(
      base::read_file(GPT2_SOURCE_DIR "/tests/golden/model_golden/tiny/ref.json"));
  const auto& hyper = golden.at("train").at("hyper");
  const double peak = hyper.at("lr");
  const auto& rates = golden.at("train").at("f64").at("lr");
  ASSERT_EQ(rates.size(), 10U);
  for (std::size_t s = 0; s < rates.size(); ++s) {
    const double expected = rates[s];
    EXPECT_NEAR(
        learning_rate_at(Schedule::kCosine, static_cast<std::int64_t>(s), 10, 3, peak, peak * 0.1),
        expected, 1e-15)
        << "step " << s;
  }
}

TEST(Schedule, WarmsUpFromTheFirstStep) {
  for (const Schedule schedule : {Schedule::kCosine, Schedule::kLinear, Schedule::kConstant}) {
    EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 0, 100, 4, 1.0, 0.1), 0.25);
    EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 3, 100, 4, 1.0, 0.1), 1.0);
    EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 4, 100, 4, 1.0, 0.1), 1.0);
  }
}

TEST(Schedule, ReachesTheMinimumAtTheEnd) {
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kCosine, 100, 100, 4, 1.0, 0.1), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kLinear, 100, 100, 4, 1.0, 0.1), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kConstant, 100, 100, 4, 1.0, 0.1), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kCosine, 52, 100, 4, 1.0, 0.1), 0.55);  // halfway
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kLinear, 28, 100, 4, 1.0, 0.1), 0.775);
}

TEST(Schedule, WarmsUpIsStableAndDecays) {
  const auto rate = [](std::int64_t step, DecayShape shape) {
    return learning_rate_at(Schedule::kWsd, step, 100, 4, 1.0, 0.2, {16, shape});
  };
  for (const DecayShape shape : {DecayShape::kSqrt, DecayShape::kLinear}) {
    EXPECT_DOUBLE_EQ(rate(0, shape), 0.25);
    EXPECT_DOUBLE_EQ(rate(4, shape), 1.0);
    EXPECT_DOUBLE_EQ(rate(84, shape), 1.0);
    EXPECT_DOUBLE_EQ(rate(100, shape), 0.2);
  }
  EXPECT_DOUBLE_EQ(rate(88, DecayShape::kSqrt), 0.2 + 0.8 * 0.5);  // a quarter of the way: 1 - 1/2
  EXPECT_DOUBLE_EQ(rate(93, DecayShape::kSqrt), 0.2 + 0.8 * 0.25);
  EXPECT_DOUBLE_EQ(rate(88, DecayShape::kLinear), 0.8);
  EXPECT_DOUBLE_EQ(rate(96, DecayShape::kLinear), 0.4);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kWsd, 99, 100, 4, 1.0, 0.2), 1.0) << "no decay";
}

TEST(Average, ForgetsTheFirstWeightsSoon) {
  EXPECT_DOUBLE_EQ(average_decay_at(0.99, 0), 0.1);
  EXPECT_DOUBLE_EQ(average_decay_at(0.99, 8), 0.5);
  EXPECT_DOUBLE_EQ(average_decay_at(0.99, 890), 0.99);
  EXPECT_DOUBLE_EQ(average_decay_at(0.99, 100'000), 0.99);
  EXPECT_DOUBLE_EQ(average_decay_at(0, 5), 0);
}

TEST(Schedule, IsFiniteWithoutWarmupAndWithNothingElse) {
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kCosine, 0, 1, 0, 1.0, 0.1), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kCosine, 4, 5, 5, 1.0, 0.1), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(Schedule::kCosine, 5, 5, 5, 1.0, 0.1), 0.1);
}

}  // namespace
}  // namespace train
