// Whole runs of milliseconds: what they leave, what they refuse.

#include <sys/mount.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <stdexcept>

#include "base/parallel.h"
#include "expect_error.h"
#include "train/checkpoint.h"
#include "train/helpers.h"

namespace train {
namespace {

using testing::HasSubstr;

class Run : public testing::Test {
 protected:
  Run() { make_data(folder_ / "data"); }
  Options options() const { return small_run(folder_ / "data", run()); }
  base::Path run() const { return folder_ / "run"; }
  std::string refusal(const Options& o) {
    return error_of([&] { Trainer trainer(o); });
  }
  TemporaryFolder folder_;
};

TEST_F(Run, LearnsAndLeavesAWholeRunDirectory) {
  Options o = options();
  o.steps = 60;
  o.checkpoint_every = 25;
  const Outcome outcome = run_steps(o);
  EXPECT_EQ(outcome.end, End::kFinished);
  EXPECT_EQ(outcome.steps_done, 60);
  EXPECT_NEAR(*outcome.first_loss, std::log(50.0), 0.1);
  EXPECT_LT(*outcome.last_loss, *outcome.first_loss - 0.5);
  EXPECT_TRUE(outcome.last_validation_loss);
  EXPECT_EQ(outcome.checkpoint, run() / "checkpoints" / "step_00000060");
  EXPECT_EQ(list_checkpoints(run()).size(), 3U);  // 25, 50, 60
  for (const char* name :
       {"train.json", "log.jsonl", "loss.svg", "model/config.json", "model/model.safetensors"}) {
    EXPECT_TRUE(std::filesystem::exists(run() / name)) << name;
  }
  const LogContent log = read_log(run() / "log.jsonl");
  ASSERT_EQ(log.steps.size(), 60U);
  EXPECT_TRUE(log.finished);
  EXPECT_EQ(log.steps[59].tokens, 60 * 32);
  for (const StepReport& step : log.steps) {
    EXPECT_EQ(step.validation_loss.has_value(), (step.step + 1) % 5 == 0);
  }
}

TEST_F(Run, LogsTheRateOfEachStep) {
  Options o = options();
  o.warmup_steps = 3;
  run_steps(o);
  for (const StepReport& step : read_log(run() / "log.jsonl").steps) {
    EXPECT_EQ(step.learning_rate,
              learning_rate_at(Schedule::kCosine, step.step, 15, 3, 1e-2, 1e-2 / 10));
  }
}

/// The same batch cut into micro-batches in another way gives the same losses up to rounding.
TEST_F(Run, AveragesOverAllMicroBatches) {
  Options whole = options(), cut = options();
  whole.micro_batch = 4;
  cut.micro_batch = 1;
  cut.out = folder_ / "cut";
  whole.device = cut.device = kernels::Device::kReference;
  run_steps(whole);
  run_steps(cut);
  const auto a = read_log(run() / "log.jsonl").steps;
  const auto b = read_log(folder_ / "cut" / "log.jsonl").steps;
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i].loss, b[i].loss, 1e-5);
    EXPECT_NEAR(a[i].grad_norm, b[i].grad_norm, 1e-4);
  }
}

TEST_F(Run, IsTheSameTwice) {
  Options o = options();
  run_steps(o);
  o.out = folder_ / "again";
  run_steps(o);
  EXPECT_EQ(numbers_of(run()), numbers_of(folder_ / "again"));
  o.out = folder_ / "other";
  o.seed = 2;
  run_steps(o);
  EXPECT_NE(numbers_of(run()), numbers_of(folder_ / "other"));
}

TEST_F(Run, WritesItsEffectiveOptionsAsAConfigFile) {
  Options o = options();
  run_steps(o);
  Options again = read_options(run() / "train.json");
  EXPECT_EQ(again.threads, 2);
  EXPECT_EQ(again.preset, "124m");
  EXPECT_EQ(again.vocab_size, 50);
  EXPECT_EQ(again.warmup_steps, 0);
  EXPECT_FALSE(again.max_seconds);
  again.out = folder_ / "again";
  run_steps(again);
  EXPECT_EQ(numbers_of(run()), numbers_of(folder_ / "again"));
}

TEST_F(Run, SaysWhereADeviceThatFailsLeavesIt) {
  Options o = options();
  o.checkpoint_every = 4;
  const auto fail_at = [&](std::int64_t step) {
    Trainer trainer(o);
    Callbacks callbacks;
    callbacks.on_step = [&](const StepReport& report) {
      if (report.step == step) throw std::runtime_error("kernel: cudaErrorECCUncorrectable");
    };
    trainer.run(callbacks);
  };
  EXPECT_EQ(error_of([&] { fail_at(2); }),
            "step 3: kernel: cudaErrorECCUncorrectable; there was no checkpoint yet");
  o.out = folder_ / "later";
  EXPECT_EQ(error_of([&] { fail_at(6); }), "step 7: kernel: cudaErrorECCUncorrectable; " +
                                               (*o.out / "checkpoints/step_00000004").string() +
                                               " is whole, --resume goes on from there");
  o.resume = true;
  run_steps(o);
  o = options();
  o.out = folder_ / "whole";
  run_steps(o);
  EXPECT_EQ(numbers_of(folder_ / "later"), numbers_of(folder_ / "whole"));
}

TEST_F(Run, StopsWhenTheTimeIsUp) {
  Options o = options();
  o.steps = 1'000'000;
  o.max_seconds = 0.05;
  o.validate_every = 0;
  const Outcome outcome = run_steps(o);
  EXPECT_EQ(outcome.end, End::kTimeUp);
  EXPECT_LT(outcome.steps_done, 1'000'000);
  ASSERT_TRUE(outcome.checkpoint);
  EXPECT_EQ(check_checkpoint(*outcome.checkpoint).step, outcome.steps_done);
}

TEST_F(Run, WritesSamples) {
  Options o = options();
  o.sample_every = 10;
  Trainer trainer(o);
  Callbacks callbacks;
  callbacks.sample = [](model::Gpt2&, std::int64_t step) { return fmt::format("at {}", step); };
  trainer.run(callbacks);
  EXPECT_EQ(base::read_file(run() / "samples" / "step_00000010.txt"), "at 10");
  EXPECT_EQ(base::read_file(run() / "samples" / "step_00000015.txt"), "at 15");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(run() / "samples"), {}), 2);
}

TEST_F(Run, EvaluatesTasksAndDoesNotDisturbTraining) {
  Options o = options();
  run_steps(o);
  const auto run_with_tasks = [&](const Options& given, std::int64_t stop_at) {
    Trainer trainer(given);
    Callbacks callbacks;
    std::int64_t done = 0;
    callbacks.on_step = [&](const StepReport& report) { done = report.step + 1; };
    callbacks.stop_requested = [&] { return done == stop_at; };
    callbacks.evaluate = [](model::Gpt2& model, std::int64_t step) {
      const std::vector<std::int32_t> ids = {1, 2, 3};
      std::vector<float> losses(3);
      model::KvCache cache(model.config(), model.backend().compute_type());
      const std::vector<model::KvCache*> caches = {&cache};
      const double loss =
          model.evaluate_cached(caches, std::vector<std::int64_t>{3}, ids, ids, losses);
      return Evaluations{{"task", {{"at", static_cast<double>(step)}, {"loss", loss}}}};
    };
    trainer.run(callbacks);
  };
  o.out = folder_ / "evaluated";
  o.eval_tasks = {"task=file"};
  o.evaluate_every = 6;
  run_with_tasks(o, 8);
  Options again;
  again.out = o.out;
  again.resume = true;
  again.evaluate_every = 4;  // may change
  run_with_tasks(again, 0);
  EXPECT_EQ(numbers_of(run()), numbers_of(*o.out));
  std::vector<double> at;
  for (const StepReport& report : read_log(*o.out / "log.jsonl").steps) {
    if (report.evaluations.empty()) continue;
    at.push_back(report.evaluations.at("task").at("at"));
    EXPECT_EQ(at.back(), static_cast<double>(report.step + 1));
  }
  EXPECT_EQ(at, (std::vector<double>{6, 12, 15}));
  EXPECT_EQ(read_options(*o.out / "train.json").eval_tasks, o.eval_tasks);
}

TEST_F(Run, SamplingDoesNotDisturbTraining) {
  Options o = options();
  run_steps(o);
  o.out = folder_ / "sampled";
  o.sample_every = 1;
  Trainer trainer(o);
  Callbacks callbacks;
  callbacks.sample = [](model::Gpt2& model, std::int64_t) {
    std::vector<float> logits(50);
    model::KvCache cache(model.config(), model.backend().compute_type());
    model.decode(cache, std::vector<std::int32_t>{1, 2, 3}, logits);
    return std::string();
  };
  trainer.run(callbacks);
  EXPECT_EQ(numbers_of(run()), numbers_of(folder_ / "sampled"));
}

TEST_F(Run, StartsFromAModelAndKeepsItsContext) {
  Options o = options();
  o.steps = 60;
  run_steps(o);
  Options next;
  next.data = folder_ / "data";
  next.out = folder_ / "next";
  next.init = run() / "model";
  next.context = 4;
  next.steps = 2;
  next.micro_batch = 8;
  next.batch_tokens = 128;
  next.precision = base::DType::kF32;
  const Outcome outcome = run_steps(next);
  EXPECT_LT(*outcome.first_loss, std::log(50.0) - 0.2);  // it had learnt already
  EXPECT_EQ(model::read_config(folder_ / "next" / "model").context, 4);
  next.resume = true;
  std::filesystem::remove_all(run());  // the checkpoint has all that is needed
  EXPECT_TRUE(Trainer(next).finished());
}

TEST_F(Run, StopsBeforeAStepWithoutAFiniteLoss) {
  Options o = options();
  run_steps(o);
  {  // a model with one broken weight
    auto model = model::load_model(
        run() / "model", kernels::make_backend(kernels::Device::kReference, base::DType::kF32),
        false);
    model.parameters().lnf_bias.f32()[0] = std::numeric_limits<float>::quiet_NaN();
    base::create_folders(folder_ / "broken");
    model::save_model(folder_ / "broken", model.parameters());
  }
  Options broken;
  broken.data = folder_ / "data";
  broken.out = folder_ / "nan";
  broken.init = folder_ / "broken";
  broken.micro_batch = 2;
  broken.batch_tokens = 32;
  broken.steps = 5;
  broken.precision = base::DType::kF32;
  broken.order = data::Order::kSequential;
  EXPECT_EQ(error_of([&] { run_steps(broken); }),
            "step 0: the loss is nan (micro-batch 1 of 2, epoch 0, window 0 of 26); training "
            "stopped; try a lower --lr than 0.0006 or more --warmup-steps than 0, and look at the "
            "text of that batch");
  const LogContent log = read_log(folder_ / "nan" / "log.jsonl");
  EXPECT_TRUE(log.steps.empty());
  EXPECT_FALSE(log.finished);
  EXPECT_TRUE(list_checkpoints(folder_ / "nan").empty());
  EXPECT_FALSE(std::filesystem::exists(folder_ / "nan" / "model"));
}

TEST_F(Run, StopsWhenTheRateMakesItExplode) {
  Options o = options();
  o.steps = 200;
  o.learning_rate = 1e30;
  o.weight_decay = 1e10;
  o.warmup_steps = 0;
  EXPECT_THAT(error_of([&] { run_steps(o); }), HasSubstr("try a lower --lr than 1e+30"));
}

TEST_F(Run, DoesWithoutValidation) {
  make_data(folder_ / "none", {.validation_tokens = 0});
  Options o = options();
  o.data = folder_ / "none";
  const Outcome outcome = run_steps(o);
  EXPECT_EQ(outcome.end, End::kFinished);
  EXPECT_FALSE(outcome.last_validation_loss);
}

TEST_F(Run, CopiesTheTokenizersFilesOfTheData) {
  base::write_file(folder_ / "data" / "vocab.json", "{\"a\": 0}");
  base::write_file(folder_ / "data" / "merges.txt", "#version: 0.2\n");
  run_steps(options());
  EXPECT_EQ(base::read_file(run() / "model" / "vocab.json"), "{\"a\": 0}");
}

// ---- refusals ---------------------------------------------------------------------------------

TEST_F(Run, RefusesAFolderWithAnotherRunOrOtherFilesAndLeavesItAlone) {
  Options o = options();
  run_steps(o);
  const std::string before = base::read_file(run() / "log.jsonl");
  EXPECT_THAT(refusal(o), HasSubstr("already holds a run; continue it with --resume"));
  EXPECT_EQ(base::read_file(run() / "log.jsonl"), before);
  o.out = folder_ / "data";
  EXPECT_THAT(refusal(o), HasSubstr("holds other files"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "data" / "train.json"));
}

TEST_F(Run, WritesNothingWhenItRefuses) {
  Options o = options();
  o.batch_tokens = 33;
  EXPECT_THAT(refusal(o), HasSubstr("nearest valid values"));
  o = options();
  o.data = folder_ / "missing";
  refusal(o);
  o = options();
  o.micro_batch = std::int64_t{1} << 26;
  o.batch_tokens = std::int64_t{1} << 29;
  EXPECT_THAT(refusal(o), HasSubstr("lower --micro-batch from 67108864 to "));
  EXPECT_FALSE(std::filesystem::exists(run()));
}

TEST_F(Run, SaysWhatIsMissing) {
  Options o = options();
  o.data.reset();
  EXPECT_EQ(refusal(o), "train: no data given; add --data DIR (made by 'gpt2 prepare')");
  o = options();
  o.out.reset();
  EXPECT_EQ(refusal(o), "train: no run directory given; add --out DIR");
}

TEST_F(Run, NamesAnIdOutsideTheVocabulary) {
  std::filesystem::remove(folder_ / "data" / "manifest.json");
  Options o = options();
  o.vocab_size = 10;
  EXPECT_THAT(error_of([&] { run_steps(o); }), HasSubstr(".bin"));
}

/// A file system of `kilobytes`, or nothing where this user may not mount.
class SmallDisk {
 public:
  SmallDisk(const base::Path& path, int kilobytes) : path_(path) {
    base::create_folders(path);
    mounted_ =
        ::mount("none", path.c_str(), "tmpfs", 0, fmt::format("size={}k", kilobytes).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  void make_read_only() {
    ::mount("none", path_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr);
  }

 private:
  base::Path path_;
  bool mounted_ = false;
};

TEST_F(Run, LeavesNothingHalfWrittenOnAFullDisk) {
  SmallDisk disk(folder_ / "disk", 200);
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small file system needs root";
  Options o = options();
  o.out = folder_ / "disk" / "run";
  o.steps = 500;
  o.checkpoint_every = 1;
  o.keep_checkpoints = 0;
  EXPECT_THAT(error_of([&] { run_steps(o); }), HasSubstr("No space left on device"));
  EXPECT_EQ(std::filesystem::exists(*o.out / "checkpoints" / "latest"), true);
  const auto checkpoints = list_checkpoints(*o.out);
  ASSERT_FALSE(checkpoints.empty());
  for (const Checkpoint& checkpoint : checkpoints) {
    EXPECT_NO_THROW(check_checkpoint(checkpoint.folder));
  }
  const std::string log = base::read_file(*o.out / "log.jsonl");
  EXPECT_EQ(log.back(), '\n');
  for (const auto& entry : std::filesystem::directory_iterator(*o.out / "checkpoints")) {
    EXPECT_EQ(entry.path().filename().string().find(".tmp."), std::string::npos) << entry.path();
  }
  EXPECT_NO_THROW(model::read_config(*o.out / "model"));
}

TEST_F(Run, GoesOnWhenTheDiskIsFullForAWhile) {
  SmallDisk disk(folder_ / "disk", 400);
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small file system needs root";
  Options o = options();
  o.out = folder_ / "disk" / "run";
  o.steps = 60;
  o.checkpoint_every = 5;
  o.keep_checkpoints = 2;
  const base::Path filler = folder_ / "disk" / "filler";
  Trainer trainer(o);
  Callbacks callbacks;
  std::vector<std::string> notes;
  callbacks.on_note = [&](const std::string& note) { notes.push_back(note); };
  callbacks.on_step = [&](const StepReport& report) {
    if (report.step == 20) {
      std::ofstream full(filler);
      while (full << std::string(4096, 'x') << std::flush) {
      }
    }
    if (report.step == 40) std::filesystem::remove(filler);
  };
  EXPECT_EQ(trainer.run(callbacks).end, End::kFinished);
  EXPECT_THAT(notes, testing::Contains(HasSubstr("No space left on device")));
  const LogContent log = read_log(*o.out / "log.jsonl");
  EXPECT_EQ(log.steps.size(), 60U);
  EXPECT_TRUE(log.finished);
  EXPECT_EQ(check_checkpoint(list_checkpoints(*o.out).back().folder).step, 60);
  EXPECT_EQ(list_checkpoints(*o.out).size(), 2U);
}

TEST_F(Run, WarnsWhereTheCheckpointsWillNotFit) {
  SmallDisk disk(folder_ / "disk", 200);
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small file system needs root";
  Options o = options();
  o.out = folder_ / "disk" / "run";
  o.checkpoint_every = 1;
  o.keep_checkpoints = 0;
  Trainer trainer(o);
  Callbacks callbacks;
  std::vector<std::string> notes;
  callbacks.on_note = [&](const std::string& note) { notes.push_back(note); };
  callbacks.stop_requested = [] { return true; };
  trainer.run(callbacks);
  EXPECT_THAT(notes, testing::Contains(HasSubstr("are free in")));
}

/// Whatever shard is damaged, wherever: no step is trained on it.
TEST_F(Run, TrainsOnNoDamagedShard) {
  for (const char* name : {"train_000000.bin", "train_000001.bin", "train_000002.bin"}) {
    const base::Path data = folder_ / fmt::format("data_{}", name);
    make_data(data);
    std::string content = base::read_file(data / name);
    content[1024 + 6] = static_cast<char>(content[1024 + 6] ^ 1);  // the fourth token
    std::ofstream(data / name, std::ios::binary) << content;
    Options o = small_run(data, folder_ / fmt::format("run_{}", name));
    o.order = data::Order::kSequential;
    std::int64_t steps = 0;
    Trainer trainer(o);
    Callbacks callbacks;
    callbacks.on_step = [&](const StepReport&) { ++steps; };
    EXPECT_THAT(error_of([&] { trainer.run(callbacks); }),
                HasSubstr(std::string(name) + " is damaged"));
    EXPECT_LE(steps, 3 * (name[11] - '0')) << name;
    // Cut short, it is not even opened.
    std::filesystem::resize_file(data / name, 1100);
    o.out = folder_ / fmt::format("cut_{}", name);
    EXPECT_THAT(refusal(o), HasSubstr(name));
  }
}

TEST_F(Run, KeepsTheBestAndEveryFew) {
  Options o = options();
  o.steps = 12;
  o.validate_every = 2;
  o.checkpoint_every = 3;
  o.keep_checkpoints = 1;
  o.keep_every = 6;
  run_steps(o);
  std::vector<std::int64_t> steps;
  for (const Checkpoint& checkpoint : list_checkpoints(*o.out)) steps.push_back(checkpoint.step);
  EXPECT_EQ(steps, (std::vector<std::int64_t>{6, 12}));
  std::int64_t best = 0;
  double lowest = HUGE_VAL;
  for (const StepReport& step : read_log(*o.out / "log.jsonl").steps) {
    if (!step.validation_loss || *step.validation_loss >= lowest) continue;
    lowest = *step.validation_loss;
    best = step.step + 1;
  }
  const CheckpointState state = check_checkpoint(*o.out / "checkpoints" / kBestCheckpoint);
  EXPECT_EQ(state.step, best);
  EXPECT_EQ(state.best, (BestLoss{best, lowest}));
}

TEST_F(Run, KeepsTheWeightsOfTheStepAlsoWhereACopyTakesLongerThanAStep) {
  Options o = options();
  o.channels = 512;  // three million parameters, and four tokens a step
  o.context = 2;
  o.micro_batch = 2;
  o.batch_tokens = 4;
  o.steps = 4;
  o.validate_every = 0;
  o.checkpoint_every = 1;
  o.ema = 0.5;
  o.keep_checkpoints = 0;
  run_steps(o);
  for (std::int64_t step = 1; step <= 3; ++step) {
    Options shorter = o;
    shorter.out = base::Path(run().string() + "_" + std::to_string(step));
    run_steps(shorter, step);
    for (const char* set : {"parameters", "adam_m", "adam_v", "average"}) {
      const auto file = [&](const base::Path& out) {
        return base::read_file(out / "checkpoints" / checkpoint_name(step) /
                               (std::string(set) + ".safetensors"));
      };
      EXPECT_TRUE(file(run()) == file(*shorter.out)) << set << " after step " << step;
    }
  }
}

TEST_F(Run, SaysThatTheFolderIsReadOnly) {
  SmallDisk disk(folder_ / "disk", 200);
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small file system needs root";
  disk.make_read_only();
  Options o = options();
  o.out = folder_ / "disk" / "run";
  EXPECT_THAT(error_of([&] { run_steps(o); }), HasSubstr("Read-only file system"));
}

}  // namespace
}  // namespace train
