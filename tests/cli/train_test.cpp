// gpt2 train as a program: from text to a model, signals and resuming, exit codes, messages.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "base/rng.h"
#include "cli/model_testing.h"
#include "cli/train_words.h"
#include "train/checkpoint.h"
#include "train/helpers.h"

namespace {

using model_testing::expect_failure;
using model_testing::Ran;
using model_testing::run;
using testing::HasSubstr;

/// Sentences of a few words that follow one another by simple habits.
std::string made_up_text(std::uint64_t sentences) {
  const std::vector<std::vector<std::string>> parts = {
      {"The old miller", "A grey heron", "My sister", "The lighthouse keeper", "Nobody"},
      {"watched", "followed", "forgot", "carried", "painted"},
      {"the river", "three letters", "a broken clock", "the evening train", "seven stones"},
      {"slowly.", "before breakfast.", "in the rain!", "without a word.", "until dusk?"}};
  std::string text;
  for (std::uint64_t i = 0; i < sentences; ++i) {
    for (std::uint64_t part = 0; part < parts.size(); ++part) {
      text += parts[part][base::random_below(5, 1, part, i)];
      text += part + 1 == parts.size() ? (i % 6 == 5 ? "\n\n" : " ") : " ";
    }
  }
  return text;
}

/// `gpt2 train` running beside the test.
class Process {
 public:
  Process(const std::vector<std::string>& arguments, const base::Path& err) : err_(err) {
    std::vector<std::string> words = {GPT2_BINARY, "train"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      const int file = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
      ::dup2(file, STDERR_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
  }
  void signal(int number) const { ::kill(pid_, number); }
  /// The status of waitpid.
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }
  std::string err() const { return base::read_file(err_); }

 private:
  pid_t pid_ = -1;
  base::Path err_;
};

class TrainCommand : public testing::Test {
 protected:
  TrainCommand() { train::make_data(folder_ / "data"); }

  /// A run of `steps` steps that takes a moment.
  std::vector<std::string> arguments(const std::string& out, int steps) const {
    return train_words(folder_ / "data", folder_ / out, steps, /*val_every=*/0);
  }
  static std::vector<std::string> with(std::vector<std::string> words,
                                       const std::vector<std::string>& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static Ran train_command(std::vector<std::string> words) {
    words.insert(words.begin(), "train");
    return run(words);
  }
  std::int64_t lines(const std::string& out) const {
    const base::Path log = folder_ / out / "log.jsonl";
    if (!std::filesystem::exists(log)) return 0;
    const std::string text = base::read_file(log);
    return std::count(text.begin(), text.end(), '\n');
  }
  void wait_for_lines(const std::string& out, std::int64_t count) const {
    for (int i = 0; i < 6000 && lines(out) < count; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ASSERT_GE(lines(out), count) << "the run did not get so far in 30 s";
  }
  void expect_same_runs(const std::string& a, const std::string& b) const {
    EXPECT_EQ(train::numbers_of(folder_ / a), train::numbers_of(folder_ / b));
    EXPECT_EQ(base::read_file(folder_ / a / "model" / "model.safetensors"),
              base::read_file(folder_ / b / "model" / "model.safetensors"));
  }
  TemporaryFolder folder_;
};

TEST_F(TrainCommand, GoesFromTextToAModelThatWrites) {
  base::write_file(folder_ / "book.txt", made_up_text(4000));
  ASSERT_EQ(
      run({"prepare", folder_ / "book.txt", "--out", folder_ / "tokens", "--val-fraction", "0.3"})
          .code,
      0);
  const Ran ran = train_command({"--data", folder_ / "tokens", "--out", folder_ / "run", "--preset",
                                 "tiny", "--steps", "8", "--lr", "3e-3", "--batch-tokens", "256"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "");
  for (const char* part :
       {"parameters: 2 layers, 2 heads, 32 channels, context 64, vocabulary 50257", "needed, ",
        "--micro-batch lowered from 16 to 4", "--warmup-steps lowered from 700 to 0", "step 8/8",
        "finished 8 steps", "loss.svg", "log.jsonl", "gpt2 generate --model "}) {
    EXPECT_THAT(ran.err, HasSubstr(part));
  }
  const auto steps = train::read_log(folder_ / "run" / "log.jsonl").steps;
  ASSERT_EQ(steps.size(), 8U);
  EXPECT_NEAR(steps.front().loss, std::log(50257.0), 0.2);
  EXPECT_LT(steps.back().loss, steps.front().loss - 0.5);
  EXPECT_TRUE(steps.back().validation_loss);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run" / "samples" / "step_00000008.txt"));
  EXPECT_EQ(base::read_file(folder_ / "run" / "model" / "merges.txt"),
            base::read_file(folder_ / "tokens" / "merges.txt"));
  const Ran written = run({"generate", "--model", folder_ / "run", "--prompt", "The old",
                           "--max-tokens", "5", "--temperature", "0"});
  EXPECT_EQ(written.code, 0) << written.err;
  EXPECT_TRUE(written.out.starts_with("The old")) << written.out;
}

TEST_F(TrainCommand, WorksFromIdsAlone) {
  auto words = arguments("run", 4);
  *(std::find(words.begin(), words.end(), "--sample-every") + 1) = "2";
  ASSERT_EQ(train_command(words).code, 0);
  const std::string sample = base::read_file(folder_ / "run" / "samples" / "step_00000002.txt");
  EXPECT_EQ(sample.find_first_not_of("0123456789 \n"), std::string::npos) << sample;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run" / "model" / "vocab.json"));
}

TEST_F(TrainCommand, FinishesTheStepOnSigintAndSigtermAndResumes) {
  constexpr int kSteps = 3000;
  ASSERT_EQ(train_command(arguments("whole", kSteps)).code, 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string out = fmt::format("signal_{}", signal);
    Process process(arguments(out, kSteps), folder_ / "err");
    wait_for_lines(out, 20);
    process.signal(signal);
    const int status = process.wait();
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 128 + signal);
    EXPECT_THAT(process.err(),
                HasSubstr("resume:  gpt2 train --out " + (folder_ / out).string() + " --resume"));
    const auto checkpoints = train::list_checkpoints(folder_ / out);
    ASSERT_FALSE(checkpoints.empty());
    const auto steps = train::read_log(folder_ / out / "log.jsonl").steps;
    EXPECT_EQ(checkpoints.back().step, static_cast<std::int64_t>(steps.size()));
    const Ran resumed = train_command({"--out", folder_ / out, "--resume"});
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_THAT(resumed.err, HasSubstr("resumed at step "));
    expect_same_runs("whole", out);
  }
}

TEST_F(TrainCommand, ASecondSignalKillsAtOnce) {
  train::make_data(folder_ / "long", {.train_tokens = 40'000});
  Process process({"--data", folder_ / "long", "--out", folder_ / "run", "--layers", "12",
                   "--heads", "4", "--channels", "256", "--context", "1024", "--micro-batch", "8",
                   "--batch-tokens", "1048576", "--steps", "2"},  // minutes a step
                  folder_ / "err");
  wait_for_lines("run", 1);
  process.signal(SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  process.signal(SIGINT);
  const int status = process.wait();
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGINT);
  EXPECT_TRUE(train::list_checkpoints(folder_ / "run").empty());
}

TEST_F(TrainCommand, StopsAfterMaxTime) {
  const Ran ran = train_command(with(arguments("run", 100'000'000), {"--max-time", "1s"}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("with a checkpoint in "));
  EXPECT_THAT(ran.err, HasSubstr("resume:  gpt2 train --out "));
  EXPECT_EQ(train::list_checkpoints(folder_ / "run").back().step,
            static_cast<std::int64_t>(train::read_log(folder_ / "run" / "log.jsonl").steps.size()));
}

TEST_F(TrainCommand, GoesOnAfterAKill) {
  constexpr int kSteps = 2000;
  ASSERT_EQ(train_command(arguments("whole", kSteps)).code, 0);
  Process process(with(arguments("run", kSteps), {"--checkpoint-every", "100"}), folder_ / "err");
  wait_for_lines("run", 250);
  process.signal(SIGKILL);
  process.wait();
  const Ran resumed = train_command(with(arguments("run", kSteps), {"--resume"}));
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  expect_same_runs("whole", "run");
}

TEST_F(TrainCommand, TakesOptionsFromAConfigFileBelowTheFlags) {
  ASSERT_EQ(train_command(arguments("run", 5)).code, 0);
  const base::Path config = folder_ / "run" / "train.json";
  EXPECT_EQ(train_command({"--config", config, "--out", folder_ / "again"}).code, 0);
  expect_same_runs("run", "again");
  const base::Path shorter = folder_ / "short";
  EXPECT_EQ(
      train_command({"--config", config, "--out", shorter, "--steps", "3", "--tf32", "off"}).code,
      0);
  EXPECT_EQ(train::read_log(shorter / "log.jsonl").steps.size(), 3U);
  EXPECT_EQ(train::read_options(config).tf32, true);
  EXPECT_EQ(train::read_options(shorter / "train.json").tf32, false);
  expect_failure(train_command({"--config", config}), 1, "already holds a run");
  base::write_file(folder_ / "typo.json", R"({"learning-rate": 1})");
  expect_failure(train_command(with(arguments("typo", 5), {"--config", folder_ / "typo.json"})), 1,
                 "typo.json: unknown key 'learning-rate'");
}

TEST_F(TrainCommand, RefusesWhatContradictsTheRunItResumes) {
  ASSERT_EQ(train_command(arguments("run", 5)).code, 0);
  expect_failure(
      train_command({"--out", folder_ / "run", "--resume", "--lr", "0.5", "--steps", "9"}), 1,
      "--steps 9 (the run has 5), --lr 0.5 (the run has 0.01)");
  const Ran again = train_command(with(arguments("run", 5), {"--resume"}));
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.err, HasSubstr("is finished: all of its 5 steps are done"));
}

TEST_F(TrainCommand, LeavesOtherFoldersAlone) {
  base::create_folders(folder_ / "full");
  base::write_file(folder_ / "full" / "notes.txt", "mine");
  expect_failure(train_command(arguments("full", 5)), 1, "holds other files (notes.txt)");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_ / "full"), {}), 1);
}

TEST_F(TrainCommand, TellsWrongUsageFromWrongValues) {
  const auto usage = [&](const std::vector<std::string>& more, const std::string& part) {
    expect_failure(train_command(with(arguments("run", 5), more)), 2, part);
  };
  usage({"--frobnicate"}, "frobnicate");
  usage({"--seed", "abc"}, "--seed");
  usage({"--max-time", "3d"}, "--max-time: expected a time such as 90s, 30m or 2h, got '3d'");
  usage({"--lr-schedule", "stairs"}, "--lr-schedule");
  usage({"--epochs", "1"}, "--epochs");
  usage({"--init", "model"}, "--init");
  usage({"--threads", "0"}, "--threads");
  usage({"--dropout", "1.5"}, "--dropout");
  usage({"--label-smoothing", "-0.1"}, "--label-smoothing");
  usage({"--z-loss", "-1"}, "--z-loss");
  usage({"--preset", "huge"}, "--preset");
  usage({"--tf32", "perhaps"}, "--tf32");
  expect_failure(train_command({"--out", folder_ / "run"}), 2, "--data is required");
  expect_failure(train_command({"--data", folder_ / "data"}), 2, "--out is required");

  const auto wrong = [&](const std::vector<std::string>& words, const std::string& part) {
    expect_failure(train_command(words), 1, part);
  };
  const std::string data = folder_ / "data", out = folder_ / "run";
  wrong({"--data", folder_ / "missing", "--out", out}, "missing");
  wrong(
      {"--data", data, "--out", out, "--preset", "tiny", "--context", "8", "--batch-tokens", "33"},
      "--batch-tokens 33 is not a multiple of micro-batch x context");
  wrong({"--data", data, "--out", out, "--preset", "tiny", "--context", "4096"},
        "209 training tokens are too few for one window of 4096 + 1; lower --context");
  wrong({"--data", data, "--out", out, "--vocab-size", "10", "--context", "8"},
        "--vocab-size 10 is smaller than the data's vocabulary of 50");
  wrong({"--data", data, "--out", out, "--heads", "5", "--context", "8"}, "768");
  wrong({"--data", data, "--out", out, "--context", "8", "--micro-batch", "67108864"},
        "lower --micro-batch from 67108864");
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST_F(TrainCommand, IsSilentWhenQuiet) {
  const Ran ran = train_command(with(arguments("run", 5), {"--quiet"}));
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.out + ran.err, "");
}

TEST_F(TrainCommand, EndsWithCodeOneWhenTheLossIsNotFinite) {
  auto words = arguments("run", 500);
  *(std::find(words.begin(), words.end(), "--lr") + 1) = "1e30";
  expect_failure(train_command(with(words, {"--weight-decay", "1e10"})), 1,
                 "try a lower --lr than");
}

TEST_F(TrainCommand, HelpNamesEveryFlag) {
  std::vector<std::string> flags = {"--resume", "--config", "--quiet"};
  train::for_each_option(
      [&](const char* name, auto, train::OnResume) { flags.push_back(std::string("--") + name); });
  model_testing::expect_help("train", flags);
}

TEST_F(TrainCommand, MixesFoldersByWeightAndGoesOnAfterAKill) {
  train::make_data(folder_ / "other", {.train_tokens = 145, .seed = 9});
  constexpr int kSteps = 2000;
  auto words = with(arguments("whole", kSteps), {"--data", (folder_ / "other").string() + "=0.25"});
  words[1] += "=0.75";
  const Ran whole = train_command(words);
  ASSERT_EQ(whole.code, 0) << whole.err;
  const std::string mix =
      (folder_ / "data").string() + "=0.75 " + (folder_ / "other").string() + "=0.25";
  EXPECT_THAT(whole.err, HasSubstr("data     " + mix + ": 354 training tokens, 82 validation"));
  EXPECT_THAT(whole.err,
              HasSubstr("gpt2 train --data " + (folder_ / "data").string() + "=0.75 --data " +
                        (folder_ / "other").string() + "=0.25 --init"));
  *(std::find(words.begin(), words.end(), "--out") + 1) = folder_ / "run";
  Process process(with(words, {"--checkpoint-every", "100"}), folder_ / "err");
  wait_for_lines("run", 250);
  process.signal(SIGKILL);
  process.wait();
  const Ran resumed = train_command({"--out", folder_ / "run", "--resume"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("resumed at step "));
  expect_same_runs("whole", "run");
  const auto state =
      train::check_checkpoint(train::list_checkpoints(folder_ / "run").back().folder);
  ASSERT_EQ(state.loaders.size(), 2U);
  EXPECT_EQ(state.loaders[0].epoch * 26 + state.loaders[0].window, 6000);  // of 8000 windows
}

TEST_F(TrainCommand, TellsWeightsFromFolders) {
  std::filesystem::rename(folder_ / "data", folder_ / "data=2");
  auto words = arguments("run", 2);
  words[1] = folder_ / "data=2";  // a folder of this name is one
  EXPECT_EQ(train_command(words).code, 0);
  EXPECT_EQ(train::read_options(folder_ / "run" / "train.json").data->text(),
            (folder_ / "data=2").string());
  words[1] += "=0.5";  // alone, with any weight
  *(std::find(words.begin(), words.end(), "--out") + 1) = folder_ / "again";
  EXPECT_EQ(train_command(words).code, 0);
  expect_same_runs("run", "again");
  for (const char* weight : {"0", "-1", "nan", "inf", "much", ""}) {
    words[1] = std::string("x=") + weight;
    expect_failure(train_command(words), 2, words[1] + ": expected a folder, or FOLDER=WEIGHT");
  }
  expect_failure(train_command(with(words, {"--data"})), 2, "--data");
}

}  // namespace
