// What lets a run be watched: its page, its picture, TensorBoard's files.

#include "train/watch.h"

#include <gmock/gmock.h>

#include "train/helpers.h"

namespace train {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const report::PageCurve* find(const report::PageRun& page, const std::string& chart,
                              const std::string& name) {
  for (const report::PageCurve& curve : page.curves) {
    if (curve.chart == chart && curve.name == name) return &curve;
  }
  return nullptr;
}

std::vector<double> values(const report::Curve& curve) {
  std::vector<double> result;
  for (const report::Point& point : curve.points()) result.push_back(point.y);
  return result;
}

TEST(RunPage, DrawsWhateverNumbersTheLogHas) {
  RunPage page("/nowhere/run");
  for (
      const char* line :
      {R"({"event":"start","step":0,"backend":"cpu","host":{"processor":"X"},"options":{"steps":9,"lr":0.5},)"
       R"("peak_flops":4e9,"flops_per_token":1e6,"time":"2026-11-27T18:00:00Z"})",
       R"({"step":0,"loss":4.0,"lr":0.1,"grad_norm":2.0,"tokens":64,"tokens_per_second":2000,"ms":60000})",
       R"({"step":1,"loss":0.0,"lr":0.2,"grad_norm":0.0,"tokens":128,"tokens_per_second":1000,"ms":60000,"targets":0})",
       R"({"event":"spike","step":2,"time":"x","z":7.5,"details":{"a":1}})",
       R"({"step":2,"loss":3.0,"lr":0.3,"grad_norm":1.0,"tokens":192,"tokens_per_second":1000,"ms":60000,)"
       R"("val_loss":3.5,"eval":{"hellaswag":{"acc":0.25,"acc_norm":0.3,"perplexity":90,"note":"x"},"score":7}})"}) {
    page.add(Json::parse(line));
  }
  const report::PageRun shown = page.page(true);
  EXPECT_EQ(shown.name, "run");
  EXPECT_EQ(shown.state, "running, 3 of 9 steps");
  EXPECT_EQ(page.page(false).state, "stopped, 3 of 9 steps");
  ASSERT_NE(find(shown, "loss", "train"), nullptr);
  EXPECT_THAT(values(find(shown, "loss", "train")->curve), ElementsAre(4, 3));  // none had a target
  EXPECT_THAT(values(find(shown, "loss", "validation")->curve), ElementsAre(3.5));
  EXPECT_THAT(values(find(shown, "lr", "learning rate")->curve), ElementsAre(0.1, 0.2, 0.3));
  EXPECT_THAT(values(find(shown, "percent_of_peak", "share of the peak")->curve),
              ElementsAre(50, 25, 25));
  EXPECT_THAT(values(find(shown, "eval/hellaswag", "acc_norm")->curve), ElementsAre(0.3));
  EXPECT_THAT(values(find(shown, "eval/score", "score")->curve), ElementsAre(7));
  EXPECT_THAT(values(find(shown, "eval/hellaswag/perplexity", "perplexity")->curve),
              ElementsAre(90));
  EXPECT_EQ(find(shown, "eval/hellaswag/note", "note"), nullptr);
  EXPECT_THAT(values(shown.axes[0].second), ElementsAre(64, 128, 192));
  EXPECT_THAT(values(shown.axes[1].second), ElementsAre(1, 2, 3));
  ASSERT_EQ(shown.marks.size(), 1U);
  EXPECT_EQ(shown.marks[0].kind, "spike");
  EXPECT_EQ(shown.marks[0].text, "z: 7.5");
  EXPECT_THAT(shown.configuration, testing::Contains(report::Fact("lr", "0.5")));
  EXPECT_THAT(shown.environment, testing::Contains(report::Fact("processor", "X")));
}

TEST(RunPage, ShowsSamplesFromTheFirstToTheLast) {
  const TemporaryFolder folder;
  base::create_folders(folder / "samples");
  for (int i = 1; i <= 60; ++i) {
    base::write_file(folder / "samples" / fmt::format("step_{:08}.txt", i * 10),
                     std::string(9000, 'x'));
  }
  base::write_file(folder / "samples" / "step_x.txt", "no");
  base::write_file(folder / "samples" / "step_00000005.txt.tmp.1", "no");
  const report::PageRun page = RunPage(folder.path()).page(false);
  ASSERT_EQ(page.samples.size(), 24U);
  EXPECT_EQ(page.samples.front().step, 10);
  EXPECT_EQ(page.samples.back().step, 600);
  EXPECT_LT(page.samples.back().text.size(), 6100U);
}

class WatchedRun : public testing::Test {
 protected:
  WatchedRun() { make_data(folder_ / "data"); }
  Options options() const {
    Options o = small_run(folder_ / "data", folder_ / "run");
    o.histogram_every = 5;
    o.checkpoint_every = 5;
    return o;
  }
  std::vector<std::string> event_files() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "run" / "tb")) {
      files.push_back(base::read_file(entry.path()));
    }
    std::ranges::sort(files);
    return files;
  }
  TemporaryFolder folder_;
};

TEST_F(WatchedRun, LeavesItsPageItsPictureAndItsEvents) {
  Trainer trainer(options());
  Callbacks callbacks;
  callbacks.peak_flops = 1e9;
  callbacks.flops_per_token = 1e5;
  trainer.run(callbacks);
  const std::string page = base::read_file(folder_ / "run" / "report.html");
  EXPECT_THAT(page, HasSubstr("finished, 15 of 15 steps"));
  EXPECT_THAT(page, HasSubstr("\"live\":false"));
  EXPECT_THAT(page, HasSubstr("percent_of_peak"));
  const auto files = event_files();
  ASSERT_EQ(files.size(), 1U);
  for (const char* tag : {"loss", "val_loss", "percent_of_peak", "weights/wte.weight",
                          "gradients/h.0.mlp.c_proj.bias"}) {
    EXPECT_THAT(files[0], HasSubstr(tag));
  }
  const report::Table table = read_table(folder_ / "run");
  EXPECT_EQ(table.rows.size(), 15U);
  EXPECT_THAT(table.columns, testing::Contains("percent_of_peak"));
}

TEST_F(WatchedRun, HistogramsChangeNoBit) {
  run_steps(options());
  Options without = options();
  without.out = folder_ / "without";
  without.histogram_every = 0;
  run_steps(without);
  EXPECT_EQ(numbers_of(folder_ / "run"), numbers_of(folder_ / "without"));
}

TEST_F(WatchedRun, AResumedRunGoesOnInAnotherFile) {
  run_steps(options(), 7);
  EXPECT_THAT(base::read_file(folder_ / "run" / "report.html"),
              HasSubstr("stopped, 7 of 15 steps"));
  Options again = options();
  again.resume = true;
  run_steps(again);
  EXPECT_EQ(event_files().size(), 2U);
  const report::PageRun page = read_page(folder_ / "run");
  EXPECT_EQ(find(page, "loss", "train")->curve.points().size(), 15U);
  EXPECT_EQ(page.state, "finished, 15 of 15 steps");
}

TEST(Log, KeepsItsLinesWhereEventsCannotBeWritten) {
  const TemporaryFolder folder;
  base::write_file(folder / "tb", "a file where the folder should be");
  Log log(folder.path());
  log.take_up(0);
  StepReport report;
  report.loss = 3;
  log.step(report);
  EXPECT_THAT(log.trouble().value_or(""), HasSubstr("tb"));
  report.step = 1;
  log.step(report);  // and does not try again at once
  EXPECT_EQ(log.trouble(), std::nullopt);
  EXPECT_EQ(read_log(folder / "log.jsonl").steps.size(), 2U);
}

}  // namespace
}  // namespace train
