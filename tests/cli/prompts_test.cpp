// gpt2 generate --prompts and --num-samples, run as a user runs it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model_testing.h"

namespace {

using model_testing::expect_failure;
using model_testing::golden;
using model_testing::join;
using model_testing::lines_of;
using model_testing::Ran;
using model_testing::run;
using model_testing::TemporaryFolder;
using testing::HasSubstr;

using Arguments = std::vector<std::string>;
using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

std::vector<Json> answers(const base::Path& model, const std::string& prompts,
                          const Arguments& more = {}) {
  Arguments arguments = {"generate", "--model", model.string(), "--prompts", "-"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Ran ran = run(arguments, prompts);
  EXPECT_EQ(ran.code, 0) << ran.err;
  return lines_of(ran.out);
}

TEST(GeneratePrompts, EachLineIsAnsweredInOrder) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", "? caf\xC3\xA9 now.", true);
  const auto lines = answers(folder / "model",
                             "{\"id\": \"first\", \"prompt\": \"A\"}\n\n"
                             "{\"id\": {\"x\": 2}, \"prompt_ids\": [36], \"max_tokens\": 1}\r\n"
                             "{\"prompt\": \"B\", \"stop\": \"now\"}\n"
                             "{\"prompt\": \"\"}",
                             {"--temperature", "0", "--batch", "2"});
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0].at("index"), 0);
  EXPECT_EQ(lines[0].at("id"), "first");
  EXPECT_EQ(lines[0].at("prompt"), "A");
  EXPECT_EQ(lines[0].at("text"), "? caf\xC3\xA9 now.");
  EXPECT_EQ(lines[0].at("finish_reason"), "eos");
  const text::Tokenizer tokenizer = text::Tokenizer::load(folder / "model");
  EXPECT_EQ(lines[0].at("ids"), text::encode(tokenizer, "? caf\xC3\xA9 now."));
  EXPECT_EQ(lines[1].at("id"), (Json{{"x", 2}}));
  EXPECT_EQ(lines[1].at("prompt_ids"), Json{36});
  EXPECT_EQ(lines[1].at("text"), "?");
  EXPECT_EQ(lines[1].at("ids").size(), 1U);
  EXPECT_EQ(lines[1].at("finish_reason"), "length");
  EXPECT_FALSE(lines[2].contains("id"));
  EXPECT_EQ(lines[2].at("text"), "? caf\xC3\xA9 ");
  EXPECT_EQ(lines[2].at("finish_reason"), "stop");
  EXPECT_EQ(lines[3].at("index"), 3);
  EXPECT_EQ(lines[3].at("text"), "? caf\xC3\xA9 now.") << "an empty prompt is <|endoftext|>";
}

TEST(GeneratePrompts, AnUnfinishedCharacterIsReplacedAndItsIdsAreThere) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", "\xF0\x9F\x99\x82", true);
  const auto lines =
      answers(folder / "model", "{\"prompt\": \"A\", \"max_tokens\": 1}", {"--temperature", "0"});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].at("text"), "\xEF\xBF\xBD");
  EXPECT_EQ(lines[0].at("ids").size(), 1U);
}

TEST(GeneratePrompts, WhatALineGetsDoesNotDependOnTheOthers) {
  const auto line = [](int i) {
    return Json{{"prompt_ids", Ids{i, 2 * i, 5}}, {"max_tokens", 4 + i % 7}}.dump() + "\n";
  };
  const Arguments flags = {"--temperature", "1", "--seed", "3", "--ignore-eos", "-q"};
  std::string all;
  for (int i = 0; i < 20; ++i) all += line(i);
  const auto together = answers(golden("small"), all, flags);
  ASSERT_EQ(together.size(), 20U);
  for (const int i : {0, 7, 19}) {
    const auto alone = answers(golden("small"), line(i), flags);
    EXPECT_EQ(alone.at(0).at("ids"), together[static_cast<std::size_t>(i)].at("ids"));
    const Ran plain = run({"generate", "--model", golden("small"), "--prompt-ids",
                           join({i, 2 * i, 5}), "--max-tokens", std::to_string(4 + i % 7),
                           "--temperature", "1", "--seed", "3", "--ignore-eos", "-q"});
    EXPECT_EQ(plain.out, join(alone.at(0).at("ids").get<Ids>()) + "\n");
  }
}

TEST(GeneratePrompts, ALineMayHaveItsOwnSettings) {
  const auto ids = [](const std::string& settings) {
    return answers(golden("small"), "{\"prompt_ids\": [1, 2]" + settings + "}",
                   {"--temperature", "1", "--seed", "3", "--max-tokens", "8", "--ignore-eos"})
        .at(0)
        .at("ids")
        .get<Ids>();
  };
  const Ids plain = ids("");
  EXPECT_EQ(ids(", \"seed\": 3, \"unknown\": [1]"), plain);
  EXPECT_NE(ids(", \"seed\": 4"), plain);
  const Ids greedy = ids(", \"temperature\": 0");
  EXPECT_EQ(ids(", \"top_k\": 1"), greedy);
  EXPECT_EQ(ids(", \"top_p\": 0"), greedy);
  EXPECT_EQ(ids(", \"min_p\": 1"), greedy);
  EXPECT_EQ(ids(", \"max_tokens\": 0"), Ids{});
}

TEST(GeneratePrompts, SamplesAreThoseOfNumSamples) {
  const Arguments flags = {"--temperature", "1",  "--seed",       "3", "--num-samples", "3",
                           "--max-tokens",  "12", "--ignore-eos", "-q"};
  const auto lines =
      answers(golden("small"), "{\"prompt_ids\": [4]}\n{\"prompt_ids\": [1, 2]}\n", flags);
  ASSERT_EQ(lines.size(), 6U);
  Arguments plain = {"generate", "--model", golden("small"), "--prompt-ids", "1 2", "--batch", "2"};
  plain.insert(plain.end(), flags.begin(), flags.end());
  std::string expected;
  for (std::size_t i = 3; i < 6; ++i) {
    EXPECT_EQ(lines[i].at("index"), 1);
    EXPECT_EQ(lines[i].at("sample"), i - 3);
    expected += join(lines[i].at("ids").get<Ids>()) + "\n";
  }
  EXPECT_EQ(run(plain).out, expected);
}

TEST(GeneratePrompts, TheContextEndsALine) {
  const auto lines =
      answers(golden("tiny"), Json{{"prompt_ids", Ids(12, 1)}}.dump(), {"--ignore-eos"});
  EXPECT_EQ(lines.at(0).at("finish_reason"), "context");
  EXPECT_EQ(lines.at(0).at("ids").size(), 5U);
  EXPECT_FALSE(lines.at(0).contains("text")) << "there is no tokenizer";
}

TEST(GeneratePrompts, OutputIdsLeavesTheTextOut) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", "one two three", true);
  const auto lines = answers(folder / "model", "{\"prompt\": \"A\"}",
                             {"--temperature", "0", "--output-ids", "--stop", "three"});
  EXPECT_FALSE(lines.at(0).contains("text"));
  const text::Tokenizer tokenizer = text::Tokenizer::load(folder / "model");
  const auto ids = lines.at(0).at("ids").get<std::vector<text::TokenId>>();
  EXPECT_EQ(tokenizer.decode(ids).substr(0, 7), "one two");
  EXPECT_EQ(lines.at(0).at("finish_reason"), "stop");
}

TEST(GeneratePrompts, NoLinesNoAnswers) { EXPECT_TRUE(answers(golden("tiny"), "\n \n").empty()); }

TEST(GeneratePrompts, ABadLineIsNamedBeforeAnythingIsMade) {
  const TemporaryFolder folder;
  const auto fails = [&](const std::string& line, const std::string& part) {
    base::write_file(folder / "in.jsonl", "{\"prompt_ids\": [1]}\n" + line + "\n");
    expect_failure(run({"generate", "--model", golden("tiny"), "--prompts", folder / "in.jsonl"}),
                   1, (folder / "in.jsonl").string() + ":2: " + part);
  };
  fails("{\"prompt_ids\": [1",
        "expected a JSON object with \"prompt\" or \"prompt_ids\", got broken");
  fails("[1]", "expected a JSON object with \"prompt\" or \"prompt_ids\", got array");
  fails("{\"text\": \"x\"}", "expected either \"prompt\" or \"prompt_ids\", got neither");
  fails("{\"prompt\": \"\", \"prompt_ids\": []}",
        "expected either \"prompt\" or \"prompt_ids\", got both");
  fails("{\"prompt\": 5}", "\"prompt\": expected a text, got number");
  fails("{\"prompt\": \"x\"}", "model " + golden("tiny") + ": a text prompt needs a tokenizer");
  fails("{\"prompt_ids\": 5}", "\"prompt_ids\": expected a list of token ids, got number");
  fails("{\"prompt_ids\": [1, 97]}",
        "\"prompt_ids\": position 1 (from 0): expected a token id from 0 to 96, got 97");
  fails(Json{{"prompt_ids", Ids(17, 1)}}.dump(),
        "prompt: expected at most 16 tokens (the model's context), got 17");
  fails("{\"prompt_ids\": [1], \"max_tokens\": -1}",
        "\"max_tokens\": expected a whole number of at least 0, got -1");
  fails("{\"prompt_ids\": [1], \"seed\": 1.5}",
        "\"seed\": expected a whole number of at least 0, got 1.5");
  fails("{\"prompt_ids\": [1], \"temperature\": \"hot\"}",
        "\"temperature\": expected a number, got \"hot\"");
  fails("{\"prompt_ids\": [1], \"temperature\": -1}",
        "temperature: expected a number of at least 0");
  fails("{\"prompt_ids\": [1], \"stop\": [\"\"]}", "\"stop\": expected a text, or a list of texts");
  fails("{\"prompt_ids\": [1], \"stop\": \"x\"}",
        "model " + golden("tiny") + ": a stop text needs a tokenizer");
  expect_failure(run({"generate", "--model", golden("tiny"), "--prompts", "-"}, "{}"), 1,
                 "stdin:1: ");
  expect_failure(run({"generate", "--model", golden("tiny"), "--prompts", "/no/such/file"}), 1,
                 "/no/such/file");
}

TEST(GeneratePrompts, WrongUsageIsCode2) {
  for (const Arguments& wrong : {Arguments{"--prompts", "-", "--prompt", "a"},
                                 {"--prompts", "-", "--prompt-ids", "1"},
                                 {"--prompts", "-", "--prompt-file", "x"},
                                 {"--batch", "0"}}) {
    Arguments arguments = {"generate", "--model", golden("tiny")};
    arguments.insert(arguments.end(), wrong.begin(), wrong.end());
    EXPECT_EQ(run(arguments).code, 2);
  }
  model_testing::expect_help("generate", {"--prompts", "--batch"});
}

TEST(GenerateSamples, AreTheSameInAnyBatch) {
  const Arguments base = {"generate",      "--model", golden("small"), "--prompt-ids",
                          "1 2",           "-q",      "--seed",        "7",
                          "--num-samples", "5",       "--max-tokens",  "16"};
  std::string expected;
  for (const char* batch : {"1", "2", "16"}) {
    Arguments arguments = base;
    arguments.insert(arguments.end(), {"--batch", batch});
    const Ran ran = run(arguments);
    EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 5);
    if (expected.empty()) expected = ran.out;
    EXPECT_EQ(ran.out, expected) << "in batches of " << batch;
  }
}

}  // namespace
