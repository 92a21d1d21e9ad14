// gpt2 score, run as a user runs it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

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

using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

/// A row of a golden batch whose targets are its inputs shifted by one.
struct Row {
  Ids ids;
  std::vector<double> losses;
};
Row golden_row(const std::string& name) {
  const Json reference = model_testing::reference(name);
  Row row{reference.at("inputs").back().get<Ids>(),
          reference.at("token_losses_f64").back().get<std::vector<double>>()};
  row.ids.push_back(reference.at("targets").back().back().get<std::int32_t>());
  return row;
}

TEST(ScoreCommand, LogProbabilitiesAreTheReferences) {
  for (const std::string name : {"tiny", "small"}) {
    const Row row = golden_row(name);
    const Ran ran =
        run({"score", "--model", golden(name), "--jsonl"}, Json{{"ids", row.ids}}.dump() + "\n");
    ASSERT_EQ(ran.code, 0) << ran.err;
    const auto lines = lines_of(ran.out);
    ASSERT_EQ(lines.size(), 1U);
    const Json& logprobs = lines[0].at("logprobs");
    ASSERT_EQ(logprobs.size(), row.ids.size());
    EXPECT_TRUE(logprobs[0].is_null());
    double sum = 0;
    for (std::size_t t = 0; t < row.losses.size(); ++t) {
      EXPECT_NEAR(logprobs[t + 1].get<double>(), -row.losses[t], 2e-5);
      sum += row.losses[t];
    }
    EXPECT_EQ(lines[0].at("tokens"), row.ids.size());
    EXPECT_NEAR(lines[0].at("loss").get<double>(), sum / static_cast<double>(row.losses.size()),
                1e-5);
    EXPECT_EQ(lines[0].size(), 3U);
  }
}

TEST(ScoreCommand, ShortTextsHaveNoLoss) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", "x");
  base::write_file(folder / "in.jsonl", "{\"text\": \"\"}\n{\"ids\": [5]}\r\n\n{\"text\": \"xy\"}");
  const Ran ran = run({"score", "--model", folder / "model", "--jsonl", folder / "in.jsonl"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto lines = lines_of(ran.out);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0], (Json{{"logprobs", Json::array()}, {"tokens", 0}, {"loss", nullptr}}));
  EXPECT_EQ(lines[1], (Json{{"logprobs", {nullptr}}, {"tokens", 1}, {"loss", nullptr}}));
  EXPECT_EQ(lines[2].at("tokens"), 2);
}

TEST(ScoreCommand, TextIsScoredAsItsIds) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", "some text");
  const std::string text = "<|endoftext|> caf\xC3\xA9";
  const auto ids = text::encode(text::Tokenizer::load(folder / "model"), text);
  const Ran ran = run({"score", "--model", folder / "model", "--jsonl"},
                      Json{{"text", text}}.dump() + "\n" + Json{{"ids", ids}}.dump() + "\n");
  const auto lines = lines_of(ran.out);
  ASSERT_EQ(lines.size(), 2U) << ran.err;
  EXPECT_EQ(lines[0], lines[1]);
  EXPECT_EQ(lines[0].at("tokens"), ids.size());
}

TEST(ScoreCommand, AWholeFileHasAPerplexity) {
  const Row row = golden_row("tiny");  // 17 ids: one window
  const Ran ran = run({"score", "--model", golden("tiny"), "--ids"}, join(row.ids) + "\n");
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json result = Json::parse(ran.out);
  double sum = 0;
  for (const double loss : row.losses) sum += loss;
  EXPECT_NEAR(result.at("loss").get<double>(), sum / 16, 1e-5);
  EXPECT_NEAR(result.at("perplexity").get<double>(), std::exp(sum / 16), 1e-3);
  EXPECT_EQ(result.at("tokens"), 17);
  EXPECT_EQ(result.at("scored"), 16);
  EXPECT_EQ(result.at("stride"), 8);
  EXPECT_TRUE(result.at("bits_per_byte").is_null());
}

TEST(ScoreCommand, BitsPerByteCountTheScoredTokensBytes) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", "x");
  std::string text;
  for (int i = 0; i < 200; ++i) text += "word " + std::to_string(i) + "\n";
  base::write_file(folder / "file.txt", text);
  const text::Tokenizer tokenizer = text::Tokenizer::load(folder / "model");
  const auto first = tokenizer.token_bytes(text::encode(tokenizer, text).front()).size();
  const Ran ran =
      run({"score", "--model", folder / "model", folder / "file.txt", "--stride", "16"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json result = Json::parse(ran.out);
  const double bits =
      result.at("loss").get<double>() * result.at("scored").get<double>() / std::log(2);
  EXPECT_NEAR(result.at("bits_per_byte").get<double>(),
              bits / static_cast<double>(text.size() - first), 1e-9);
  EXPECT_EQ(result.at("stride"), 16);
}

TEST(ScoreCommand, Bf16Scores) {
  const Row row = golden_row("small");
  const Ran ran =
      run({"score", "--model", golden("small"), "--ids", "--precision", "bf16"}, join(row.ids));
  ASSERT_EQ(ran.code, 0) << ran.err;
  double sum = 0;
  for (const double loss : row.losses) sum += loss;
  EXPECT_NEAR(Json::parse(ran.out).at("loss").get<double>(),
              sum / static_cast<double>(row.losses.size()), 0.02);  // bf16 has 8 bits
}

TEST(ScoreCommand, BadLinesAreNamedByFileAndLine) {
  const TemporaryFolder folder;
  const auto fails = [&](const std::string& line, const std::string& part) {
    base::write_file(folder / "in.jsonl", "\n" + line + "\n");
    expect_failure(run({"score", "--model", golden("tiny"), "--jsonl", folder / "in.jsonl"}), 1,
                   (folder / "in.jsonl").string() + ":2: " + part);
  };
  fails("{\"ids\": [1, 97]}",
        "\"ids\": position 1 (from 0): expected a token id from 0 to 96, got 97");
  fails("{\"ids\": [-1]}",
        "\"ids\": position 0 (from 0): expected a token id from 0 to 96, got -1");
  fails("{\"ids\": [1.5]}",
        "\"ids\": position 0 (from 0): expected a token id from 0 to 96, got 1.5");
  fails("{\"ids\": [1, \"x\"]}",
        "\"ids\": position 1 (from 0): expected a token id from 0 to 96, got \"x\"");
  fails("{\"ids\": 5}", "\"ids\": expected a list of token ids, got number");
  fails("{\"id\": [1]}", "expected either \"text\" or \"ids\", got neither");
  fails("{\"ids\": [1], \"text\": \"\"}", "expected either \"text\" or \"ids\", got both");
  fails("{\"text\": 5}", "\"text\": expected a string, got number");
  fails("{\"text\": \"abc\"}", "model " + golden("tiny") + ": scoring text needs a tokenizer");
  fails("{\"ids\": [1", "expected a JSON object with \"text\" or \"ids\", got broken JSON");
  fails("[1]", "expected a JSON object with \"text\" or \"ids\", got array");
  fails(Json{{"ids", Ids(18, 1)}}.dump(),
        "expected at most 17 tokens (the model's context and one), got 18");
  expect_failure(run({"score", "--model", golden("tiny"), "--jsonl"}, "{}\n"), 1, "stdin:1: ");
}

TEST(ScoreCommand, BadFilesAreNamed) {
  const TemporaryFolder folder;
  const auto fails = [&](const std::string& content, const std::string& part) {
    base::write_file(folder / "ids", content);
    expect_failure(run({"score", "--model", golden("tiny"), "--ids", folder / "ids"}), 1,
                   (folder / "ids").string() + ": " + part);
  };
  fails("", "perplexity: expected at least 2 tokens, got 0");
  fails("1", "perplexity: expected at least 2 tokens, got 1");
  fails("1 2 97", "id at position 2 (from 0): expected 0 to 96, got 97");
  fails("1 two", "position 1 (from 0): expected a token id, got 'two'");
  expect_failure(run({"score", "--model", golden("tiny"), "/no/such/file", "--ids"}), 1,
                 "/no/such/file");
  expect_failure(run({"score", "--model", golden("tiny"), "--jsonl", "/no/such/file"}), 1,
                 "/no/such/file");
  expect_failure(run({"score", "--model", golden("tiny")}, "text"), 1,
                 "scoring text needs a tokenizer");
  expect_failure(run({"score", "--model", golden("tiny"), "--ids", "--stride", "17"}, "1 2"), 1,
                 "--stride: expected at most 16 (the model's context), got 17");
  expect_failure(run({"score", "--model", "/no/such/model"}), 1, "no such folder");
}

TEST(ScoreCommand, WrongUsageIsCode2) {
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"--no-such-flag"},
                                             {"--stride", "0"},
                                             {"--jsonl", "--stride", "4"},
                                             {"--jsonl", "--ids"}}) {
    std::vector<std::string> arguments = {"score", "--model", golden("tiny")};
    arguments.insert(arguments.end(), wrong.begin(), wrong.end());
    const Ran ran = run(arguments);
    EXPECT_EQ(ran.code, 2) << wrong.front() << ": " << ran.err;
    EXPECT_THAT(ran.err, HasSubstr("see 'gpt2 score --help'"));
  }
  EXPECT_EQ(run({"score"}).code, 2);
}

TEST(ScoreCommand, HelpNamesEveryFlag) {
  model_testing::expect_help("score", {"--model", "--jsonl", "--ids", "--stride", "--precision",
                                       "--device", "--tf32", "--threads", "--quiet", "FILE"});
}

}  // namespace
