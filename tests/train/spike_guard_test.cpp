// The spike guard: what it takes for a spike, and that a run that meets one recovers.

#include "train/spike_guard.h"

#include <chrono>
#include <numeric>
#include <thread>

#include "expect_error.h"
#include "train/checkpoint.h"
#include "train/helpers.h"

namespace train {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kWindow = 100;

SpikeGuard full_guard() {
  SpikeGuard guard(kWindow, 6);
  for (int i = 0; i < kWindow; ++i) {
    EXPECT_FALSE(guard.is_spike(3 + 0.1 * (i % 2), i == 7 ? 50 : 1 + 0.5 * (i % 3)));
  }
  return guard;
}

TEST(SpikeGuard, TakesNothingForASpikeBeforeItsWindowIsFull) {
  SpikeGuard guard(kWindow, 6);
  for (int i = 0; i < kWindow - 1; ++i) EXPECT_FALSE(guard.is_spike(2, 1));
  EXPECT_FALSE(guard.is_spike(1000, 1));
}

TEST(SpikeGuard, JudgesByTheDeviationsOfItsWindow) {
  SpikeGuard guard = full_guard();  // losses 3.05 +- 0.05, norms 1.99 +- 4.84
  EXPECT_FALSE(guard.is_spike(3.34, 2));
  EXPECT_TRUE(guard.is_spike(3.5, 2));
  EXPECT_TRUE(guard.is_spike(3.05, 40));
  EXPECT_EQ(guard.history().in_a_row, 2);
  EXPECT_FALSE(guard.is_spike(1, 0)) << "what falls is no spike";
  EXPECT_EQ(guard.history().in_a_row, 0);
  EXPECT_EQ(guard.history().losses.size(), 100U);
}

TEST(SpikeGuard, TakesNoNoiseOfALossLearntByHeartForASpike) {
  SpikeGuard guard(kWindow, 6);
  for (int i = 0; i < kWindow; ++i) EXPECT_FALSE(guard.is_spike(1, 1));
  EXPECT_FALSE(guard.is_spike(1.05, 1.05));
  EXPECT_TRUE(guard.is_spike(1.2, 1));
}

TEST(SpikeGuard, GoesOnFromItsHistory) {
  SpikeGuard first = full_guard();
  SpikeGuard second(kWindow, 6);
  second.restore(first.history());
  EXPECT_EQ(first.is_spike(3.3, 2), second.is_spike(3.3, 2));
  EXPECT_EQ(first.history(), second.history());
}

/// Data whose tokens [from, to) of the training split are random ids.
void poison(const base::Path& folder, std::int64_t from, std::int64_t to) {
  DataShape shape;
  shape.train_tokens = 200 * 32 + 1;
  shape.shards = 1;
  make_data(folder, shape);
  auto tokens = made_up_tokens(shape.train_tokens, 50, shape.seed);
  for (std::int64_t i = from; i < to; ++i) {
    tokens[static_cast<std::size_t>(i)] =
        static_cast<data::TokenId>(base::random_below(50, 3, 4, static_cast<std::uint64_t>(i)));
  }
  data::Manifest manifest = data::read_manifest(folder);
  data::ShardWriter writer(folder / manifest.train[0].file);
  writer.append(tokens);
  manifest.train[0].crc32c = writer.commit();
  data::write_manifest(folder, manifest);
}

class Spikes : public testing::Test {
 protected:
  Options options(const std::string& out) const {
    Options o = small_run(folder_ / "data", folder_ / out);
    o.order = data::Order::kSequential;
    o.steps = 200;
    o.spike_window = 100;
    o.spike_z = 4;
    o.checkpoint_every = 20;
    o.validate_every = 0;
    return o;
  }
  std::vector<Json> events(const std::string& out, const std::string& name) {
    std::vector<Json> found;
    for (const std::string& line : read_log(folder_ / out / "log.jsonl").lines) {
      const Json json = Json::parse(line);
      if (json.value("event", "") == name) found.push_back(json);
    }
    return found;
  }
  TemporaryFolder folder_;
};

TEST_F(Spikes, AreSkipped) {
  poison(folder_ / "data", 150 * 32, 153 * 32);
  run_steps(options("run"));
  std::vector<std::int64_t> skipped;
  for (const StepReport& step : read_log(folder_ / "run" / "log.jsonl").steps) {
    if (step.skipped) skipped.push_back(step.step);
  }
  EXPECT_EQ(skipped, (std::vector<std::int64_t>{150, 151, 152}));
  EXPECT_EQ(events("run", "spike").size(), 3U);
  EXPECT_TRUE(events("run", "rollback").empty());
}

/// Fifteen batches of noise shortly before the end.
TEST_F(Spikes, LeaveAGuardedRunBetterThanAnUnguardedOne) {
  poison(folder_ / "data", 180 * 32, 195 * 32);
  Options o = options("guarded");
  o.schedule = Schedule::kConstant;
  o.validate_every = 200;
  const Outcome guarded = run_steps(o);
  o.out = folder_ / "unguarded";
  o.spike_guard = false;
  const Outcome unguarded = run_steps(o);
  EXPECT_EQ(events("guarded", "rollback").size(), 3U);
  EXPECT_LT(*guarded.last_validation_loss + 0.2, *unguarded.last_validation_loss);
}

TEST_F(Spikes, InARowLeadBackToTheCheckpointAndPastTheirData) {
  poison(folder_ / "data", 150 * 32, 157 * 32);
  Options o = options("run");
  run_steps(o);
  const std::vector<Json> back = events("run", "rollback");
  ASSERT_EQ(back.size(), 1U);
  EXPECT_EQ(back[0].at("step"), 140);
  EXPECT_EQ(back[0].at("from_step"), 154);
  EXPECT_EQ(back[0].at("skipped_from").dump(), R"([{"epoch":0,"window":560}])");
  EXPECT_EQ(back[0].at("skipped_to").dump(), R"([{"epoch":0,"window":620}])");
  EXPECT_EQ(read_log(folder_ / "run" / "log.jsonl").steps.size(), 200U) << "each step once";
}

TEST_F(Spikes, SayWhyAnOlderCheckpointIsTaken) {
  poison(folder_ / "data", 150 * 32, 157 * 32);
  Trainer trainer(options("run"));
  Callbacks callbacks;
  std::vector<std::string> notes;
  callbacks.on_note = [&](const std::string& note) { notes.push_back(note); };
  callbacks.on_step = [&](const StepReport& report) {
    if (report.step != 152) return;
    const base::Path folder = folder_ / "run" / "checkpoints" / "step_00000140";
    while (!std::filesystem::exists(folder)) {  // it is written in the background
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::filesystem::resize_file(folder / "adam_m.safetensors", 100);
  };
  trainer.run(callbacks);
  EXPECT_THAT(notes, testing::Contains(HasSubstr("skipped a checkpoint: ")));
  EXPECT_EQ(events("run", "rollback").at(0).at("step"), 120);
}

TEST_F(Spikes, ResumeIsExactWithAFullWindowAndAWayBack) {
  poison(folder_ / "data", 150 * 32, 157 * 32);
  run_steps(options("whole"));
  for (const std::int64_t steps : {130, 152, 156}) {
    Options o = options(fmt::format("stopped_{}", steps));
    run_steps(o, steps);
    o.resume = true;
    run_steps(o);
    if (steps == 130) {
      EXPECT_EQ(numbers_of(*o.out), numbers_of(folder_ / "whole"));
    } else {  // the stop's own checkpoint is the one that the way back leads to
      EXPECT_EQ(read_log(*o.out / "log.jsonl").steps.size(), 200U);
    }
  }
}

TEST_F(Spikes, WithoutACheckpointBecomeTheNewNormal) {
  poison(folder_ / "data", 150 * 32, 200 * 32);
  Options o = options("run");
  o.checkpoint_every = 0;
  run_steps(o);
  EXPECT_EQ(events("run", "spike").size(), 5U);
  EXPECT_EQ(events("run", "spikes_accepted").size(), 1U);
}

TEST_F(Spikes, OfDataThatStaysBadAreAcceptedAfterAFewWaysBack) {
  poison(folder_ / "data", 150 * 32, 200 * 32);
  run_steps(options("run"));
  EXPECT_EQ(events("run", "rollback").size(), 3U);
  EXPECT_EQ(events("run", "spikes_accepted").size(), 1U);
  EXPECT_EQ(read_log(folder_ / "run" / "log.jsonl").steps.size(), 200U);
}

}  // namespace
}  // namespace train
