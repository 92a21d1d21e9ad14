// A resumed run is the uninterrupted one, bit for bit, wherever it stopped and however.

#include "expect_error.h"
#include "train/checkpoint.h"
#include "train/helpers.h"

namespace train {
namespace {

using testing::HasSubstr;

struct Killed {};

class Resume : public testing::TestWithParam<base::DType> {
 protected:
  Resume() {
    make_data(folder_ / "data");
    whole_ = options(folder_ / "whole");
    run_steps(whole_);
  }
  Options options(const base::Path& out) const {
    Options o = small_run(folder_ / "data", out);
    o.precision = GetParam();
    return o;
  }
  /// Ends a run as a kill would: nothing is written after step `step`.
  void kill_after(const Options& o, std::int64_t step) {
    Trainer trainer(o);
    Callbacks callbacks;
    callbacks.on_step = [&](const StepReport& report) {
      if (report.step == step) throw Killed{};
    };
    EXPECT_THROW(trainer.run(callbacks), Killed);
  }
  void expect_same_as_whole(const base::Path& run) {
    EXPECT_EQ(numbers_of(run), numbers_of(*whole_.out));
    EXPECT_EQ(base::read_file(run / "model" / "model.safetensors"),
              base::read_file(*whole_.out / "model" / "model.safetensors"));
  }
  TemporaryFolder folder_;
  Options whole_;
};

INSTANTIATE_TEST_SUITE_P(Precision, Resume, testing::Values(base::DType::kF32, base::DType::kBf16),
                         [](const auto& param) { return std::string(base::name_of(param.param)); });

/// 26 windows an epoch in 3 shards, 4 a step: 1 and 3 are inside a shard, 6 and 13 across epochs,
/// 14 is before the last step.
TEST_P(Resume, AfterAStopAtAnyPoint) {
  for (const std::int64_t stop : {1, 3, 6, 7, 13, 14}) {
    Options o = options(folder_ / fmt::format("stop_{}", stop));
    const Outcome first = run_steps(o, stop);
    EXPECT_EQ(first.end, End::kStopped);
    EXPECT_EQ(first.steps_done, stop);
    o.resume = true;
    const Outcome second = run_steps(o);
    EXPECT_EQ(second.end, End::kFinished);
    EXPECT_EQ(second.first_loss, first.first_loss);
    expect_same_as_whole(*o.out);
  }
}

TEST_P(Resume, AfterAStopAtEveryStep) {
  Options o = options(folder_ / "hops");
  run_steps(o, 1);
  o.resume = true;
  for (int i = 1; i < 15; ++i) run_steps(o, 1);
  expect_same_as_whole(*o.out);
}

TEST_P(Resume, AfterAKillFromTheNewestCheckpoint) {
  Options o = options(folder_ / "killed");
  o.checkpoint_every = 4;
  kill_after(o, 9);
  EXPECT_EQ(read_log(*o.out / "log.jsonl").steps.size(), 10U);
  o.resume = true;
  EXPECT_EQ(Trainer(o).first_step(), 8);
  kill_after(o, 8);  // again, before the next checkpoint
  run_steps(o);
  expect_same_as_whole(*o.out);
}

TEST_P(Resume, AfterAKillBeforeTheFirstCheckpointFromTheBeginning) {
  Options o = options(folder_ / "early");
  kill_after(o, 2);
  o.resume = true;
  EXPECT_EQ(Trainer(o).first_step(), 0);
  run_steps(o);
  expect_same_as_whole(*o.out);
}

TEST_P(Resume, FromTheOneBeforeADamagedCheckpoint) {
  Options o = options(folder_ / "damaged");
  o.checkpoint_every = 3;
  kill_after(o, 10);
  std::filesystem::resize_file(*o.out / "checkpoints" / "step_00000009" / "adam_m.safetensors",
                               100);
  o.resume = true;
  EXPECT_EQ(Trainer(o).first_step(), 6);
  run_steps(o);
  expect_same_as_whole(*o.out);
}

class ResumeRules : public testing::Test {
 protected:
  ResumeRules() {
    make_data(folder_ / "data");
    run_steps(begun(), 4);
  }
  Options begun() const { return small_run(folder_ / "data", folder_ / "run"); }
  /// What `--resume` with this one option more says.
  std::string refusal(const std::function<void(Options&)>& change) {
    Options o;
    o.out = folder_ / "run";
    o.resume = true;
    change(o);
    return error_of([&] { Trainer trainer(o); });
  }
  TemporaryFolder folder_;
};

TEST_F(ResumeRules, NeedNothingButTheFolder) {
  Options o;
  o.out = folder_ / "run";
  o.resume = true;
  Trainer trainer(o);
  EXPECT_TRUE(trainer.resumed());
  EXPECT_EQ(trainer.first_step(), 4);
  EXPECT_EQ(trainer.options().learning_rate, 1e-2);
  EXPECT_TRUE(trainer.plan().lowered.empty());
}

TEST_F(ResumeRules, AcceptTheRunsOwnOptionsAgain) {
  Options o = begun();
  o.resume = true;
  EXPECT_EQ(Trainer(o).first_step(), 4);
  o.steps.reset();
  o.epochs = 15 * 32.0 / (26 * 8);  // the same 15 steps
  EXPECT_EQ(Trainer(o).plan().steps, 15);
}

TEST_F(ResumeRules, NameWhatContradictsTheRun) {
  EXPECT_EQ(refusal([](Options& o) {
              o.learning_rate = 0.5;
              o.steps = 30;
            }),
            "--resume contradicts the run in " + (folder_ / "run").string() +
                ": --steps 30 (the run has 15), --lr 0.5 (the run has 0.01); drop them or start a "
                "new run in another --out");
  EXPECT_THAT(refusal([](Options& o) { o.seed = 3; }), HasSubstr("--seed 3 (the run has 1337)"));
  EXPECT_THAT(refusal([](Options& o) { o.spike_z = 3; }),
              HasSubstr("--spike-z 3.0 (the run has 6"));
  EXPECT_THAT(refusal([](Options& o) { o.spike_guard = false; }),
              HasSubstr("--spike-guard false (the run has true)"));
  EXPECT_THAT(refusal([](Options& o) { o.tf32 = false; }),
              HasSubstr("--tf32 false (the run has true)"));
  EXPECT_THAT(refusal([](Options& o) { o.preset = "37m"; }),
              HasSubstr("--preset \"37m\" (the run has \"124m\")"));
  EXPECT_THAT(refusal([](Options& o) { o.init = "model"; }), HasSubstr("(the run has none)"));
  EXPECT_THAT(refusal([](Options& o) { o.epochs = 1; }),
              HasSubstr("--epochs 1 (that is 7 steps, the run has 15)"));
  EXPECT_THAT(refusal([](Options& o) { o.precision = base::DType::kBf16; }),
              HasSubstr("--precision \"bf16\" (the run has \"fp32\")"));
}

TEST_F(ResumeRules, LetDifferWhatDoesNotChangeTheLosses) {
  Options o;
  o.out = folder_ / "run";
  o.resume = true;
  o.validate_every = 2;
  o.checkpoint_every = 1;
  o.keep_checkpoints = 1;
  o.max_seconds = 1000;
  run_steps(o);
  EXPECT_EQ(list_checkpoints(folder_ / "run").size(), 1U);
  EXPECT_EQ(read_options(folder_ / "run" / "train.json").validate_every, 2);
}

/// The same tokens in the same order: only the order of additions differs.
TEST_F(ResumeRules, LetTheMicroBatchAndTheThreadsDiffer) {
  Options whole = begun();
  whole.out = folder_ / "whole";
  run_steps(whole);
  const std::vector<double> expected = numbers_of(folder_ / "whole");
  for (const auto& [micro_batch, threads] : {std::pair{1, 1}, std::pair{4, 2}, std::pair{2, 3}}) {
    const base::Path copy = folder_ / fmt::format("copy_{}_{}", micro_batch, threads);
    std::filesystem::copy(folder_ / "run", copy, std::filesystem::copy_options::recursive);
    Options o;
    o.out = copy;
    o.resume = true;
    o.micro_batch = micro_batch;
    o.threads = threads;
    std::vector<std::string> notes;
    Trainer trainer(o);
    Callbacks callbacks;
    callbacks.on_note = [&](const std::string& note) { notes.push_back(note); };
    trainer.run(callbacks);
    EXPECT_THAT(notes, testing::Contains(HasSubstr("losses equal up to rounding")));
    const std::vector<double> numbers = numbers_of(copy);
    ASSERT_EQ(numbers.size(), expected.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      EXPECT_NEAR(numbers[i], expected[i], 1e-5 * std::abs(expected[i])) << i;
    }
    EXPECT_EQ(read_options(copy / "train.json").threads, threads);
  }
}

TEST_F(ResumeRules, TellOtherDataFromTheSameDataElsewhere) {
  make_data(folder_ / "copy");
  make_data(folder_ / "other", {.seed = 8});
  EXPECT_THAT(refusal([&](Options& o) { o.data = folder_ / "other"; }),
              HasSubstr("--data " + (folder_ / "other").string() + " (its tokens differ"));
  Options o;
  o.out = folder_ / "run";
  o.resume = true;
  o.data = folder_ / "copy";
  EXPECT_EQ(Trainer(o).first_step(), 4);
  o.data.reset();
  std::filesystem::remove_all(folder_ / "data");
  make_data(folder_ / "data", {.seed = 8});
  EXPECT_THAT(error_of([&] { Trainer trainer(o); }), HasSubstr("the tokens are not those"));
}

TEST_F(ResumeRules, DoNothingToAFinishedRun) {
  Options o;
  o.out = folder_ / "run";
  o.resume = true;
  const Outcome finished = run_steps(o);
  const std::string log = base::read_file(folder_ / "run" / "log.jsonl");
  Trainer trainer(o);
  EXPECT_TRUE(trainer.finished());
  const Outcome again = trainer.run({});
  EXPECT_EQ(again.end, End::kFinished);
  EXPECT_EQ(again.last_loss, finished.last_loss);
  EXPECT_EQ(base::read_file(folder_ / "run" / "log.jsonl"), log);
}

TEST_F(ResumeRules, KeepASecondProcessOut) {
  Options o;
  o.out = folder_ / "run";
  o.resume = true;
  const Trainer first(o);
  EXPECT_THAT(error_of([&] { Trainer second(o); }),
              HasSubstr("is being written by another process"));
}

TEST_F(ResumeRules, BeginWhereThereIsNothingYet) {
  Options o = small_run(folder_ / "data", folder_ / "new");
  o.resume = true;
  Trainer trainer(o);
  EXPECT_FALSE(trainer.resumed());
  EXPECT_EQ(trainer.run({}).end, End::kFinished);
  o.out = folder_ / "data";
  EXPECT_THAT(error_of([&] { Trainer other(o); }), HasSubstr("holds other files"));
}

}  // namespace
}  // namespace train
