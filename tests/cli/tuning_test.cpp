// Fine-tuning as a user does it: adapters, frozen parts, what is told and what comes out.

#include <gmock/gmock.h>

#include <algorithm>

#include "cli/model_testing.h"
#include "temporary_folder.h"
#include "train/helpers.h"

namespace {

using model_testing::expect_failure;
using model_testing::Ran;
using model_testing::run;
using testing::HasSubstr;

class TuningCommand : public testing::Test {
 protected:
  TuningCommand() {
    train::make_data(folder_ / "data");
    train::Options base = train::small_run(folder_ / "data", folder_ / "base");
    base.layers = 2;
    train::run_steps(base);
  }
  Ran tune(const std::string& out, const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"train",
                                      "--data",
                                      folder_ / "data",
                                      "--out",
                                      folder_ / out,
                                      "--init",
                                      folder_ / "base" / "model",
                                      "--steps",
                                      "10",
                                      "--micro-batch",
                                      "2",
                                      "--batch-tokens",
                                      "32",
                                      "--precision",
                                      "fp32",
                                      "--lr",
                                      "1e-2"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  TemporaryFolder folder_;
};

TEST_F(TuningCommand, AdaptersEndUpInAModelThatRuns) {
  const Ran ran = tune("run", {"--lora-rank", "2", "--freeze", "blocks=0"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  // 2 (K + M) for four matrices of one block of 16 channels: 2 x 16 x 16.
  EXPECT_THAT(ran.err, HasSubstr("trained  512 parameters (6.8 % of the model's): LoRA of rank 2, "
                                 "alpha 4; frozen: blocks=0"));
  const Ran info = run({"info", folder_ / "run" / "model"});
  EXPECT_EQ(info.code, 0) << info.err;
  const Ran text = run({"generate", "--model", folder_ / "run" / "model", "--prompt-ids", "1 8",
                        "--max-tokens", "3", "--temperature", "0", "--output-ids"});
  EXPECT_EQ(text.code, 0) << text.err;
}

TEST_F(TuningCommand, NamesComeWithCommasOrFlags) {
  ASSERT_EQ(tune("a", {"--freeze", "embeddings,blocks=0", "--freeze", "*.bias"}).code, 0);
  ASSERT_EQ(tune("b", {"--freeze", "embeddings", "blocks=0", "*.bias"}).code, 0);
  EXPECT_EQ(train::numbers_of(folder_ / "a"), train::numbers_of(folder_ / "b"));
  const Ran again =
      run({"train", "--config", folder_ / "a" / "train.json", "--out", folder_ / "c"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("frozen: embeddings blocks=0 *.bias"));
  EXPECT_EQ(train::numbers_of(folder_ / "c"), train::numbers_of(folder_ / "a"));
}

TEST_F(TuningCommand, RefusalsAreOneLine) {
  expect_failure(tune("run", {"--freeze", "layer.1"}), 1,
                 "freeze: 'layer.1' means no parameter of this model, which has blocks 0 to 1; "
                 "expected embeddings, blocks, attention, mlp, layernorm, biases, "
                 "blocks=FIRST-LAST, or names");
  expect_failure(tune("run", {"--freeze", "blocks,embeddings,ln_f"}), 1,
                 "freeze: every parameter is frozen, nothing is left to train; freeze less");
  expect_failure(tune("run", {"--lora-alpha", "3"}), 1,
                 "--lora-alpha belongs to --lora-rank; drop it or choose that");
  expect_failure(tune("run", {"--lora-rank", "2", "--optimizer", "muon"}), 1,
                 "--lora-rank and --optimizer muon exclude each other");
  expect_failure(tune("run", {"--lora-rank", "0"}), 2, "--lora-rank");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
}

}  // namespace
