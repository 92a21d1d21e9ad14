// gpt2 bench as a program, on shapes that take no time: what it prints, never how fast it was.

#include <gmock/gmock.h>

#include "cli/model_testing.h"

namespace {

using model_testing::expect_failure;
using model_testing::Ran;
using model_testing::run;
using nlohmann::json;
using testing::HasSubstr;

const std::vector<std::string> kTiny = {"--preset", "tiny", "--vocab-size", "300"};

Ran bench(const std::string& what, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"bench", what};
  if (what != "peak") arguments.insert(arguments.end(), kTiny.begin(), kTiny.end());
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run(arguments);
}

json object_of(const Ran& ran) {
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << ran.out;
  return json::parse(ran.out, nullptr, false);
}

void expect_positive(const json& object, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    ASSERT_TRUE(object.contains(key)) << key << " is missing in " << object.dump();
    ASSERT_TRUE(object[key].is_number()) << key;
    EXPECT_GT(object[key].get<double>(), 0) << key;
  }
}

/// The sum of the operations' times, whose rows must be complete.
double milliseconds_of(const json& operations) {
  double sum = 0;
  EXPECT_FALSE(operations.empty());
  for (const json& row : operations) {
    EXPECT_TRUE(row["name"].is_string());
    for (const char* key : {"calls", "ms", "gflops", "gbytes_per_second", "fraction_of_roofline"}) {
      EXPECT_TRUE(row.at(key).is_number()) << row.dump();
      EXPECT_GE(row.at(key).get<double>(), 0) << row.dump();
    }
    sum += row["ms"].get<double>();
  }
  return sum;
}

TEST(Bench, HelpsWithEachOfItsCommands) {
  EXPECT_THAT(run({"bench", "--help"}).out, HasSubstr("generate"));
  for (const std::string what : {"peak", "train", "generate", "score", "tokenizer"}) {
    const Ran ran = run({"bench", what, "--help"});
    EXPECT_EQ(ran.code, 0);
    for (const char* flag : {"--json", "--threads", "--quiet"}) {
      EXPECT_THAT(ran.out, HasSubstr(flag)) << what;
    }
    const bool without_model = what == "peak" || what == "tokenizer";
    EXPECT_EQ(ran.out.find("--precision") == std::string::npos, without_model) << what;
  }
}

TEST(Bench, NeedsToBeToldWhat) {
  const Ran ran = run({"bench"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("subcommand is required"));
}

TEST(BenchPeak, PrintsOneObject) {
  const json object = object_of(bench("peak", {"--json", "--threads", "1"}));
  expect_positive(object, {"f32_gflops", "bf16_gflops", "int8_gops", "read_bytes_per_second",
                           "copy_bytes_per_second", "threads"});
  EXPECT_EQ(object["threads"], 1);
  EXPECT_TRUE(object["isa"].is_string());
}

TEST(BenchTrain, PrintsOneObjectWhoseFiguresFitTogether) {
  for (const std::string precision : {"bf16", "fp32"}) {
    const json object =
        object_of(bench("train", {"--micro-batch", "2", "--context", "32", "--precision", precision,
                                  "--steps", "2", "--threads", "1", "--json"}));
    expect_positive(object, {"tokens_per_second", "best_tokens_per_second", "fraction_of_peak",
                             "peak_gflops", "gflops", "rss_mib", "planned_mib", "step_ms",
                             "best_step_ms", "gflop_per_token", "read_bytes_per_second"});
    EXPECT_EQ(object["preset"], "tiny");
    EXPECT_EQ(object["precision"], precision);
    EXPECT_EQ(object["steps"], 2);
    EXPECT_EQ(object["threads"], 1);
    EXPECT_EQ(object["context"], 32);
    const double speed = object["tokens_per_second"];
    const double gflops = object["gflops"];
    EXPECT_NEAR(speed, 64 / object["step_ms"].get<double>() * 1e3, speed * 1e-6);
    EXPECT_NEAR(gflops, speed * object["gflop_per_token"].get<double>(), gflops * 1e-6);
    EXPECT_NEAR(object["fraction_of_peak"].get<double>(),
                gflops / object["peak_gflops"].get<double>(), 1e-6);
    // Two steps: their mean is their median, and the operations are all of them.
    const double step = object["step_ms"];
    EXPECT_NEAR(milliseconds_of(object["operations"]), step, step * 1e-3);
  }
}

TEST(BenchTrain, AccumulatesToTheBatchThatIsAskedFor) {
  const json object =
      object_of(bench("train", {"--micro-batch", "2", "--context", "32", "--batch-tokens", "192",
                                "--steps", "1", "--json"}));
  EXPECT_EQ(object["batch_tokens"], 192);
  for (const json& row : object["operations"]) {
    if (row["name"] != "attention_forward") continue;
    EXPECT_EQ(row["calls"], 2 * 3);  // layers x micro-batches
  }
  expect_failure(bench("train", {"--micro-batch", "2", "--context", "32", "--batch-tokens", "100"}),
                 1, "--batch-tokens 100 is not a multiple of micro-batch x context = 2 x 32 = 64");
}

TEST(BenchTrain, PrintsATableForPeople) {
  const Ran ran = bench("train", {"--context", "32", "--steps", "1", "--threads", "1"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  for (const char* part : {"tokens/s median", "GFLOP/s", "MiB resident", "operation",
                           "linear_forward 32x96", "adamw_step", "other"}) {
    EXPECT_THAT(ran.out, HasSubstr(part));
  }
}

TEST(BenchTrain, RefusesAModelThatDoesNotFit) {
  expect_failure(run({"bench", "train", "--preset", "1558m", "--micro-batch", "100000"}), 1,
                 "of memory, but");
}

TEST(BenchGenerate, PrintsOneObject) {
  for (const std::string precision : {"bf16", "fp32", "int8", "int4"}) {
    const json object =
        object_of(bench("generate", {"--prompt-tokens", "20", "--max-tokens", "6", "--precision",
                                     precision, "--threads", "1", "--json"}));
    expect_positive(object, {"tokens_per_second", "best_tokens_per_second",
                             "prompt_tokens_per_second", "fraction_of_peak", "peak_gflops",
                             "rss_mib", "bytes_per_second", "read_bytes_per_second",
                             "fraction_of_read_bandwidth", "token_ms", "weight_bytes_per_token"});
    EXPECT_EQ(object["prompt_tokens"], 20);
    EXPECT_EQ(object["steps"], 6);
    EXPECT_GT(milliseconds_of(object["operations"]), 0);
    EXPECT_GT(milliseconds_of(object["prompt_operations"]), 0);
  }
}

TEST(BenchGenerate, ContinuesSeveralSequencesAtOnce) {
  const json object = object_of(bench("generate", {"--prompt-tokens", "8", "--max-tokens", "4",
                                                   "--batch", "3", "--threads", "1", "--json"}));
  expect_positive(object, {"tokens_per_second", "token_ms"});
  EXPECT_EQ(object["batch"], 3);
  const double speed = object["tokens_per_second"];
  EXPECT_NEAR(speed, 3 / object["token_ms"].get<double>() * 1e3, speed * 1e-6);
}

TEST(BenchGenerate, NamesWhatTheContextCannotHold) {
  expect_failure(bench("generate", {"--prompt-tokens", "65"}), 1,
                 "prompt of 65 tokens: expected 1 to the model's context of 64");
}

TEST(BenchScore, PrintsOneObject) {
  const json object = object_of(bench(
      "score", {"--context", "32", "--batch", "2", "--steps", "2", "--threads", "1", "--json"}));
  expect_positive(object, {"tokens_per_second", "fraction_of_peak", "peak_gflops", "rss_mib"});
  EXPECT_EQ(object["batch_tokens"], 64);
  EXPECT_GT(milliseconds_of(object["operations"]), 0);
}

TEST(BenchTokenizer, PrintsOneObject) {
  const json object = object_of(run({"bench", "tokenizer", "--json", "--passes", "2", "--threads",
                                     "2", GPT2_SOURCE_DIR "/README.md"}));
  expect_positive(object, {"tokens", "encode_cold_mb_per_second", "encode_warm_mb_per_second",
                           "decode_mb_per_second", "encode_threads_mb_per_second"});
  EXPECT_EQ(object["bytes"], std::filesystem::file_size(GPT2_SOURCE_DIR "/README.md"));
  EXPECT_LT(object["tokens"], object["bytes"]);
  EXPECT_EQ(object["threads"], 2);
}

TEST(BenchTokenizer, MakesATextWhereItIsGivenNone) {
  const Ran ran = run({"bench", "tokenizer", "--passes", "1", "--threads", "1"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("no FILE: 16.78 MB"));
  EXPECT_THAT(ran.out, HasSubstr("times one"));
}

TEST(BenchTokenizer, RefusesAnEmptyText) {
  expect_failure(run({"bench", "tokenizer", "/dev/null"}), 1,
                 "bench tokenizer: /dev/null: expected some text, got none");
}

}  // namespace
