// A run killed again and again: at every moment what stands under its name is whole, and in the end
// the run is the uninterrupted one.

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "base/rng.h"
#include "cli/model_testing.h"
#include "train/checkpoint.h"
#include "train/helpers.h"

namespace {

pid_t start(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = arguments;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  return pid;
}

TEST(TrainKill, HundredsOfKillsChangeNothing) {
  constexpr int kKills = 200, kSteps = 4000;
  TemporaryFolder folder;
  train::make_data(folder / "data");
  const auto arguments = [&](const std::string& out) {
    return std::vector<std::string>{GPT2_BINARY,
                                    "train",
                                    "--resume",
                                    "--quiet",
                                    "--data",
                                    folder / "data",
                                    "--out",
                                    folder / out,
                                    "--layers",
                                    "1",
                                    "--heads",
                                    "2",
                                    "--channels",
                                    "16",
                                    "--context",
                                    "8",
                                    "--micro-batch",
                                    "2",
                                    "--batch-tokens",
                                    "32",
                                    "--steps",
                                    std::to_string(kSteps),
                                    "--checkpoint-every",
                                    "7",
                                    "--val-every",
                                    "50",
                                    "--sample-every",
                                    "11",
                                    "--keep-every",
                                    "700",
                                    "--threads",
                                    "1"};
  };
  int status = 0;
  ::waitpid(start(arguments("whole")), &status, 0);
  ASSERT_EQ(status, 0);

  for (std::uint64_t i = 0; i < kKills; ++i) {
    const pid_t pid = start(arguments("run"));
    std::this_thread::sleep_for(std::chrono::milliseconds(base::random_below(250, 1, 2, i)));
    ::kill(pid, SIGKILL);
    ::waitpid(pid, &status, 0);
    for (const train::Checkpoint& checkpoint : train::list_checkpoints(folder / "run")) {
      ASSERT_NO_THROW(train::check_checkpoint(checkpoint.folder)) << "after kill " << i;
    }
    const base::Path best = folder / "run" / "checkpoints" / train::kBestCheckpoint;
    if (std::filesystem::exists(best)) {
      ASSERT_NO_THROW(train::check_checkpoint(best)) << "after kill " << i;
    }
    if (std::filesystem::exists(folder / "run" / "checkpoints" / "step_00000014")) {
      ASSERT_NO_THROW(model::load_model(
          folder / "run" / "model",
          kernels::make_backend(kernels::Device::kReference, base::DType::kF32), false))
          << "after kill " << i;
    }
  }
  ::waitpid(start(arguments("run")), &status, 0);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(train::numbers_of(folder / "run"), train::numbers_of(folder / "whole"));
  for (const char* name : {"best", "step_00002100", "step_00003500"}) {
    for (const char* file : {"parameters.safetensors", "adam_m.safetensors", "state.json"}) {
      EXPECT_EQ(base::read_file(folder / "run" / "checkpoints" / name / file),
                base::read_file(folder / "whole" / "checkpoints" / name / file))
          << name << "/" << file;
    }
  }
  EXPECT_EQ(base::read_file(folder / "run" / "model" / "model.safetensors"),
            base::read_file(folder / "whole" / "model" / "model.safetensors"));
}

}  // namespace
