// gpt2 generate, run as a user runs it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "model_testing.h"

namespace {

using model_testing::expect_failure;
using model_testing::golden;
using model_testing::join;
using model_testing::Ran;
using model_testing::run;
using model_testing::TemporaryFolder;
using testing::HasSubstr;
using testing::Not;

using Ids = std::vector<std::int32_t>;
using Arguments = std::vector<std::string>;

Arguments with(Arguments first, const Arguments& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

/// Greedy ids of a golden model, which has no tokenizer.
Arguments ids_of(const std::string& model, const Ids& prompt) {
  return {"generate",   "--model",      golden(model),   "--prompt-ids",
          join(prompt), "--output-ids", "--temperature", "0"};
}

/// Greedy text of a model directory.
Arguments text_of(const base::Path& folder) {
  return {"generate", "--model", folder.string(), "--temperature", "0"};
}

TEST(GenerateCommand, GreedyIdsAreTheReferencesAlsoPastTheContext) {
  for (const std::string name : {"tiny", "small"}) {
    int checked = 0;
    const auto cases = model_testing::reference(name).at("generation").at("cases");
    for (const auto& one : cases) {
      // A smaller gap between the two best logits decides nothing in f32.
      if (one.at("weights") != "initial" || one.at("min_top2_gap").get<double>() < 1e-4) continue;
      const Ran ran = run(with(ids_of(name, one.at("prompt").get<Ids>()),
                               {"--max-tokens", "32", "--slide", "--ignore-eos"}));
      EXPECT_EQ(ran.code, 0) << ran.err;
      EXPECT_EQ(ran.out, join(one.at("greedy_f64").get<Ids>()) + "\n");
      ++checked;
    }
    EXPECT_EQ(checked, 6);
  }
}

TEST(GenerateCommand, Bf16Generates) {
  const Ran ran =
      run(with(ids_of("small", {5, 6, 7}), {"--precision", "bf16", "--max-tokens", "4"}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), ' '), 3);
}

TEST(GenerateCommand, TextIsThePromptAndItsContinuation) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", "? caf\xC3\xA9 \xF0\x9F\x99\x82.", true);
  const Ran ran = run(text_of(folder / "model"));  // from <|endoftext|>, which is not shown
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "? caf\xC3\xA9 \xF0\x9F\x99\x82.\n");
  EXPECT_THAT(ran.err, HasSubstr("tokens in"));
  EXPECT_THAT(ran.err, Not(HasSubstr("seed"))) << "greedy output does not depend on it";

  // A prompt of one token stands at position 0, as <|endoftext|> did.
  EXPECT_EQ(run(with(text_of(folder / "model"), {"--prompt", "A"})).out,
            "A? caf\xC3\xA9 \xF0\x9F\x99\x82.\n");
  base::write_file(folder / "prompt", "B");
  EXPECT_EQ(run(with(text_of(folder / "model"), {"--prompt-file", folder / "prompt", "-q"})).err,
            "");
  EXPECT_EQ(run(with(text_of(folder / "model"), {"--prompt-file", "-"}), "C").out.substr(0, 2),
            "C?");
  EXPECT_EQ(run(with(text_of(folder / "model"), {"--prompt-ids", "36"})).out.substr(0, 2), "E?");
  EXPECT_EQ(run(with(text_of(folder / "model"), {"--prompt", ""})).out.substr(0, 2), "? ");
  EXPECT_EQ(run(with(text_of(folder / "model"), {"--prompt", "-"})).out.substr(0, 2), "-?");
  EXPECT_EQ(run(with(text_of(folder / "model"), {"--prompt", "[A,B]"})).out.substr(0, 5), "[A,B]");
}

TEST(GenerateCommand, SpecialTokensInAPromptAreOrdinaryText) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", std::string(40, '.'), true);
  const Ran ran =
      run(with(text_of(folder / "model"), {"--prompt", "<|endoftext|>", "--max-tokens", "1"}));
  EXPECT_EQ(ran.out.substr(0, 13), "<|endoftext|>");
  EXPECT_THAT(ran.err, Not(HasSubstr("prompt of 1 tokens")));
}

TEST(GenerateCommand, EndsAtEndOfTextUnlessItIsIgnored) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", Ids{5, 6, 1008, 7, 8});
  EXPECT_EQ(run(with(text_of(folder / "model"), {"--output-ids"})).out, "5 6\n");
  EXPECT_EQ(
      run(with(text_of(folder / "model"), {"--output-ids", "--ignore-eos", "--max-tokens", "5"}))
          .out,
      "5 6 1008 7 8\n");
}

TEST(GenerateCommand, EndsAtTheContextAndSaysSo) {
  const Ran ends = run(with(ids_of("tiny", Ids(12, 1)), {"--ignore-eos"}));
  EXPECT_EQ(ends.code, 0);
  EXPECT_EQ(std::count(ends.out.begin(), ends.out.end(), ' '),
            4);  // 4 positions left, and one more
  EXPECT_THAT(ends.err, HasSubstr("end of the model's context (16 tokens); --slide"));
  const Ran slides = run(with(ids_of("tiny", Ids(12, 1)), {"--ignore-eos", "--slide"}));
  EXPECT_EQ(std::count(slides.out.begin(), slides.out.end(), ' '), 127);
  EXPECT_THAT(slides.err, Not(HasSubstr("context")));
}

TEST(GenerateCommand, StopTextsEndBeforeThemselves) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", "one two three. four", true);
  const auto out = [&](const Arguments& stops) {
    return run(with(text_of(folder / "model"), stops)).out;
  };
  EXPECT_EQ(out({"--stop", "ee."}), "one two thr\n");
  EXPECT_EQ(out({"--stop", "four", "--stop", " tw"}), "one\n");
  EXPECT_EQ(out({"--stop", "five"}), "one two three. four\n");
  EXPECT_EQ(out({"--stop", "[two]"}), "one two three. four\n");
}

TEST(GenerateCommand, TheSeedDecidesAndSamplesDiffer) {
  const Arguments base = {"generate",     "--model",      golden("small"), "--prompt-ids",
                          "1 2",          "--output-ids", "--temperature", "1",
                          "--max-tokens", "16",           "--ignore-eos"};
  const std::string first = run(with(base, {"--seed", "7"})).out;
  EXPECT_EQ(run(with(base, {"--seed", "7"})).out, first);
  EXPECT_EQ(run(with(base, {"--seed", "7", "--threads", "2"})).out, first);
  EXPECT_NE(run(with(base, {"--seed", "8"})).out, first);

  const Ran three = run(with(base, {"--seed", "7", "--num-samples", "3"}));
  EXPECT_EQ(three.out.substr(0, first.size()), first);
  EXPECT_EQ(std::count(three.out.begin(), three.out.end(), '\n'), 3);
  EXPECT_NE(three.out.substr(first.size(), first.size()), first);
  EXPECT_THAT(three.err, HasSubstr("gpt2: sample 3 of 3\n"));

  const Ran unseeded = run(base);  // says how to repeat it
  const std::size_t at = unseeded.err.find("--seed ");
  ASSERT_NE(at, std::string::npos) << unseeded.err;
  const std::string seed = unseeded.err.substr(at + 7, unseeded.err.find(' ', at + 7) - at - 7);
  EXPECT_EQ(run(with(base, {"--seed", seed})).out, unseeded.out);
}

TEST(GenerateCommand, TopKOneIsGreedyAtAnyTemperature) {
  const Arguments greedy = ids_of("small", {3, 4});
  Arguments top_k = greedy;
  top_k.back() = "3.5";
  EXPECT_EQ(run(with(top_k, {"--top-k", "1"})).out, run(greedy).out);
  EXPECT_EQ(run(with(top_k, {"--top-p", "0"})).out, run(greedy).out);
  EXPECT_EQ(run(with(top_k, {"--min-p", "1"})).out, run(greedy).out);
}

TEST(GenerateCommand, WorksFromIdsWhereThereIsNoTokenizer) {
  const Ran ids = run({"generate", "--model", golden("tiny"), "--prompt-ids", "1", "--temperature",
                       "0", "--max-tokens", "3"});
  EXPECT_EQ(ids.code, 0);
  EXPECT_EQ(std::count(ids.out.begin(), ids.out.end(), ' '), 2);
  EXPECT_THAT(ids.err, HasSubstr("no tokenizer files: printing ids"));
  const std::string model = "model " + golden("tiny") + ": ";
  expect_failure(run({"generate", "-q", "--model", golden("tiny"), "--prompt", "text"}), 1,
                 model + "a text prompt needs a tokenizer");
  expect_failure(run({"generate", "-q", "--model", golden("tiny"), "--stop", "x"}), 1,
                 model + "--stop needs a tokenizer");
}

TEST(GenerateCommand, ARunDirectoryStandsForItsModel) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "run/model", "yes", true);
  EXPECT_EQ(run(text_of(folder / "run")).out, "yes\n");
}

TEST(GenerateCommand, BadPromptsAreNamed) {
  expect_failure(run(with(ids_of("tiny", {1, 2, 97}), {})), 1,
                 "prompt: id at position 2: expected 0 to 96, got 97");
  expect_failure(run(with(ids_of("tiny", {-1}), {})), 1,
                 "prompt: id at position 0: expected 0 to 96, got -1");
  expect_failure(run(with(ids_of("tiny", Ids(17, 1)), {})), 1,
                 "prompt: expected at most 16 tokens (the model's context), got 17");
  EXPECT_EQ(run(with(ids_of("tiny", Ids(17, 1)), {"--slide", "--max-tokens", "1"})).code, 0);
  expect_failure(run({"generate", "--model", golden("tiny"), "--prompt-ids", "1 x 2"}), 2,
                 "--prompt-ids: position 1 (from 0): expected a token id, got 'x'");
  expect_failure(run({"generate", "--model", golden("tiny"), "--prompt-file", "/no/such/file"}), 1,
                 "/no/such/file");
  expect_failure(run({"generate", "--model", golden("tiny"), "--prompt", "a", "--prompt-ids", "1"}),
                 2, "--prompt");
}

TEST(GenerateCommand, NoPromptNeedsAnEndOfText) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", Ids{1}, false);
  auto config = nlohmann::json::parse(base::read_file(folder / "model/config.json"));
  config["bos_token_id"] = nullptr;
  config["eos_token_id"] = nullptr;
  base::write_file(folder / "model/config.json", config.dump());
  expect_failure(run({"generate", "-q", "--model", folder / "model"}), 1,
                 "there is no prompt, and no <|endoftext|> in the model to start from");
}

TEST(GenerateCommand, BadModelsAreNamed) {
  const TemporaryFolder folder;
  expect_failure(run({"generate", "--model", "/no/such/model"}), 1,
                 "model /no/such/model: no such folder");
  expect_failure(run({"generate", "--model", folder.path()}), 1, "the folder has no config.json");
  base::write_file(folder / "file", "x");
  expect_failure(run({"generate", "--model", folder / "file"}), 1, "expected a folder");
  std::filesystem::copy(golden("tiny") + "/config.json", folder / "config.json");
  expect_failure(run({"generate", "--model", folder.path()}), 1, "no weights");
  model_testing::write_scripted_model(folder / "half", Ids{1});
  std::filesystem::remove(folder / "half/merges.txt");
  expect_failure(run({"generate", "--model", folder / "half"}), 1, "merges.txt");
}

TEST(GenerateCommand, WrongUsageIsCode2) {
  const Arguments base = {"generate", "--model", golden("tiny")};
  for (const Arguments& wrong : {Arguments{"--no-such-flag"},
                                 {"--temperature", "-1"},
                                 {"--temperature", "nan"},
                                 {"--temperature", "warm"},
                                 {"--top-k", "-1"},
                                 {"--top-p", "1.5"},
                                 {"--min-p", "-0.5"},
                                 {"--max-tokens", "-1"},
                                 {"--max-tokens", "many"},
                                 {"--num-samples", "0"},
                                 {"--seed", "-1"},
                                 {"--stop", ""},
                                 {"--precision", "fp8"},
                                 {"--threads", "0"},
                                 {"extra"}}) {
    const Ran ran = run(with(base, wrong));
    EXPECT_EQ(ran.code, 2) << wrong.front() << ": " << ran.err;
    EXPECT_THAT(ran.err, HasSubstr("see 'gpt2 generate --help'"));
    EXPECT_EQ(ran.out, "");
  }
  EXPECT_EQ(run({"generate"}).code, 2);
}

TEST(GenerateCommand, HelpNamesEveryFlag) {
  model_testing::expect_help(
      "generate",
      {"--model",       "--prompt",      "--prompt-file", "--prompt-ids", "--max-tokens",
       "--temperature", "--top-k",       "--top-p",       "--min-p",      "--stop",
       "--seed",        "--num-samples", "--ignore-eos",  "--slide",      "--output-ids",
       "--precision",   "--device",      "--tf32",        "--threads",    "--quiet"});
}

}  // namespace
