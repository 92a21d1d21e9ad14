// gpt2 report: the page and the table of runs, and what it refuses.

#include <gmock/gmock.h>

#include "cli/model_testing.h"
#include "train/helpers.h"

namespace {

using model_testing::expect_failure;
using model_testing::Ran;
using model_testing::run;
using testing::HasSubstr;

class ReportCommand : public testing::Test {
 protected:
  ReportCommand() {
    train::make_data(folder_ / "data");
    train::Options options = train::small_run(folder_ / "data", folder_ / "run");
    options.threads = 1;
    train::run_steps(options);
  }
  TemporaryFolder folder_;
};

TEST_F(ReportCommand, WritesThePageOfARunIntoIt) {
  std::filesystem::remove(folder_ / "run" / "report.html");
  const Ran ran = run({"report", folder_ / "run/"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr("report.html ("));
  const std::string page = base::read_file(folder_ / "run" / "report.html");
  EXPECT_THAT(
      page,
      HasSubstr(
          "\"live\":false,\"runs\":[{\"name\":\"run\",\"state\":\"finished, 15 of 15 steps\""));
  const Ran printed = run({"report", folder_ / "run", "--out", "-", "--quiet"});
  EXPECT_EQ(printed.out, page);
  EXPECT_EQ(printed.err, "");
}

TEST_F(ReportCommand, ComparesRunsUnderNamesThatTellThemApart) {
  base::create_folders(folder_ / "other");
  std::filesystem::copy(folder_ / "run", folder_ / "other" / "run",
                        std::filesystem::copy_options::recursive);
  const Ran ran =
      run({"report", folder_ / "run", folder_ / "other/run", "--out", folder_ / "both.html"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const std::string page = base::read_file(folder_ / "both.html");
  for (const char* name : {"run", "other/run"}) {
    EXPECT_THAT(page, HasSubstr("\"name\":\"" + (folder_ / name).string() + "\""));
  }
  expect_failure(run({"report", folder_ / "run", folder_ / "other/run"}), 2, "--out is required");
}

TEST_F(ReportCommand, WritesEveryStepAsCsv) {
  const Ran ran = run({"report", folder_ / "run", "--csv"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const auto steps = train::read_log(folder_ / "run" / "log.jsonl").steps;
  std::istringstream lines(ran.out);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "step,loss,lr,grad_norm,tokens,tokens_per_second,ms,val_loss");
  for (const train::StepReport& step : steps) {
    ASSERT_TRUE(std::getline(lines, line));
    std::istringstream cells(line);
    std::string number, loss;
    std::getline(cells, number, ',');
    std::getline(cells, loss, ',');
    EXPECT_EQ(number, std::to_string(step.step));
    EXPECT_EQ(std::stod(loss), step.loss);  // the same double
    EXPECT_EQ(line.ends_with(','), !step.validation_loss);
  }
  EXPECT_FALSE(std::getline(lines, line));
  const Ran filed = run({"report", folder_ / "run", "--csv", "--out", folder_ / "log.csv"});
  EXPECT_EQ(filed.out, "");
  EXPECT_EQ(base::read_file(folder_ / "log.csv"), ran.out);
  expect_failure(run({"report", folder_ / "run", folder_ / "run", "--csv"}), 2,
                 "--csv takes one run");
}

TEST_F(ReportCommand, RefusesWhatIsNoRun) {
  expect_failure(run({"report", folder_ / "data"}), 1,
                 "data: expected a run directory of 'gpt2 train' (it has a train.json)");
  expect_failure(run({"report"}), 2, "RUN");
  base::write_file(folder_ / "run" / "log.jsonl", "no json\n");
  expect_failure(run({"report", folder_ / "run"}), 1, "log.jsonl:1: expected a JSON object a line");
  model_testing::expect_help("report", {"--out", "--csv", "--quiet"});
}

}  // namespace
