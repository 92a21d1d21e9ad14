// Instruction data, from JSONL to a fine-tuned model, as a user does it.

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "cli/model_testing.h"
#include "cli/prepare_kill.h"
#include "temporary_folder.h"
#include "train/helpers.h"

namespace {

using model_testing::expect_failure;
using model_testing::Ran;
using model_testing::run;
using testing::HasSubstr;

class InstructionCommand : public testing::Test {
 protected:
  InstructionCommand() {
    base::write_file(folder_ / "qa.jsonl",
                     "{\"prompt\": \"2 + 2 =\", \"completion\": \" 4\"}\n"
                     "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": "
                     "\"assistant\", \"content\": \"Hello\"}]}\n");
  }
  std::vector<std::string> prepare(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {
        "prepare", folder_ / "qa.jsonl", "--out", folder_ / "qa", "--val-fraction", "0", "--mask",
        "prompt"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  TemporaryFolder folder_;
};

TEST_F(InstructionCommand, MasksAreWrittenToldAndVerified) {
  const Ran ran = run(prepare());
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("2 documents, 14 training tokens in 1 shard; 21.4 % of the tokens "
                                 "learnt; "));
  // <|endoftext|> 2 + 2 = [4] [<|endoftext|>] User : Hi \n Assistant : [Hello]
  using namespace std::string_literals;
  EXPECT_EQ(base::read_file(folder_ / "qa" / "train_000000.mask"),
            "gpt2mask\x01\0\0\0\0\0\0\0\x60\x20"s);
  const Ran info = run({"info", folder_ / "qa"});
  EXPECT_THAT(info.out, HasSubstr("3 of 14 (21.4 %) in training, 0 of 0 (0.0 %) in validation"));
  const auto json = nlohmann::json::parse(run({"info", folder_ / "qa", "--json"}).out);
  EXPECT_EQ(json["mask"], "prompt");
  EXPECT_EQ(json["train_learnt"], 3);
  EXPECT_EQ(run({"verify", folder_ / "qa"}).code, 0);
  base::write_file(folder_ / "qa" / "train_000000.mask", "gpt2mask\x01\0\0\0\0\0\0\0\x61\x20"s);
  const Ran damaged = run({"verify", folder_ / "qa", "--quiet"});
  EXPECT_EQ(damaged.code, 1);
  EXPECT_THAT(damaged.out, testing::StartsWith("train_000000.mask: expected CRC-32C "));
}

TEST_F(InstructionCommand, RefusalsAreOneLine) {
  base::write_file(folder_ / "a.txt", "text");
  expect_failure(run({"prepare", folder_ / "a.txt", "--out", folder_ / "out", "--mask", "prompt"}),
                 1,
                 "--mask prompt reads .jsonl files alone (also .gz, .zst), and " +
                     (folder_ / "a.txt").string() + " is none; leave it out, or --mask\n");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
  expect_failure(run(prepare({"--text-field", "a"})), 2, "--text-field excludes --mask");
  expect_failure(run({"prepare", "x.jsonl", "--out", "out", "--mask", "answers"}), 2,
                 "--mask: answers not in {none,prompt}");
  base::write_file(folder_ / "qa.jsonl", "{\"prompt\": \"a\"}\n");
  expect_failure(run(prepare()), 1,
                 "1 of 1 records rejected (100 %), more than --max-rejected 1 %; the first: " +
                     (folder_ / "qa.jsonl").string() + ":1: the field 'completion' is missing");
}

/// Answers are a rule, prompts are noise: only answers can be learnt well, and only they are.
TEST_F(InstructionCommand, AModelLearnsTheAnswers) {
  std::string lines;
  for (std::uint64_t i = 0; i < 300; ++i) {
    const std::string noise = std::to_string(base::random_below(100'000, 1, 2, i));
    lines +=
        nlohmann::json({{"prompt", "Q" + noise + ":"}, {"completion", " blue sky"}}).dump() + "\n";
  }
  base::write_file(folder_ / "qa.jsonl", lines);
  ASSERT_EQ(run({"prepare", folder_ / "qa.jsonl", "--out", folder_ / "qa", "--val-fraction", "0.2",
                 "--mask", "prompt", "--quiet"})
                .code,
            0);
  const Ran trained = run({"train", "--data", folder_ / "qa", "--out", folder_ / "run", "--preset",
                           "tiny", "--steps", "80", "--lr", "1e-2", "--batch-tokens", "256",
                           "--micro-batch", "2", "--val-every", "80", "--sample-every", "0"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  const auto steps = train::read_log(folder_ / "run" / "log.jsonl").steps;
  ASSERT_EQ(steps.size(), 80U);
  EXPECT_LT(steps.back().loss, 1.5);  // the numbers in the prompts alone have 3 nats a token
  ASSERT_TRUE(steps.back().validation_loss);
  EXPECT_LT(*steps.back().validation_loss, 1.5);
  const Ran answer = run({"generate", "--model", folder_ / "run", "--prompt",
                          "Q777:", "--temperature", "0", "--max-tokens", "8"});
  EXPECT_EQ(answer.out, "Q777: blue sky\n") << answer.err;  // and there it stops
}

TEST_F(InstructionCommand, PreparationGoesOnAfterBeingKilled) {
  prepare_kill::write_instructions(folder_.path(), 6'000'000);
  prepare_kill::kill_and_compare(folder_.path(), 10, {"--mask", "prompt"});
}

}  // namespace
