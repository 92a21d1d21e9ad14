// gpt2 info, run as a user runs it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/data.h"
#include "model_testing.h"

namespace {

using model_testing::expect_failure;
using model_testing::golden;
using model_testing::Ran;
using model_testing::run;
using model_testing::TemporaryFolder;
using testing::HasSubstr;

using Json = nlohmann::json;

Json info(const base::Path& path) {
  const Ran ran = run({"info", "--json", path.string()});
  EXPECT_EQ(ran.code, 0) << ran.err;
  return ran.code == 0 ? Json::parse(ran.out) : Json();
}

void write_shard(const base::Path& path, const std::vector<data::TokenId>& tokens) {
  data::ShardWriter writer(path);
  writer.append(tokens);
  writer.commit();
}

TEST(InfoCommand, DescribesAModelDirectory) {
  const Json result = info(golden("tiny"));
  EXPECT_EQ(result.at("kind"), "model");
  EXPECT_EQ(result.at("path"), golden("tiny"));
  EXPECT_EQ(result.at("layers"), 2);
  EXPECT_EQ(result.at("heads"), 2);
  EXPECT_EQ(result.at("channels"), 32);
  EXPECT_EQ(result.at("context"), 16);
  EXPECT_EQ(result.at("vocab_size"), 97);
  EXPECT_EQ(result.at("end_of_text"), 96);
  EXPECT_EQ(result.at("parameters"), 29088);  // ref.json's n_params
  EXPECT_EQ(result.at("elements"), 29088);
  EXPECT_EQ(result.at("types"), Json{"F32"});
  EXPECT_EQ(result.at("precision"), "fp32");
  EXPECT_TRUE(result.at("tokenizer").is_null());
  const std::string text = run({"info", golden("tiny")}).out;
  EXPECT_THAT(text, HasSubstr("model directory"));
  EXPECT_THAT(text, HasSubstr("29088 (29.09 k)"));
}

TEST(InfoCommand, NamesAModelsTokenizer) {
  const TemporaryFolder folder;
  model_testing::write_scripted_model(folder / "model", std::vector<std::int32_t>{1});
  EXPECT_EQ(info(folder / "model").at("tokenizer").at("vocab_size"), 1009);
  text::Tokenizer::gpt2().write_files(folder / "model");
  EXPECT_THAT(run({"info", folder / "model"}).out, HasSubstr("(GPT-2's own)"));
}

TEST(InfoCommand, DescribesShards) {
  const TemporaryFolder folder;
  write_shard(folder / "fineweb_train_000001.bin", {50256, 5, 6});
  write_shard(folder / "fineweb_val_000000.bin", {50256, 7});
  const Json result = info(folder.path());
  EXPECT_EQ(result.at("kind"), "shards");
  EXPECT_EQ(result.at("train"), (Json{{"shards", 1}, {"tokens", 3}}));
  EXPECT_EQ(result.at("validation"), (Json{{"shards", 1}, {"tokens", 2}}));
  EXPECT_EQ(result.at("manifest"), false);
  const Json shard = info(folder / "fineweb_train_000001.bin");
  EXPECT_EQ(shard.at("kind"), "shard");
  EXPECT_EQ(shard.at("tokens"), 3);
  EXPECT_EQ(shard.at("largest_id"), 50256);
}

TEST(InfoCommand, DescribesAPreparedFolderAndARunFromIt) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "line " + std::to_string(i) + "\n";
  base::write_file(folder / "text.txt", text);
  ASSERT_EQ(run({"prepare", folder / "text.txt", "--out", folder / "data"}).code, 0);
  const Json shards = info(folder / "data");
  EXPECT_EQ(shards.at("kind"), "shards");
  EXPECT_EQ(shards.at("manifest"), true);
  EXPECT_EQ(shards.at("documents"), 1);
  EXPECT_EQ(shards.at("vocab_size"), 50257);
  EXPECT_GT(shards.at("train").at("tokens").get<std::int64_t>() +
                shards.at("validation").at("tokens").get<std::int64_t>(),
            6000);

  const Ran trained =
      run({"train", "--data", folder / "data", "--out", folder / "run", "--preset", "tiny",
           "--micro-batch", "1", "--batch-tokens", "64", "--steps", "2", "--sample-every", "0"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  const Json result = info(folder / "run");
  EXPECT_EQ(result.at("kind"), "run");
  EXPECT_EQ(result.at("steps_planned"), 2);
  EXPECT_EQ(result.at("steps_done"), 2);
  EXPECT_EQ(result.at("last_step").at("step"), 1);
  EXPECT_GT(result.at("last_step").at("loss").get<double>(), 5);
  EXPECT_THAT(run({"info", folder / "run"}).out, HasSubstr("2 of 2 done"));
  EXPECT_EQ(info(folder / "run/model").at("kind"), "model");

  const base::Path checkpoint = folder / "run/checkpoints/step_00000002";
  const Json state = info(checkpoint);
  EXPECT_EQ(state.at("kind"), "checkpoint");
  EXPECT_EQ(state.at("steps_done"), 2);
  EXPECT_EQ(state.at("tokens"), 128);
  EXPECT_EQ(state.at("layers"), 2);
  EXPECT_THAT(run({"info", checkpoint}).out, HasSubstr("2 done, 128 tokens"));
  std::filesystem::remove(checkpoint / "adam_v.safetensors");
  expect_failure(run({"info", checkpoint}), 1, "adam_v.safetensors is missing");
}

TEST(InfoCommand, DescribesASafetensorsFile) {
  const Json result = info(golden("tiny") + "/model.safetensors");
  EXPECT_EQ(result.at("kind"), "safetensors");
  EXPECT_EQ(result.at("tensors"), 28);
  EXPECT_EQ(result.at("metadata").at("format"), "pt");
}

TEST(InfoCommand, WhatItDoesNotKnowIsNamed) {
  const TemporaryFolder folder;
  expect_failure(run({"info", "/no/such/path"}), 1, "/no/such/path: no such file or folder");
  expect_failure(run({"info", folder.path()}), 1, folder.path().string() + ": neither a model");
  base::write_file(folder / "notes.txt", "x");
  expect_failure(run({"info", folder / "notes.txt"}), 1, "expected a model, shard or run folder");
  base::write_file(folder / "cut.bin", "x");
  expect_failure(run({"info", folder / "cut.bin"}), 1, "cut.bin");
  base::write_file(folder / "cut.safetensors", "x");
  expect_failure(run({"info", folder / "cut.safetensors"}), 1, "cut.safetensors");
  std::filesystem::create_directory(folder / "empty");
  std::filesystem::copy(golden("tiny") + "/config.json", folder / "empty/config.json");
  expect_failure(run({"info", folder / "empty"}), 1, "no weights");
}

TEST(InfoCommand, UsageAndHelp) {
  EXPECT_EQ(run({"info"}).code, 2);
  EXPECT_EQ(run({"info", "--no-such-flag", "x"}).code, 2);
  model_testing::expect_help("info", {"PATH", "--json"});
}

}  // namespace
