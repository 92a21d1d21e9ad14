// gpt2 quantize and --precision, run as a user runs them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model_testing.h"

namespace {

using model_testing::expect_failure;
using model_testing::golden;
using model_testing::join;
using model_testing::Ran;
using model_testing::run;
using model_testing::TemporaryFolder;
using testing::HasSubstr;

using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

Json score(const std::string& model, const Ids& ids, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"score", "--model", model, "--ids"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Ran ran = run(arguments, join(ids));
  EXPECT_EQ(ran.code, 0) << ran.err;
  return ran.code == 0 ? Json::parse(ran.out) : Json();
}

TEST(QuantizeCommand, MakesADirectoryThatRunsByItself) {
  const TemporaryFolder folder;
  Ids ids;
  for (int i = 0; i < 60; ++i) ids.push_back(i * 7 % 50);
  for (const std::string precision : {"int8", "int4", "bf16"}) {
    const std::string out = folder / precision;
    const Ran made =
        run({"quantize", "--model", golden("small"), "--precision", precision, "--out", out});
    ASSERT_EQ(made.code, 0) << made.err;
    EXPECT_EQ(made.out, "");
    EXPECT_THAT(made.err, HasSubstr("wrote " + out + ": " + precision + " weights"));

    // Without --precision it is what was made; the same as rounding the original while loading.
    const Json stored = score(out, ids), asked = score(out, ids, {"--precision", precision});
    EXPECT_EQ(stored, asked);
    const double rounded =
        score(golden("small"), ids, {"--precision", precision}).at("loss").get<double>();
    EXPECT_NEAR(stored.at("loss").get<double>(), rounded, precision == "bf16" ? 0.02 : 0);
    const Ran generated =
        run({"generate", "--model", out, "--prompt-ids", "1 2 3", "--max-tokens", "4"});
    EXPECT_EQ(generated.code, 0);
    EXPECT_THAT(generated.err, HasSubstr(precision + " weights loaded in 0."));

    const Json info = Json::parse(run({"info", "--json", out}).out);
    EXPECT_EQ(info.at("kind"), "model");
    EXPECT_EQ(info.at("precision"), precision);
    EXPECT_EQ(info.at("layers"),
              Json::parse(run({"info", "--json", golden("small")}).out)["layers"]);
    EXPECT_EQ(info.contains("packed"), precision != "bf16");
    if (precision != "bf16") {
      EXPECT_GT(info.at("packed").at(precision).at("bytes").get<std::int64_t>(), 1000);
    }
  }
  expect_failure(run({"score", "--model", folder / "int8", "--precision", "fp32"}, "text"), 1,
                 "the weights are int8 alone (model-int8.safetensors), expected fp32");
  EXPECT_EQ(run({"score", "--model", folder / "bf16", "--precision", "fp32", "--ids"}, "1 2").code,
            0);
}

TEST(QuantizeCommand, TheTokenizerComesAlong) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "run/model", "yes", true);
  ASSERT_EQ(run({"quantize", "-q", "--model", folder / "run", "--precision", "int8", "--out",
                 folder / "small/"})
                .code,
            0);
  EXPECT_EQ(run({"generate", "--model", folder / "small", "--temperature", "0"}).out, "yes\n");
}

TEST(QuantizeCommand, RefusesWhatItCannotDo) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "taken");
  expect_failure(run({"quantize", "--model", golden("tiny"), "--precision", "int8", "--out",
                      folder / "taken"}),
                 1, "taken exists already; choose a new folder for --out");
  expect_failure(
      run({"quantize", "--model", "/no/such", "--precision", "int8", "--out", folder / "x"}), 1,
      "model /no/such: no such folder");
  std::filesystem::create_directory(folder / "empty");
  std::filesystem::copy(golden("tiny") + "/config.json", folder / "empty/config.json");
  expect_failure(
      run({"quantize", "--model", folder / "empty", "--precision", "bf16", "--out", folder / "x"}),
      1, "no weights");
  ASSERT_EQ(run({"quantize", "-q", "--model", golden("tiny"), "--precision", "int4", "--out",
                 folder / "int4"})
                .code,
            0);
  expect_failure(
      run({"quantize", "--model", folder / "int4", "--precision", "int8", "--out", folder / "x"}),
      1, "the weights are int4 already (model-int4.safetensors)");
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_EQ(entry.path().string().find("/x"), std::string::npos) << "nothing is left behind";
  }
  EXPECT_EQ(run({"quantize", "--model", golden("tiny"), "--out", folder / "x"}).code, 2);
  EXPECT_EQ(run({"quantize", "--model", golden("tiny"), "--precision", "fp32", "--out", "x"}).code,
            2);
  model_testing::expect_help("quantize", {"--model", "--precision", "--out", "--threads"});
}

}  // namespace
