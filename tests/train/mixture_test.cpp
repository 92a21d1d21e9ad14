// Runs on several folders: what is mixed, resumed, refused.

#include "expect_error.h"
#include "train/checkpoint.h"
#include "train/helpers.h"

namespace train {
namespace {

using testing::HasSubstr;

class MixedRun : public testing::Test {
 protected:
  MixedRun() {
    make_data(folder_ / "a");
    make_data(folder_ / "b", {.train_tokens = 145, .validation_tokens = 25, .seed = 9});
  }
  Options options(const std::string& out, double a = 0.7, double b = 0.3) const {
    Options o = small_run(folder_ / "a", folder_ / out);
    o.data->sources = {{folder_ / "a", a}, {folder_ / "b", b}};
    return o;
  }
  std::vector<StepReport> steps(const std::string& out) const {
    return read_log(folder_ / out / "log.jsonl").steps;
  }
  std::string model_of(const std::string& out) const {
    return base::read_file(folder_ / out / "model" / "model.safetensors");
  }
  TemporaryFolder folder_;
};

TEST_F(MixedRun, TakesWindowsByWeight) {
  Options o = options("run");
  o.checkpoint_every = 15;
  run_steps(o);
  const CheckpointState state = check_checkpoint(folder_ / "run" / "checkpoints" / "step_00000015");
  ASSERT_EQ(state.loaders.size(), 2U);
  EXPECT_EQ(state.loaders[0].epoch * 26 + state.loaders[0].window, 42);  // of 60
  EXPECT_EQ(state.loaders[1].epoch * 18 + state.loaders[1].window, 18);
  EXPECT_EQ(steps("run").size(), 15U);
}

TEST_F(MixedRun, WeightsAreRelative) {
  run_steps(options("run", 0.75, 0.25));
  run_steps(options("again", 3, 1));
  EXPECT_EQ(numbers_of(folder_ / "run"), numbers_of(folder_ / "again"));
  run_steps(options("other", 1, 3));
  EXPECT_NE(numbers_of(folder_ / "run"), numbers_of(folder_ / "other"));
}

TEST_F(MixedRun, ResumesBitForBitAtEveryStep) {
  run_steps(options("whole"));
  Options o = options("run");
  run_steps(o, 1);
  Options again;
  again.out = o.out;
  again.resume = true;  // the folders and weights stand in train.json
  for (int i = 0; i < 14; ++i) run_steps(again, 1);
  EXPECT_EQ(numbers_of(folder_ / "whole"), numbers_of(folder_ / "run"));
  EXPECT_EQ(model_of("whole"), model_of("run"));
}

TEST_F(MixedRun, RecordIsAConfigFile) {
  run_steps(options("run"));
  Options again = read_options(folder_ / "run" / "train.json");
  ASSERT_EQ(again.data->sources.size(), 2U);
  EXPECT_EQ(again.data->sources[1].weight, 0.3);
  again.out = folder_ / "again";
  run_steps(again);
  EXPECT_EQ(numbers_of(folder_ / "run"), numbers_of(folder_ / "again"));
}

TEST_F(MixedRun, ValidationIsAveragedByWeight) {
  const auto validation = [&](const std::string& out, const Options& o) {
    run_steps(o);
    return *steps(out)[0].validation_loss;
  };
  const auto untrained = [](Options o) {
    o.steps = 1;
    o.learning_rate = 0;
    o.validate_every = 1;
    return o;
  };
  const double both = validation("both", untrained(options("both")));
  Options a = untrained(options("only_a"));
  a.data = folder_ / "a";
  Options b = untrained(options("only_b"));
  b.data = folder_ / "b";
  EXPECT_NEAR(both, 0.7 * validation("only_a", a) + 0.3 * validation("only_b", b), 1e-6);
  std::filesystem::remove_all(folder_ / "b");
  make_data(folder_ / "b", {.train_tokens = 145, .validation_tokens = 0, .seed = 9});
  EXPECT_NEAR(validation("without", untrained(options("without"))),
              steps("only_a")[0].validation_loss.value(), 1e-6);
}

TEST_F(MixedRun, AnEpochIsTheWindowsOfAllFolders) {
  Options o = options("run");
  o.steps.reset();
  EXPECT_EQ(Trainer(o).plan().steps, 11);  // 26 + 18 windows, 4 a step
  o.epochs = 2.5;
  EXPECT_EQ(Trainer(o).plan().steps, 28);
}

TEST_F(MixedRun, RefusesToGoOnWithAnotherMixture) {
  run_steps(options("run"), 4);
  const auto resume = [&](const DataMix& data) {
    Options o;
    o.out = folder_ / "run";
    o.resume = true;
    o.data = data;
    return Trainer(o).first_step();
  };
  const auto refusal = [&](const DataMix& data) { return error_of([&] { resume(data); }); };
  const base::Path a = folder_ / "a", b = folder_ / "b";
  DataMix mix(a);
  mix.sources = {{a, 0.6}, {b, 0.4}};
  EXPECT_THAT(refusal(mix), HasSubstr("--data " + a.string() + "=0.6 " + b.string() +
                                      "=0.4 (their tokens or weights differ from the run's)"));
  mix.sources = {{b, 0.7}, {a, 0.3}};
  EXPECT_THAT(refusal(mix), HasSubstr("differ from the run's"));
  EXPECT_THAT(refusal(a), HasSubstr("--data " + a.string() + " (its tokens differ"));
  mix.sources = {{a, 0.7}, {b, 0.3}};
  EXPECT_EQ(resume(mix), 4);
  std::filesystem::rename(b, folder_ / "c");  // the same data elsewhere
  mix.sources[1].folder = folder_ / "c";
  EXPECT_EQ(resume(mix), 4);
}

TEST_F(MixedRun, RefusesWhatCannotBeMixed) {
  const auto refusal = [&](const Options& o) { return error_of([&] { Trainer trainer(o); }); };
  const std::string a = (folder_ / "a").string(), b = (folder_ / "b").string();
  Options o = options("run");
  o.data->sources[1].folder = folder_ / "a" / ".." / "a";
  EXPECT_EQ(refusal(o), "--data names " + a + " twice");
  o = options("run");
  o.context = 160;
  o.batch_tokens = 320;
  EXPECT_THAT(refusal(o),
              HasSubstr(b + ": 145 training tokens are too few for one window of 160 + 1"));
  data::Manifest manifest = data::read_manifest(b);
  manifest.vocab_hash = "fedcba9876543210";
  data::write_manifest(b, manifest);
  EXPECT_EQ(refusal(options("run")),
            a + " and " + b + " were prepared with different tokenizers (vocab_hash " +
                "0123456789abcdef and fedcba9876543210); prepare both with one");
  std::filesystem::remove(folder_ / "b" / "manifest.json");
  EXPECT_THAT(refusal(options("run")),
              HasSubstr(b + " has no manifest.json that says which tokenizer made it"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
}

TEST(DataMix, OfAConfigFileIsAFolderOrAList) {
  const TemporaryFolder folder;
  const auto read = [&](const std::string& value) {
    base::write_file(folder / "c.json", "{\"data\": " + value + "}");
    return read_options(folder / "c.json").data->text();
  };
  EXPECT_EQ(read(R"("x=1")"), "x=1");
  EXPECT_EQ(read(R"([{"folder": "a"}, {"folder": "b", "weight": 0.25}])"), "a=1 b=0.25");
  EXPECT_EQ(read(R"([{"folder": "a", "weight": 7}])"), "a");
  for (const char* value :
       {"1", "[]", "[1]", R"([{"weight": 1}])", R"([{"folder": "a", "weight": "1"}])",
        R"([{"folder": "a", "weight": 0}])"}) {
    EXPECT_THAT(error_of([&] { read(value); }),
                HasSubstr("c.json: key 'data': expected a folder, or a list of {\"folder\": text, "
                          "\"weight\": number above 0}, got "));
  }
}

}  // namespace
}  // namespace train
