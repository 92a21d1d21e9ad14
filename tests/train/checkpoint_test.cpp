// Checkpoints: complete or absent, checked, the newest good one, pruned.

#include "train/checkpoint.h"

#include <gtest/gtest.h>

#include <cctype>
#include <fstream>

#include "expect_error.h"
#include "temporary_folder.h"

namespace train {
namespace {

using testing::HasSubstr;

model::Config small_config() {
  model::Config config;
  config.vocab_size = 10;
  config.context = 4;
  config.channels = 8;
  config.heads = 2;
  config.layers = 1;
  config.end_of_text.reset();
  return config;
}

/// A set whose values all tell the set and the place.
model::ParameterSet filled(float base_value) {
  model::ParameterSet set(small_config());
  float next = base_value;
  set.for_each([&](model::View& view, const model::ParameterInfo& info) {
    const std::int64_t elements =
        info.shape.elements() / info.shape[0] * info.file_rows;  // padding stays zero
    for (std::int64_t i = 0; i < elements; ++i) view.f32()[i] = next += 0.25F;
  });
  return set;
}

std::vector<float> values_of(const model::ParameterSet& set) {
  std::vector<float> values;
  set.for_each([&](const model::View& view, const model::ParameterInfo&) {
    values.insert(values.end(), view.f32(), view.f32() + view.elements());
  });
  return values;
}

class Checkpoints : public testing::Test {
 protected:
  base::Path save(const CheckpointState& state, const std::string& name = "") {
    return save_checkpoint(folder_.path(), state, sets_, name);
  }
  base::Path save(std::int64_t step) {
    return save({step, step * 64, {data::LoaderState{5, 2, 7}}, small_config(), "test", 3});
  }
  void damage(const base::Path& file) {
    std::string content = base::read_file(file);
    content.back() = static_cast<char>(content.back() ^ 1);
    base::write_file(file, content);
  }
  TemporaryFolder folder_;
  model::ParameterSet p_ = filled(1), m_ = filled(1000), v_ = filled(2000);
  std::vector<StateSet> sets_ = {{"parameters", &p_}, {"adam_m", &m_}, {"adam_v", &v_}};
};

TEST_F(Checkpoints, KeepThePlaceInEachFolder) {
  const std::vector<data::LoaderState> loaders = {{5, 2, 7}, {6, 0, 1}};
  const base::Path path = save({1, 64, loaders, small_config(), "test", 3});
  EXPECT_EQ(check_checkpoint(path).loaders, loaders);
  // One folder is kept as it was before there were several.
  const Json json = Json::parse(base::read_file(save(2) / "state.json"));
  EXPECT_EQ(json.at("loader").dump(), R"({"seed":5,"epoch":2,"window":7})");
  EXPECT_FALSE(json.contains("loaders"));
}

TEST_F(Checkpoints, ComeBackAsTheyWere) {
  CheckpointState written{1000, 64000, {{5, 2, 7}}, small_config(), "test", 3};
  written.optimizer = "other";
  written.best = BestLoss{900, 1.0 / 3};
  written.spikes = {{0.1, 1e-30}, {2.0 / 3, 4}, 2};
  const base::Path path = save(written);
  EXPECT_EQ(path, folder_ / "checkpoints" / "step_00001000");
  const CheckpointState state = check_checkpoint(path);
  EXPECT_EQ(state.optimizer, "other");
  EXPECT_EQ(state.best, written.best);
  EXPECT_EQ(state.spikes, written.spikes);
  EXPECT_EQ(state.step, 1000);
  EXPECT_EQ(state.tokens, 64000);
  EXPECT_EQ(state.loaders, (std::vector<data::LoaderState>{{5, 2, 7}}));
  EXPECT_EQ(state.config, small_config());
  EXPECT_EQ(state.backend, "test");
  EXPECT_EQ(state.threads, 3);
  model::ParameterSet p(small_config()), m(small_config()), v(small_config());
  load_checkpoint(path, std::vector<StateSet>{{"parameters", &p}, {"adam_m", &m}, {"adam_v", &v}});
  EXPECT_EQ(values_of(p), values_of(filled(1)));
  EXPECT_EQ(values_of(m), values_of(filled(1000)));
  EXPECT_EQ(values_of(v), values_of(filled(2000)));
}

TEST_F(Checkpoints, TheNewestGoodOneIsChosen) {
  CheckpointState state;
  std::vector<std::string> skipped;
  EXPECT_FALSE(newest_checkpoint(folder_.path(), state, skipped));
  save(5);
  save(30);
  save(200);
  base::create_folders(folder_ / "checkpoints" / "step_00000900.tmp.77");
  base::create_folders(folder_ / "checkpoints" / "step_x");
  EXPECT_EQ(newest_checkpoint(folder_.path(), state, skipped)->step, 200);
  EXPECT_TRUE(skipped.empty());
  damage(folder_ / "checkpoints" / "step_00000200" / "adam_v.safetensors");
  std::filesystem::remove(folder_ / "checkpoints" / "step_00000030" / "adam_m.safetensors");
  EXPECT_EQ(newest_checkpoint(folder_.path(), state, skipped)->step, 5);
  EXPECT_EQ(state.step, 5);
  ASSERT_EQ(skipped.size(), 2U);
  EXPECT_THAT(skipped[0], HasSubstr("adam_v.safetensors: expected checksum "));
  EXPECT_THAT(skipped[1], HasSubstr("adam_m.safetensors"));
}

TEST_F(Checkpoints, NoGoodOneAmongThemIsAnErrorAndNotAFreshStart) {
  const base::Path path = save(5);
  damage(path / "parameters.safetensors");
  CheckpointState state;
  std::vector<std::string> skipped;
  const std::string message = error_of([&] { newest_checkpoint(folder_.path(), state, skipped); });
  EXPECT_THAT(message, HasSubstr("none of the 1 checkpoints can be used"));
}

TEST_F(Checkpoints, RefuseAStateOfAnotherVersionOrShape) {
  const base::Path path = save(5);
  std::string state = base::read_file(path / "state.json");
  const auto replace = [&](const std::string& from, const std::string& to) {
    std::string changed = state;
    changed.replace(changed.find(from), from.size(), to);
    base::write_file(path / "state.json", changed);
    return error_of([&] { check_checkpoint(path); });
  };
  EXPECT_THAT(replace("\"version\": 2", "\"version\": 3"),
              HasSubstr("expected version 1 to 2, got 3"));
  EXPECT_THAT(replace("\"tokens\"", "\"token\""), HasSubstr("broken checkpoint state"));
  EXPECT_THAT(replace("\"n_head\"", "\"heads\""), HasSubstr("broken configuration"));
  EXPECT_THAT(replace("{", "["), HasSubstr("state.json"));
}

/// One bit changed or one byte missing anywhere: every file is told from a whole one.
TEST_F(Checkpoints, TellEveryDamage) {
  const base::Path path = save(5);
  const auto overwrite = [](const base::Path& file, const std::string& content) {
    std::ofstream(file, std::ios::binary) << content;  // nothing here has to be durable
  };
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const std::string whole = base::read_file(entry.path());
    std::vector<std::size_t> places;
    for (std::size_t at = 0; at < whole.size();
         at += std::max<std::size_t>(1, whole.size() / 200)) {
      places.push_back(at);
    }
    for (const std::size_t at : places) {
      if (entry.path().extension() == ".json" && std::isspace(whole[at]) != 0) continue;
      std::string broken = whole;
      broken[at] = static_cast<char>(broken[at] ^ (1 << (at % 7)));
      overwrite(entry.path(), broken);
      EXPECT_NE(error_of([&] { check_checkpoint(path); }), "") << entry.path() << " at " << at;
      overwrite(entry.path(), whole.substr(0, at));
      EXPECT_NE(error_of([&] { check_checkpoint(path); }), "") << entry.path() << " cut at " << at;
    }
    overwrite(entry.path(), whole);
    EXPECT_NO_THROW(check_checkpoint(path));
  }
}

TEST_F(Checkpoints, TheBestAndTheLatestHaveNamesOfTheirOwn) {
  const base::Path first = save(5);
  write_latest(folder_.path(), first);
  link_best(first);
  p_ = filled(7);
  const base::Path second = save(6);
  write_latest(folder_.path(), second);
  EXPECT_EQ(base::read_file(folder_ / "checkpoints" / "latest"), "step_00000006\n");
  EXPECT_EQ(check_checkpoint(folder_ / "checkpoints" / "best").step, 5);
  prune_checkpoints(folder_.path(), 1);
  EXPECT_EQ(check_checkpoint(folder_ / "checkpoints" / "best").step, 5) << "links outlive names";
  save({7, 448, {{5, 2, 7}}, small_config(), "test", 3}, kBestCheckpoint);
  EXPECT_EQ(check_checkpoint(folder_ / "checkpoints" / "best").step, 7);
  ASSERT_EQ(list_checkpoints(folder_.path()).size(), 1U);
  EXPECT_EQ(list_checkpoints(folder_.path()).front().folder, second);
}

TEST_F(Checkpoints, SomeAreKeptForEver) {
  for (const std::int64_t step : {1, 2, 3, 4, 5, 6, 7}) save(step);
  prune_checkpoints(folder_.path(), 2, 3);
  std::vector<std::int64_t> steps;
  for (const Checkpoint& checkpoint : list_checkpoints(folder_.path())) {
    steps.push_back(checkpoint.step);
  }
  EXPECT_EQ(steps, (std::vector<std::int64_t>{3, 6, 7}));
}

TEST_F(Checkpoints, KeepTheNewest) {
  for (const std::int64_t step : {1, 2, 3, 4}) save(step);
  prune_checkpoints(folder_.path(), 0);
  EXPECT_EQ(list_checkpoints(folder_.path()).size(), 4U);
  prune_checkpoints(folder_.path(), 2);
  const auto left = list_checkpoints(folder_.path());
  ASSERT_EQ(left.size(), 2U);
  EXPECT_EQ(left[0].step, 3);
  EXPECT_EQ(left[1].step, 4);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_ / "checkpoints"), {}), 2);
}

TEST_F(Checkpoints, ASecondOneOfTheSameStepReplacesTheFirst) {
  const base::Path path = save(5);
  damage(path / "parameters.safetensors");
  save(5);
  EXPECT_NO_THROW(check_checkpoint(path));
}

TEST_F(Checkpoints, TheRunsModelIsAModelDirectoryWithTheTokenizersFiles) {
  TemporaryFolder tokenizer;
  base::write_file(tokenizer / "vocab.json", "{}");
  base::write_file(tokenizer / "merges.txt", "#version");
  save_run_model(folder_.path(), filled(1), tokenizer.path());
  save_run_model(folder_.path(), filled(3), tokenizer.path());
  EXPECT_EQ(base::read_file(folder_ / "model" / "vocab.json"), "{}");
  EXPECT_EQ(base::read_file(folder_ / "model" / "merges.txt"), "#version");
  EXPECT_EQ(model::read_config(folder_ / "model"), small_config());
  auto model = model::load_model(
      folder_ / "model", kernels::make_backend(kernels::Device::kReference, base::DType::kF32),
      false);
  EXPECT_EQ(values_of(model.parameters()), values_of(filled(3)));
}

}  // namespace
}  // namespace train
