// Config files: what is read back, what is refused, what wins.

#include "train/options.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "temporary_folder.h"

namespace train {
namespace {

class ConfigFile : public testing::Test {
 protected:
  Options read(const std::string& content) {
    base::write_file(path(), content);
    return read_options(path());
  }
  base::Path path() const { return folder_ / "config.json"; }
  std::string refusal(const std::string& content) {
    const std::string message = error_of([&] { read(content); });
    const std::string prefix = path().string() + ": ";
    EXPECT_TRUE(message.starts_with(prefix)) << message;
    return message.substr(std::min(prefix.size(), message.size()));
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(ConfigFile, ReadsBackEveryOption) {
  Options o;
  o.data = base::Path("/a/data");
  o.out = "/a/run";
  o.init = "/a/model";
  o.preset = "37m";
  o.layers = 1;
  o.heads = 2;
  o.channels = 3;
  o.context = 4;
  o.vocab_size = 5;
  o.steps = 6;
  o.epochs = 0.3;
  o.micro_batch = 7;
  o.batch_tokens = 8;
  o.learning_rate = 0.1;
  o.min_learning_rate = 1.0 / 3.0;
  o.warmup_steps = 9;
  o.schedule = Schedule::kLinear;
  o.decay_steps = 0.25;
  o.decay_shape = DecayShape::kLinear;
  o.optimizer = model::Optimizer::kMuon;
  o.muon_learning_rate = 0.03;
  o.muon_momentum = 0.9;
  o.ema = 0.99;
  o.weight_decay = 0.2;
  o.beta1 = 0.7;
  o.beta2 = 0.8;
  o.grad_clip = 2.5;
  o.dropout = 0.1;
  o.label_smoothing = 0.05;
  o.z_loss = 1e-4;
  o.precision = base::DType::kF32;
  o.tf32 = false;
  o.recompute = model::Recompute::kBlock;
  o.order = data::Order::kSequential;
  o.validate_every = 10;
  o.sample_every = 11;
  o.histogram_every = 20;
  o.eval_tasks = {"lambada=/a,b/c.jsonl", "hellaswag=/d"};
  o.evaluate_every = 18;
  o.eval_limit = 19;
  o.checkpoint_every = 12;
  o.keep_checkpoints = 13;
  o.keep_every = 15;
  o.spike_guard = false;
  o.spike_window = 116;
  o.spike_z = 4.5;
  o.spike_rollback = 17;
  o.freeze = {"mlp", "h.0.*"};
  o.lora_rank = 18;
  o.lora_alpha = 19;
  o.seed = 0xffffffffffffffffULL;
  o.threads = 14;
  for_each_option([&](const char* name, auto member, OnResume) {
    if (std::string(name) == "max-time") return;
    EXPECT_TRUE((o.*member).has_value()) << name << " is not in this test";
  });
  const Options back = read(options_json(o).dump());
  for_each_option(
      [&](const char* name, auto member, OnResume) { EXPECT_EQ(back.*member, o.*member) << name; });
}

TEST_F(ConfigFile, LeavesAbsentKeysAbsentAndSkipsFacts) {
  const Options o = read(R"({"lr": 1, "facts": {"anything": [1]}})");
  EXPECT_EQ(o.learning_rate, 1.0);
  EXPECT_FALSE(o.steps);
  EXPECT_FALSE(o.data);
}

TEST_F(ConfigFile, NamesWhatIsWrong) {
  EXPECT_TRUE(refusal(R"({"learning-rate": 1})")
                  .starts_with("unknown key 'learning-rate'; expected "
                               "one of data, out, init, "));
  EXPECT_EQ(refusal(R"({"lr": "fast"})"), "key 'lr': expected a number, got \"fast\"");
  EXPECT_EQ(refusal(R"({"steps": 1.5})"), "key 'steps': expected a whole number, got 1.5");
  EXPECT_EQ(refusal(R"({"steps": 18446744073709551615})"),
            "key 'steps': expected a whole number, got 18446744073709551615");
  EXPECT_EQ(refusal(R"({"seed": -1})"), "key 'seed': expected a whole number, got -1");
  EXPECT_EQ(refusal(R"({"threads": 4294967297})"),
            "key 'threads': expected a whole number, got 4294967297");
  EXPECT_EQ(refusal(R"({"order": "random"})"),
            "key 'order': expected one of sequential, shuffled, got \"random\"");
  EXPECT_EQ(refusal(R"({"out": 3})"), "key 'out': expected a string, got 3");
  EXPECT_EQ(refusal("[1]"), "expected a JSON object of options, got something else");
  EXPECT_EQ(refusal("{"), "expected a JSON object of options, got broken JSON");
}

TEST(Overlay, LetsFlagsWin) {
  Options file, flags;
  file.learning_rate = 1.0;
  file.steps = 5;
  flags.learning_rate = 2.0;
  const Options both = overlay(file, flags);
  EXPECT_EQ(both.learning_rate, 2.0);
  EXPECT_EQ(both.steps, 5);
}

TEST(Overlay, ReplacesWhatExcludesOneAnother) {
  Options file, flags;
  file.steps = 5;
  file.preset = "124m";
  file.layers = 12;
  file.context = 64;
  flags.epochs = 1;
  flags.preset = "37m";
  Options both = overlay(file, flags);
  EXPECT_FALSE(both.steps);
  EXPECT_EQ(both.preset, "37m");
  EXPECT_FALSE(both.layers);
  EXPECT_EQ(both.context, 64);
  flags = {};
  flags.init = "model";
  both = overlay(file, flags);
  EXPECT_FALSE(both.preset);
  EXPECT_EQ(both.steps, 5);
  file = both;
  flags = {};
  flags.layers = 3;
  EXPECT_FALSE(overlay(file, flags).init);
}

TEST(Contradictions, NameEachFlagAndBothValues) {
  Options run, given;
  run.learning_rate = 0.5;
  run.steps = 10;
  run.precision = base::DType::kBf16;
  run.validate_every = 3;
  given = run;
  EXPECT_TRUE(contradictions(given, run).empty());
  given.learning_rate = 0.25;
  given.precision = base::DType::kF32;
  given.layers = 2;
  given.validate_every = 4;  // may differ
  given.max_seconds = 5;
  const auto found = contradictions(given, run);
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0], "--layers 2 (the run has none)");
  EXPECT_EQ(found[1], "--lr 0.25 (the run has 0.5)");
  EXPECT_EQ(found[2], "--precision \"fp32\" (the run has \"bf16\")");
}

TEST(Duration, ReadsTheThreeUnits) {
  EXPECT_DOUBLE_EQ(parse_duration("90"), 90);
  EXPECT_DOUBLE_EQ(parse_duration("90s"), 90);
  EXPECT_DOUBLE_EQ(parse_duration("30m"), 1800);
  EXPECT_DOUBLE_EQ(parse_duration("1.5h"), 5400);
}

TEST(Duration, RefusesTheRest) {
  for (const char* text : {"", "m", "-3s", "0", "3d", "3 m", "inf", "nan", "3mm", "1e3s"}) {
    expect_error(
        std::string("max-time: expected a time such as 90s, 30m or 2h, got '") + text + "'",
        [&] { parse_duration(text); });
  }
}

}  // namespace
}  // namespace train
