// log.jsonl: round trips, cutting, torn lines.

#include "train/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "expect_error.h"
#include "temporary_folder.h"

namespace train {
namespace {

StepReport report_of(std::int64_t step) {
  StepReport r;
  r.step = step;
  r.loss = 10.0 / (3.0 + static_cast<double>(step));
  r.learning_rate = 1e-3 / 7.0;
  r.grad_norm = 0.1 + 0.2;
  r.tokens = (step + 1) * 64;
  r.tokens_per_second = 12345.678901234567;
  r.milliseconds = 1.0 / 3.0;
  if (step % 2 == 1) r.validation_loss = r.loss + 0.1;
  return r;
}

class LogFile : public testing::Test {
 protected:
  base::Path path() const { return folder_ / "log.jsonl"; }
  void write(std::int64_t steps) {
    Log log(folder_.path());
    log.take_up(0);
    log.event("start", {{"step", 0}});
    for (std::int64_t s = 0; s < steps; ++s) log.step(report_of(s));
  }
  TemporaryFolder folder_;
};

TEST_F(LogFile, ReadsBackEveryBit) {
  write(4);
  const LogContent content = read_log(path());
  ASSERT_EQ(content.steps.size(), 4U);
  EXPECT_FALSE(content.finished);
  for (std::int64_t s = 0; s < 4; ++s) {
    const StepReport& got = content.steps[static_cast<std::size_t>(s)];
    const StepReport expected = report_of(s);
    EXPECT_EQ(got.step, expected.step);
    EXPECT_EQ(got.loss, expected.loss);
    EXPECT_EQ(got.learning_rate, expected.learning_rate);
    EXPECT_EQ(got.grad_norm, expected.grad_norm);
    EXPECT_EQ(got.tokens, expected.tokens);
    EXPECT_EQ(got.tokens_per_second, expected.tokens_per_second);
    EXPECT_EQ(got.milliseconds, expected.milliseconds);
    EXPECT_EQ(got.validation_loss, expected.validation_loss);
  }
}

TEST_F(LogFile, HasOneLineAStepUnderTheKeysOfTheContract) {
  const Json line = Json::parse(log_line(report_of(1)));
  std::vector<std::string> keys;
  for (const auto& [key, value] : line.items()) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"step", "loss", "lr", "grad_norm", "tokens",
                                            "tokens_per_second", "ms", "val_loss"}));
  EXPECT_FALSE(Json::parse(log_line(report_of(2))).contains("val_loss"));
}

TEST_F(LogFile, KeepsTheFiguresOfTasks) {
  StepReport report = report_of(0);
  const Evaluations figures = {{"hellaswag", {{"acc", 1.0 / 3.0}, {"acc_norm", 0.25}}},
                               {"perplexity:caf\u00E9", {{"bits_per_byte", 1.1}}}};
  report.evaluations = figures;
  report.evaluations["perplexity:caf\u00E9"]["perplexity"] = HUGE_VAL;  // JSON has no such number
  EXPECT_EQ(Json::parse(log_line(report)).at("eval").dump(),
            R"({"hellaswag":{"acc":0.3333333333333333,"acc_norm":0.25},)"
            "\"perplexity:caf\u00E9\":{\"bits_per_byte\":1.1}}");
  {
    Log log(folder_.path());
    log.take_up(0);
    log.step(report);
    log.step(report_of(1));
  }
  const LogContent content = read_log(path());
  ASSERT_EQ(content.steps.size(), 2U);
  EXPECT_EQ(content.steps[0].evaluations, figures);
  EXPECT_TRUE(content.steps[1].evaluations.empty());
  base::append_line(path(), R"({"loss": 1, "step": 2, "lr": 1, "grad_norm": 1, "tokens": 1, )"
                            R"("tokens_per_second": 1, "ms": 1, "eval": {"hellaswag": 5}})");
  EXPECT_THAT(error_of([&] { read_log(path()); }),
              testing::HasSubstr("log.jsonl:3: not a step's line: "));
}

TEST_F(LogFile, CutsTheStepsFromTheOneResumedOn) {
  write(6);
  Log log(folder_.path());
  EXPECT_EQ(log.take_up(4), 2);
  EXPECT_EQ(log.first_loss(), report_of(0).loss);
  EXPECT_EQ(log.last_loss(), report_of(3).loss);
  EXPECT_EQ(log.last_validation_loss(), report_of(3).validation_loss);
  log.event("resume", {{"step", 4}});
  log.step(report_of(4));
  const LogContent content = read_log(path());
  ASSERT_EQ(content.steps.size(), 5U);
  for (std::size_t s = 0; s < 5; ++s)
    EXPECT_EQ(content.steps[s].step, static_cast<std::int64_t>(s));
  EXPECT_EQ(content.lines.size(), 7U);  // and two events
}

TEST_F(LogFile, DropsALastLineThatWasCutShort) {
  write(3);
  base::append_line(path(), R"({"step":3,"loss":1)");
  std::filesystem::resize_file(path(), std::filesystem::file_size(path()) - 3);
  Log log(folder_.path());
  EXPECT_EQ(log.take_up(3), 0);
  EXPECT_EQ(read_log(path()).lines.size(), 4U);
}

TEST_F(LogFile, RefusesALogThatLacksSteps) {
  write(3);
  Log log(folder_.path());
  expect_error(path().string() +
                   ": expected the steps up to 5, got 3 of them; restore it or start a "
                   "new run",
               [&] { log.take_up(5); });
}

TEST_F(LogFile, RefusesALogWithAStepTwice) {
  write(2);
  base::append_line(path(), log_line(report_of(1)));
  Log log(folder_.path());
  expect_error(path().string() +
                   ": expected step 2, got step 1: the log was changed; restore it or "
                   "start a new run",
               [&] { log.take_up(5); });
}

TEST_F(LogFile, NamesTheBrokenLine) {
  write(1);
  base::append_line(path(), "not json");
  expect_error(path().string() + ":3: expected a JSON object a line, got something else",
               [&] { read_log(path()); });
  base::write_file(path(), "{\"loss\": 1}\n");
  EXPECT_TRUE(
      error_of([&] { read_log(path()); }).starts_with(path().string() + ":1: not a step's line: "));
}

TEST_F(LogFile, KnowsWhetherTheRunCameToItsEnd) {
  write(1);
  Log log(folder_.path());
  log.take_up(1);
  log.event("finish", {{"step", 1}});
  EXPECT_TRUE(read_log(path()).finished);
}

TEST_F(LogFile, DrawsBothCurves) {
  write(5);
  Log log(folder_.path());
  log.take_up(5);
  log.draw();
  const std::string svg = base::read_file(folder_ / "loss.svg");
  for (const char* word : {"<svg", "train", "validation", "tokens", "loss (nats per token)"}) {
    EXPECT_THAT(svg, testing::HasSubstr(word));
  }
}

TEST(HostFacts, NameTheProcessor) {
  const Json facts = host_facts();
  EXPECT_FALSE(facts.at("processor").get<std::string>().empty());
  EXPECT_GE(facts.at("threads").get<int>(), 1);
}

}  // namespace
}  // namespace train
