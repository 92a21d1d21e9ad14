// Shapes that may and may not exist; config.json in both directions.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "expect_error.h"
#include "model/model.h"
#include "temporary_folder.h"

namespace {

using model::Config;
using nlohmann::json;
using testing::HasSubstr;

constexpr Config kSmall = {
    .vocab_size = 97, .context = 16, .channels = 32, .heads = 2, .layers = 2, .end_of_text = 96};

TEST(Config, PresetsAreThePublishedSizes) {
  EXPECT_EQ(model::preset("124m").parameter_count(), 124'439'808);
  EXPECT_EQ(model::preset("355m").parameter_count(), 354'823'168);
  EXPECT_EQ(model::preset("774m").parameter_count(), 774'030'080);
  EXPECT_EQ(model::preset("1558m").parameter_count(), 1'557'611'200);
  EXPECT_EQ(model::preset("37m").channels, 384);
  std::int64_t previous = 0;
  for (const std::string& name : model::preset_names()) {
    const Config config = model::preset(name);
    EXPECT_NO_THROW(model::validate(config)) << name;
    EXPECT_GT(config.parameter_count(), previous) << "smallest first";
    previous = config.parameter_count();
  }
  expect_error("unknown preset 125m; expected one of tiny, 37m, 124m, 355m, 774m, 1558m",
               [] { model::preset("125m"); });
}

TEST(Config, TheVocabularyIsPaddedTo128) {
  EXPECT_EQ(Config{}.padded_vocab(), 50304);
  EXPECT_EQ(Config{.vocab_size = 128}.padded_vocab(), 128);
  EXPECT_EQ(Config{.vocab_size = 129}.padded_vocab(), 256);
}

TEST(Config, ValidateNamesTheField) {
  const auto refuse = [](const std::string& message, auto change) {
    Config config = kSmall;
    change(config);
    expect_error("model shape: " + message, [&] { model::validate(config); });
  };
  refuse("vocab size: expected 1 to 65536, got 65537", [](Config& c) { c.vocab_size = 65537; });
  refuse("vocab size: expected 1 to 65536, got 0", [](Config& c) { c.vocab_size = 0; });
  refuse("context: expected 1 to 1048576, got -1", [](Config& c) { c.context = -1; });
  refuse("channels: expected 1 to 65536, got 0", [](Config& c) { c.channels = 0; });
  refuse("heads: expected 1 to 32, got 33", [](Config& c) { c.heads = 33; });
  refuse("layers: expected 1 to 1000, got 1001", [](Config& c) { c.layers = 1001; });
  refuse("channels: expected a multiple of 3 heads, got 32", [](Config& c) { c.heads = 3; });
  refuse("end of text: expected an id from 0 to 96, got 97", [](Config& c) { c.end_of_text = 97; });
}

class ConfigFile : public testing::Test {
 protected:
  json published_ = json::parse(R"({
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 96, "embd_pdrop": 0.1, "eos_token_id": 96, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 16, "n_embd": 32, "n_head": 2,
    "n_layer": 2, "n_positions": 16, "resid_pdrop": 0.1, "summary_activation": null,
    "summary_first_dropout": 0.1, "task_specific_params": {"text-generation": {"max_length": 50}},
    "vocab_size": 97})");

  Config read(const json& config) { return read_text(config.dump()); }
  Config read_text(const std::string& text) {
    base::write_file(folder_ / "config.json", text);
    return model::read_config(folder_.path());
  }
  /// The published file with one key changed (null: removed).
  Config read_with(const std::string& key, const json& value) {
    json config = published_;
    config[key] = value;
    return read(config);
  }
  void refuse(const std::string& key, const json& value, const std::string& message) {
    expect_error((folder_ / "config.json").string() + ": " + message,
                 [&] { read_with(key, value); });
  }
  TemporaryFolder folder_;
};

TEST_F(ConfigFile, ReadsThePublishedForm) { EXPECT_EQ(read(published_), kSmall); }

TEST_F(ConfigFile, OwnFilesReadBack) {
  for (const std::string& name : model::preset_names()) {
    const Config config = model::preset(name);
    EXPECT_EQ(read_text(model::config_json(config)), config);
  }
  EXPECT_EQ(json::parse(model::config_json(kSmall, base::DType::kBf16))["torch_dtype"], "bfloat16");
}

TEST_F(ConfigFile, OwnFilesSayWhatTransformersAsks) {
  const json own = json::parse(model::config_json(kSmall));
  EXPECT_EQ(own["architectures"], json::array({"GPT2LMHeadModel"}));
  EXPECT_EQ(own["model_type"], "gpt2");
  EXPECT_EQ(own["n_ctx"], 16);
  EXPECT_EQ(own["torch_dtype"], "float32");
  EXPECT_EQ(own["layer_norm_epsilon"].get<double>(), 1e-5);
  EXPECT_EQ(own["bos_token_id"], 96);
  EXPECT_EQ(own["eos_token_id"], 96);
  EXPECT_TRUE(own["tie_word_embeddings"].get<bool>());
}

TEST_F(ConfigFile, TakesEquivalentSpellings) {
  EXPECT_EQ(read_with("activation_function", "gelu_pytorch_tanh"), kSmall);
  EXPECT_EQ(read_with("activation_function", nullptr), kSmall);
  EXPECT_EQ(read_with("n_inner", 128), kSmall);
  EXPECT_EQ(read_with("n_inner", nullptr), kSmall);
  EXPECT_EQ(read_with("n_positions", nullptr), kSmall);  // n_ctx, the older name
  EXPECT_EQ(read_with("layer_norm_epsilon", 9.999999747378752e-06), kSmall);  // through a float32
  EXPECT_EQ(read_with("reorder_and_upcast_attn", true), kSmall);
  EXPECT_EQ(read_with("scale_attn_weights", true), kSmall);
  EXPECT_EQ(read_with("model_type", nullptr), kSmall);
}

TEST_F(ConfigFile, RefusesWhatIsNotImplemented) {
  refuse("activation_function", "relu",
         "activation_function: only \"gelu_new\" is implemented, got \"relu\"");
  refuse("activation_function", "gelu",
         "activation_function: only \"gelu_new\" is implemented, got \"gelu\"");
  refuse("n_inner", 64, "n_inner: only 4 n_embd = 128 is implemented, got 64");
  refuse("tie_word_embeddings", false, "tie_word_embeddings: only true is implemented, got false");
  refuse("scale_attn_weights", false, "scale_attn_weights: only true is implemented, got false");
  refuse("scale_attn_by_inverse_layer_idx", true,
         "scale_attn_by_inverse_layer_idx: only false is implemented, got true");
  refuse("add_cross_attention", true, "add_cross_attention: only false is implemented, got true");
  refuse("model_type", "gptj", "model_type: only \"gpt2\" is implemented, got \"gptj\"");
  refuse("layer_norm_epsilon", 1e-6, "layer_norm_epsilon: only 1e-05 is implemented, got 1e-06");
}

TEST_F(ConfigFile, RefusesMissingAndMistypedKeys) {
  for (const char* const key : {"vocab_size", "n_embd", "n_head", "n_layer"}) {
    refuse(key, nullptr, std::string("no ") + key);
    refuse(key, "12", std::string(key) + ": expected a whole number, got \"12\"");
    refuse(key, 1.5, std::string(key) + ": expected a whole number, got 1.5");
  }
  json config = published_;
  config.erase("n_ctx");
  config.erase("n_positions");
  expect_error((folder_ / "config.json").string() + ": no n_positions", [&] { read(config); });
  refuse("tie_word_embeddings", "yes", "tie_word_embeddings: expected true or false, got \"yes\"");
  refuse("layer_norm_epsilon", "1e-5", "layer_norm_epsilon: expected a number, got \"1e-5\"");
  refuse("n_inner", "128", "n_inner: expected a whole number or null, got \"128\"");
  refuse("eos_token_id", "96", "eos_token_id: expected a whole number, got \"96\"");
}

TEST_F(ConfigFile, RefusesShapesThatCannotExist) {
  refuse("n_head", 3, "model shape: channels: expected a multiple of 3 heads, got 32");
  refuse("n_embd", 0, "model shape: channels: expected 1 to 65536, got 0");
  refuse("vocab_size", 18446744073709551615ULL,
         "vocab_size: expected a whole number that fits 63 bits, got 18446744073709551615");
}

TEST_F(ConfigFile, RefusesWhatIsNoJsonObject) {
  expect_error((folder_ / "config.json").string() + ": expected a JSON object, got array",
               [&] { read_text("[]"); });
  EXPECT_THAT(error_of([&] { read_text("{\n\"a\": }"); }), HasSubstr("config.json: not JSON ("));
  EXPECT_THAT(error_of([&] { model::read_config(folder_ / "nowhere"); }), HasSubstr("config.json"));
}

TEST_F(ConfigFile, AnEndOfTextOutsideTheVocabularyMeansNone) {
  // transformers writes 50256 whatever the vocabulary is.
  EXPECT_EQ(read_with("eos_token_id", 50256).end_of_text, std::nullopt);
  EXPECT_EQ(read_with("eos_token_id", nullptr).end_of_text, std::nullopt);
  EXPECT_EQ(read_with("eos_token_id", 5).end_of_text, 5);
  json config = published_;
  config["vocab_size"] = 50257;
  config.erase("eos_token_id");
  EXPECT_EQ(read(config).end_of_text, 50256);
}

}  // namespace
