// Tasks: lm-eval's figures of a small model, batches, what is computed once, what is refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "evaluate/evaluate.h"
#include "expect_error.h"

namespace {

using evaluate::TaskKind;
using evaluate::TaskOptions;
using evaluate::TaskResult;
using Json = nlohmann::json;

// Source: tests/golden/eval/make.py: a model with random weights, and what lm-eval says of it.
const base::Path kGolden(GPT2_SOURCE_DIR "/tests/golden/eval");

double figure(const TaskResult& result, const std::string& name) {
  for (const auto& [key, value] : result.figures) {
    if (key == name) return value;
  }
  ADD_FAILURE() << "no figure " << name;
  return 0;
}

class Tasks : public testing::Test {
 protected:
  model::Gpt2 model_ = model::load_for_inference(
      kGolden / "model",
      kernels::make_inference_backend(kernels::Device::kCpu, kernels::WeightFormat::kF32));
  text::Tokenizer tokenizer_ = text::Tokenizer::load(kGolden / "model");
  Json expected_ = Json::parse(base::read_file(kGolden / "expected.json"));

  std::unique_ptr<evaluate::Task> open(TaskKind kind, const std::string& origin,
                                       const std::string& content,
                                       const TaskOptions& options = {}) const {
    return evaluate::open_task(kind, origin, content, tokenizer_, model_.config(), options);
  }
  TaskResult run(TaskKind kind, const std::string& file, const TaskOptions& options = {}) {
    return open(kind, file, base::read_file(kGolden / file), options)->run(model_, {});
  }
};

TEST_F(Tasks, FiguresAreLmEvals) {
  // float32 there and here; the sums over a text's tokens round differently
  const auto near = [](const TaskResult& got, const Json& expected, const std::string& name) {
    const double value = expected.at(name);
    EXPECT_NEAR(figure(got, name), value, value * 2e-6) << name;
  };
  for (const char* name : {"whole", "short"}) {
    const Json& expected = expected_.at(name);
    TaskOptions options;
    options.context = expected.at("context").get<std::int64_t>();
    options.truncate = true;
    const TaskResult hellaswag = run(TaskKind::kHellaSwag, "hellaswag.jsonl", options);
    EXPECT_EQ(hellaswag.examples, 60);
    for (const char* key : {"acc", "acc_stderr", "acc_norm", "acc_norm_stderr"}) {
      near(hellaswag, expected.at("hellaswag"), key);
    }
    const TaskResult lambada = run(TaskKind::kLambada, "lambada.jsonl", options);
    EXPECT_EQ(lambada.examples, 40);
    for (const char* key : {"acc", "acc_stderr", "perplexity"}) {
      near(lambada, expected.at("lambada"), key);
    }
    for (const auto& [file, key] :
         {std::pair{"documents.jsonl", "documents"}, {"text.txt", "text"}}) {
      const TaskResult text = run(TaskKind::kPerplexity, file, options);
      for (const char* own : {"word_perplexity", "byte_perplexity", "bits_per_byte"}) {
        near(text, expected.at(key), own);
      }
    }
    EXPECT_EQ(hellaswag.truncated > 0, std::string(name) == "short");
    EXPECT_EQ(lambada.truncated > 0, std::string(name) == "short");
  }
  TaskOptions options;
  options.stride = expected_.at("strided").at("stride").get<std::int64_t>();
  const TaskResult strided = run(TaskKind::kPerplexity, "text.txt", options);
  for (const char* key : {"loss", "perplexity", "bits_per_byte"}) {
    near(strided, expected_.at("strided"), key);
  }
  EXPECT_EQ(strided.counts.front().second, expected_.at("strided").at("tokens"));
}

TEST_F(Tasks, ResultsDoNotDependOnTheBatch) {
  const auto figures = [&](TaskKind kind, const std::string& file, std::int64_t batch) {
    TaskOptions options;
    if (batch > 0) options.batch = batch;
    return run(kind, file, options).figures;
  };
  for (const auto& [kind, file] : {std::pair{TaskKind::kHellaSwag, "hellaswag.jsonl"},
                                   {TaskKind::kLambada, "lambada.jsonl"},
                                   {TaskKind::kPerplexity, "documents.jsonl"}}) {
    const auto alone = figures(kind, file, 1);
    for (const std::int64_t batch : {0, 7}) {
      const auto together = figures(kind, file, batch);
      ASSERT_EQ(together.size(), alone.size());
      for (std::size_t i = 0; i < alone.size(); ++i) {
        EXPECT_NEAR(together[i].second, alone[i].second, alone[i].second * 1e-6) << file;
      }
    }
  }
}

TEST_F(Tasks, AContextIsComputedOnceForItsEndings) {
  const std::string line =
      R"({"activity_label": "a", "ctx_a": "One two three four five.", "ctx_b": "Six",)"
      R"( "endings": ["x", "y", "zz z", "w"], "label": 0})";
  const auto tokens = [&](const std::string& text) {
    return static_cast<std::int64_t>(text::encode(tokenizer_, text).size());
  };
  const std::int64_t context = tokens("a: One two three four five. Six");
  const std::int64_t endings = tokens(" x") + tokens(" y") + tokens(" zz z") + tokens(" w");
  const TaskResult result = open(TaskKind::kHellaSwag, "f", line)->run(model_, {});
  EXPECT_EQ(result.tokens, 4 * (context - 1) + endings);
  EXPECT_EQ(result.computed, context - 1 + endings);
  EXPECT_TRUE(std::isnan(figure(result, "acc_stderr"))) << "one example has no deviation";
}

TEST_F(Tasks, TheHubsAndReadyMadeLinesMeanTheSame) {
  const std::string tail =
      R"("endings": ["ran.", "sat down.", "was blue.", "sang loud and long."], )";
  const auto losses = [&](const std::string& head, const std::string& label) {
    return open(TaskKind::kHellaSwag, "f", "{" + head + tail + "\"label\": " + label + "}")
        ->run(model_, {})
        .figures;
  };
  for (int label = 0; label < 4; ++label) {
    const std::string number = std::to_string(label);
    const auto published = losses(
        R"("activity_label": "At sea", "ctx_a": "A man  rows.", "ctx_b": "the MAN", )", number);
    const auto hub = losses(
        R"("activity_label": "At sea", "ctx_a": "A man  rows.", "ctx_b": "the MAN", "ind": 3, )",
        "\"" + number + "\"");
    const auto ready = losses(R"("ctx": "At sea: A man rows. The man", )", number);
    for (const std::size_t i : {0, 2}) {
      EXPECT_EQ(published[i], hub[i]);
      EXPECT_EQ(published[i], ready[i]);
    }
  }
}

TEST_F(Tasks, ALimitTakesTheFirst) {
  TaskOptions two;
  two.limit = 2;
  const std::string first = R"({"text": "one two three"})", second = R"({"text": "four five"})";
  const auto whole = open(TaskKind::kLambada, "f", first + "\n\n" + second + "\n")->run(model_, {});
  const auto limited = open(TaskKind::kLambada, "f", first + "\n" + second + "\nbroken", two);
  EXPECT_EQ(limited->examples(), 2);
  EXPECT_EQ(figure(limited->run(model_, {}), "perplexity"), figure(whole, "perplexity"));

  // Of a text: windows, and the bytes and words that they score.
  const std::string text = base::read_file(kGolden / "text.txt");
  two.stride = 40;
  const auto windows = open(TaskKind::kPerplexity, "text.txt", text, two)->run(model_, {});
  const auto ids = text::encode(tokenizer_, text);
  const std::string beginning = tokenizer_.decode(std::span(ids).first(96 + 40));
  TaskOptions strided;
  strided.stride = 40;
  const auto same = open(TaskKind::kPerplexity, "x", beginning, strided)->run(model_, {});
  EXPECT_EQ(windows.counts, same.counts);
  EXPECT_NEAR(figure(windows, "bits_per_byte"), figure(same, "bits_per_byte"), 1e-6);
}

TEST_F(Tasks, ProgressComesToTheEnd) {
  const auto last = [&](TaskKind kind, const std::string& file) {
    std::pair<std::int64_t, std::int64_t> seen;
    open(kind, file, base::read_file(kGolden / file))
        ->run(model_, [&](std::int64_t done, std::int64_t all) {
          EXPECT_GE(done, seen.first);
          seen = {done, all};
        });
    EXPECT_EQ(seen.first, seen.second);
    return seen.second;
  };
  EXPECT_EQ(last(TaskKind::kHellaSwag, "hellaswag.jsonl"), 60);
  EXPECT_EQ(last(TaskKind::kLambada, "lambada.jsonl"), 40);
  EXPECT_EQ(last(TaskKind::kPerplexity, "text.txt"), expected_.at("strided").at("tokens"));
}

TEST_F(Tasks, ABadLineIsNamedByFileAndLine) {
  const auto refuse = [&](TaskKind kind, const std::string& line, const std::string& message) {
    expect_error("in.jsonl:2: " + message, [&] { open(kind, "in.jsonl", "\n" + line + "\n"); });
  };
  constexpr TaskKind kSwag = TaskKind::kHellaSwag, kLast = TaskKind::kLambada;
  const std::string ctx = R"({"activity_label": "a", "ctx_a": "b", "ctx_b": "c", )";
  const std::string endings = R"("endings": ["d", "e"], )";
  refuse(kSwag, "{\"ctx\": ", "expected a JSON object, got broken JSON");
  refuse(kSwag, "[1]", "expected a JSON object, got array");
  refuse(kSwag, R"({"label": 1})", "the key \"activity_label\" is missing");
  refuse(kSwag, R"({"activity_label": "a", "endings": [], "label": 1})",
         "the key \"ctx_a\" is missing");
  refuse(kSwag, R"({"activity_label": "a", "ctx_a": 5})",
         "\"ctx_a\": expected a string, got number");
  refuse(kSwag, ctx + R"("label": 1})", "the key \"endings\" is missing");
  refuse(kSwag, ctx + R"("endings": "d", "label": 1})",
         "\"endings\": expected a list of two or more, got string");
  refuse(kSwag, ctx + R"("endings": ["d"], "label": 0})",
         "\"endings\": expected a list of two or more, got one of 1");
  refuse(kSwag, ctx + R"("endings": ["d", 7], "label": 0})",
         "\"endings\": expected strings, got number");
  refuse(kSwag, ctx + R"("endings": ["d", "e"]})", "the key \"label\" is missing");
  for (const std::string label : {"2", "-1", "1.0", "\"\"", "\"2\"", "true", "null"}) {
    refuse(kSwag, ctx + endings + "\"label\": " + label + "}",
           "\"label\": expected an ending's number from 0 to 1, got " + label);
  }
  refuse(kLast, R"({"word": "x"})", "the key \"text\" is missing");
  refuse(kLast, R"({"text": ""})", "\"text\": expected a passage, got an empty string");
  refuse(TaskKind::kPerplexity, R"({"text": 1})", "\"text\": expected a string, got number");
}

TEST_F(Tasks, SequencesHaveToFitTheContext) {
  std::string words;
  for (int i = 0; i < 200; ++i) words += "x ";
  const std::string line = Json{{"text", words + "y"}}.dump();
  const auto count = text::encode(tokenizer_, words + "y").size();
  expect_error(fmt::format("f:1: expected at most 97 tokens (the context and one), got {}; use "
                           "--truncate to leave out the beginnings of such examples",
                           count),
               [&] { open(TaskKind::kLambada, "f", line); });
  TaskOptions options;
  options.truncate = true;
  EXPECT_EQ(open(TaskKind::kLambada, "f", line, options)->truncated(), 1);
  const std::string word(500, 'q');
  EXPECT_THAT(error_of([&] {
                open(TaskKind::kLambada, "f", Json{{"text", "a " + word}}.dump(), options);
              }),
              testing::StartsWith("f:1: what is to be predicted has "));
}

TEST_F(Tasks, EmptyFilesAndOptionsThatDoNotFitAreRefused) {
  for (const TaskKind kind : {TaskKind::kHellaSwag, TaskKind::kLambada}) {
    expect_error("f: expected lines of JSON, got an empty file", [&] { open(kind, "f", " \n\n"); });
  }
  expect_error("f.jsonl: expected lines of JSON, got an empty file",
               [&] { open(TaskKind::kPerplexity, "f.jsonl", ""); });
  expect_error("f: expected a text, got an empty one",
               [&] { open(TaskKind::kPerplexity, "f", ""); });
  const auto refuse = [&](const std::string& message, auto member, std::int64_t value) {
    TaskOptions options;
    options.*member = value;
    expect_error(message, [&] { open(TaskKind::kPerplexity, "f", "text", options); });
  };
  refuse("context: expected 1 to 96 (the model's), got 97", &TaskOptions::context, 97);
  refuse("stride: expected 1 to 96 (the context), got 97", &TaskOptions::stride, 97);
  refuse("limit: expected 1 or more, got 0", &TaskOptions::limit, 0);
  refuse("batch: expected 1 or more, got 0", &TaskOptions::batch, 0);
  model::Config small = model_.config();
  small.vocab_size = 90;
  EXPECT_THAT(error_of([&] {
                evaluate::open_task(TaskKind::kLambada, "f", R"({"text": "the man"})", tokenizer_,
                                    small, {});
              }),
              testing::HasSubstr("f:1: the tokenizer gives id "));
}

}  // namespace
