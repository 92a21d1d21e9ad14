// The run directory: where a run may begin, and what is read of one.

#include "train/run_folder.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "train/helpers.h"

namespace train {
namespace {

using testing::HasSubstr;

TEST(RunFolder, MayBeMissingOrEmptyOrHoldTemporaries) {
  TemporaryFolder folder;
  EXPECT_NO_THROW(require_free_folder(folder / "new"));
  EXPECT_NO_THROW(require_free_folder(folder.path()));
  base::write_file(folder / "train.json.tmp.12", "");
  EXPECT_NO_THROW(require_free_folder(folder.path()));
}

TEST(RunFolder, MayNotHoldOtherFilesOrBeOne) {
  TemporaryFolder folder;
  base::write_file(folder / "notes.txt", "mine");
  expect_error(folder.path().string() +
                   " holds other files (notes.txt); choose a new or empty folder "
                   "for --out",
               [&] { require_free_folder(folder.path()); });
  expect_error((folder / "notes.txt").string() +
                   ": expected a folder for the run, it is a file; choose another --out",
               [&] { require_free_folder(folder / "notes.txt"); });
  EXPECT_EQ(base::read_file(folder / "notes.txt"), "mine");
}

TEST(RunFolder, MayNotHoldAnotherRun) {
  TemporaryFolder folder;
  base::write_file(folder / "train.json", "{}");
  expect_error(folder.path().string() +
                   " already holds a run; continue it with --resume or choose "
                   "another --out",
               [&] { require_free_folder(folder.path()); });
}

TEST(RunFolder, IsRidOfWhatAKilledProcessLeft) {
  TemporaryFolder folder;
  base::create_folders(folder / "checkpoints" / "step_00000001.tmp.5");
  base::create_folders(folder / "model.old.5");
  base::write_file(folder / "loss.svg", "");
  remove_temporaries(folder.path());
  EXPECT_FALSE(std::filesystem::exists(folder / "model.old.5"));
  EXPECT_TRUE(std::filesystem::is_empty(folder / "checkpoints"));
  EXPECT_TRUE(std::filesystem::exists(folder / "loss.svg"));
}

TEST(RunFolder, RecordComesBack) {
  TemporaryFolder folder;
  RunRecord record;
  record.options.learning_rate = 0.1;
  record.options.steps = 3;
  record.facts = {model::preset("tiny"), "00ff"};
  write_record(folder.path(), record);
  const RunRecord back = read_record(folder.path());
  EXPECT_EQ(back.options.learning_rate, 0.1);
  EXPECT_EQ(back.facts.config, record.facts.config);
  EXPECT_EQ(back.facts.data_fingerprint, "00ff");
  base::write_file(folder / "train.json", R"({"steps": 3})");
  EXPECT_THAT(error_of([&] { read_record(folder.path()); }),
              HasSubstr("train.json: not a run's record"));
}

TEST(RunInfo, TellsOfARun) {
  TemporaryFolder folder;
  make_data(folder / "data");
  Options options = small_run(folder / "data", folder / "run");
  options.checkpoint_every = 10;
  EXPECT_FALSE(is_run(folder / "run"));
  run_steps(options, 12);
  EXPECT_TRUE(is_run(folder / "run"));
  const RunInfo info = read_run(folder / "run");
  EXPECT_EQ(info.config.channels, 16);
  EXPECT_EQ(info.steps_planned, 15);
  ASSERT_TRUE(info.last_step);
  EXPECT_EQ(info.last_step->step, 11);
  EXPECT_TRUE(info.last_validation_loss);
  EXPECT_EQ(info.checkpoints, (std::vector<std::string>{"step_00000010", "step_00000012"}));
  EXPECT_FALSE(info.running);
  EXPECT_FALSE(info.finished);
  ASSERT_TRUE(info.seconds_left);
  EXPECT_NEAR(*info.seconds_left * *info.tokens_per_second, 3 * 32, 1e-3);
}

TEST(RunInfo, TellsWhetherSomebodyTrainsIt) {
  TemporaryFolder folder;
  make_data(folder / "data");
  Options options = small_run(folder / "data", folder / "run");
  Trainer trainer(options);
  Callbacks callbacks;
  bool running = false;
  callbacks.on_step = [&](const StepReport& report) {
    const RunInfo info = read_run(folder / "run");
    running = info.running;
    EXPECT_EQ(info.last_step->step, report.step);
  };
  trainer.run(callbacks);
  EXPECT_TRUE(running);
  EXPECT_TRUE(read_run(folder / "run").finished);
}

}  // namespace
}  // namespace train
