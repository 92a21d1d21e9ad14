// gpt2 eval, and tasks while training, run as a user runs them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model_testing.h"

namespace {

using model_testing::expect_failure;
using model_testing::lines_of;
using model_testing::Ran;
using model_testing::run;
using model_testing::TemporaryFolder;
using testing::HasSubstr;
using Json = nlohmann::json;

// Source: tests/golden/eval/make.py: a model with random weights, and what lm-eval says of it.
const std::string kGolden = GPT2_SOURCE_DIR "/tests/golden/eval/";
const std::string kModel = kGolden + "model";

Json expected() { return Json::parse(base::read_file(kGolden + "expected.json")); }

std::vector<std::string> keys_of(const std::string& line) {
  std::vector<std::string> keys;
  const auto object = nlohmann::ordered_json::parse(line);
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

void expect_near(const Json& got, const Json& expected, const std::string& key,
                 double relative = 2e-6) {
  const double value = expected.at(key);
  EXPECT_NEAR(got.at(key).get<double>(), value, value * relative) << key;
}

TEST(EvalCommand, AnswersALineForEachTask) {
  const Ran ran =
      run({"eval", "--model", kModel, "--task", "hellaswag", "--task",
           "perplexity=" + kGolden + "text.txt", "--task", "lambada", "--file",
           kGolden + "hellaswag.jsonl", "--file", kGolden + "lambada.jsonl", "--threads", "1"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const std::vector<Json> lines = lines_of(ran.out);
  ASSERT_EQ(lines.size(), 3U);
  const Json whole = expected().at("whole");
  EXPECT_EQ(lines[0].at("task"), "hellaswag");
  EXPECT_EQ(lines[0].at("file"), kGolden + "hellaswag.jsonl");
  EXPECT_EQ(lines[0].at("n"), 60);
  for (const char* key : {"acc", "acc_stderr", "acc_norm", "acc_norm_stderr"}) {
    expect_near(lines[0], whole.at("hellaswag"), key);
  }
  EXPECT_LT(lines[0].at("computed_tokens"), lines[0].at("tokens"));
  expect_near(lines[1], whole.at("text"), "loss");
  expect_near(lines[1], whole.at("text"), "word_perplexity");
  EXPECT_EQ(lines[1].at("stride"), 96);
  expect_near(lines[2], whole.at("lambada"), "acc");
  expect_near(lines[2], whole.at("lambada"), "perplexity");

  const std::vector<std::string> tail = {"precision", "tokens", "computed_tokens", "seconds",
                                         "tokens_per_second"};
  std::vector<std::string> keys = {
      "task",    "file",     "n", "acc", "acc_stderr", "acc_norm", "acc_norm_stderr",
      "context", "truncated"};
  keys.insert(keys.end(), tail.begin(), tail.end());
  EXPECT_EQ(keys_of(ran.out.substr(0, ran.out.find('\n'))), keys);
  EXPECT_THAT(ran.out, HasSubstr(R"("bits_per_byte":)"));
  EXPECT_EQ(ran.err, "");
}

TEST(EvalCommand, TakesOptionsOfAllTasks) {
  const Json golden = expected();
  const Ran strided =
      run({"eval", "-m", kModel, "-t", "perplexity=-", "--stride", "40", "--batch", "2"},
          base::read_file(kGolden + "text.txt"));
  ASSERT_EQ(strided.code, 0) << strided.err;
  expect_near(Json::parse(strided.out), golden.at("strided"), "bits_per_byte");

  const std::string context = std::to_string(golden.at("short").at("context").get<int>());
  const Ran cut = run({"eval", "-m", kModel, "-t", "lambada=" + kGolden + "lambada.jsonl",
                       "--context", context, "--truncate"});
  ASSERT_EQ(cut.code, 0) << cut.err;
  const Json result = Json::parse(cut.out);
  expect_near(result, golden.at("short").at("lambada"), "perplexity");
  EXPECT_EQ(result.at("context"), golden.at("short").at("context"));
  EXPECT_GT(result.at("truncated"), 0);
  EXPECT_THAT(cut.err, HasSubstr("are longer than the context: their beginnings are left out"));

  const Ran limited = run({"eval", "-m", kModel, "-t", "hellaswag=" + kGolden + "hellaswag.jsonl",
                           "-t", "perplexity=" + kGolden + "documents.jsonl", "--limit", "1"});
  ASSERT_EQ(limited.code, 0) << limited.err;
  const std::vector<Json> lines = lines_of(limited.out);
  EXPECT_EQ(lines[0].at("n"), 1);
  EXPECT_TRUE(lines[0].at("acc_stderr").is_null()) << "one example has no deviation";
  EXPECT_EQ(lines[1].at("n"), 1);
}

TEST(EvalCommand, ATaskThatComesTwiceIsToldApartByItsFile) {
  const std::string text = "perplexity=" + kGolden + "text.txt";
  const Ran ran =
      run({"eval", "-m", kModel, "-t", text, "-t", "perplexity=" + kGolden + "documents.jsonl"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const std::vector<Json> lines = lines_of(ran.out);
  EXPECT_EQ(lines[0].at("task"), "perplexity:text");
  EXPECT_EQ(lines[1].at("task"), "perplexity:documents");
  expect_failure(run({"eval", "-m", kModel, "-t", text, "-t", text}), 2,
                 "--task perplexity:text: given twice");
}

TEST(EvalCommand, SmallerFormatsScoreAlike) {
  const TemporaryFolder folder;
  ASSERT_EQ(
      run({"quantize", "--model", kModel, "--precision", "int8", "--out", folder / "int8"}).code,
      0);
  const std::string task = "perplexity=" + kGolden + "text.txt";
  const Ran ran = run({"eval", "-m", folder / "int8", "-t", task, "-t",
                       "hellaswag=" + kGolden + "hellaswag.jsonl"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const std::vector<Json> lines = lines_of(ran.out);
  EXPECT_EQ(lines[0].at("precision"), "int8");
  const Json whole = expected().at("whole");
  expect_near(lines[0], whole.at("text"), "loss", 0.01);
  EXPECT_NEAR(lines[1].at("acc").get<double>(), whole.at("hellaswag").at("acc").get<double>(),
              0.15);
}

TEST(EvalCommand, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const auto fails = [&](const std::vector<std::string>& words, int code, const std::string& part) {
    std::vector<std::string> all = {"eval", "--model", kModel};
    all.insert(all.end(), words.begin(), words.end());
    expect_failure(run(all), code, part);
  };
  base::write_file(folder / "bad.jsonl", "{\"text\": \"two words\"}\n{\"text\": 3}\n");
  fails({"--task", "lambada=" + (folder / "bad.jsonl").string()}, 1,
        "bad.jsonl:2: \"text\": expected a string, got number");
  base::write_file(folder / "empty", "");
  fails({"--task", "hellaswag=" + (folder / "empty").string()}, 1,
        "empty: expected lines of JSON, got an empty file");
  fails({"--task", "lambada=nowhere"}, 1, "cannot open nowhere: no such file");
  fails({"--task", "lambada=" + kGolden + "lambada.jsonl", "--context", "10"}, 1,
        "lambada.jsonl:1: expected at most 11 tokens (the context and one), got ");
  fails({"--task", "lambada=" + kGolden + "lambada.jsonl", "--context", "97"}, 1,
        "context: expected 1 to 96 (the model's), got 97");
  fails({"--task", "perplexity=" + kGolden + "text.txt", "--stride", "97"}, 1,
        "stride: expected 1 to 96 (the context), got 97");
  fails({"--task", "arc"}, 2, "--task: expected one of hellaswag, lambada, perplexity, got 'arc'");
  fails({"--task", "lambada"}, 2, "--task lambada: its file is missing, expected lambada=FILE");
  fails({"--task", "lambada=x", "--file", "y"}, 2, "--file y: no task is left for it");
  fails({"--task", "lambada=-", "--task", "hellaswag=-"}, 2,
        "the standard input can only be one task's file");
  fails({}, 2, "--task is required");
  std::filesystem::copy(kModel, folder / "bare");
  std::filesystem::remove(folder / "bare" / "vocab.json");
  std::filesystem::remove(folder / "bare" / "merges.txt");
  expect_failure(run({"eval", "-m", folder / "bare", "-t", "lambada=" + kGolden + "lambada.jsonl"}),
                 1, "a task's text needs a tokenizer");
  model_testing::expect_help(
      "eval", {"--model", "--task", "--file", "--limit", "--context", "--stride", "--batch",
               "--truncate", "--precision", "--device", "--tf32", "--threads", "--quiet"});
}

TEST(TrainCommand, EvaluatesTasksAsItGoes) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 20; ++i) text += base::read_file(kGolden + "text.txt");
  base::write_file(folder / "text.txt", text);
  ASSERT_EQ(
      run({"prepare", folder / "text.txt", "--tokenizer", kModel, "--out", folder / "data"}).code,
      0);
  const std::vector<std::string> train = {"train",
                                          "--data",
                                          folder / "data",
                                          "--init",
                                          kModel,
                                          "--steps",
                                          "5",
                                          "--micro-batch",
                                          "2",
                                          "--batch-tokens",
                                          "192",
                                          "--precision",
                                          "fp32",
                                          "--sample-every",
                                          "0"};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.begin(), train.begin(), train.end());
    return run(words);
  };
  const std::string lambada = "lambada=" + kGolden + "lambada.jsonl";
  const std::string perplexity = "perplexity=" + kGolden + "documents.jsonl";
  const Ran ran = with({"--out", folder / "run", "--eval-task", lambada, "--eval-task", perplexity,
                        "--eval-every", "2", "--eval-limit", "4"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.err,
              HasSubstr("tasks    every 2 steps: lambada (4 examples), perplexity (4 examples)"));
  EXPECT_THAT(ran.err, HasSubstr("step 4: lambada acc "));
  Json last;
  for (const Json& line : lines_of(base::read_file(folder / "run/log.jsonl"))) {
    if (!line.contains("loss")) continue;
    const int step = line.at("step").get<int>();
    EXPECT_EQ(line.contains("eval"), step == 1 || step == 3 || step == 4) << step;
    if (step == 4) last = line.at("eval");
  }
  // What the log says of the last step is what eval says of the run's model.
  const Ran after =
      run({"eval", "-m", folder / "run", "-t", lambada, "-t", perplexity, "--limit", "4"});
  ASSERT_EQ(after.code, 0) << after.err;
  const std::vector<Json> lines = lines_of(after.out);
  EXPECT_EQ(last.at("lambada").size(), 2U);
  expect_near(last.at("lambada"), lines[0], "perplexity", 1e-5);
  expect_near(last.at("perplexity"), lines[1], "bits_per_byte", 1e-5);

  expect_failure(with({"--out", folder / "x", "--eval-task", "lambada"}), 2,
                 "--eval-task lambada: its file is missing, expected lambada=FILE");
  expect_failure(with({"--out", folder / "x", "--eval-task", "lambada=-"}), 2, "expected a file");
  expect_failure(with({"--out", folder / "x", "--eval-task", "lambada=nowhere"}), 1, "nowhere");
  expect_failure(with({"--out", folder / "x", "--eval-every", "3"}), 1,
                 "--eval-every: needs --eval-task");
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

}  // namespace
