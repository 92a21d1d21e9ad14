// Writing checkpoints in the background: what is written is what was there when it was asked for,
// and trouble is told, not thrown.

#include "train/checkpoint_writer.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "temporary_folder.h"

namespace train {
namespace {

using testing::HasSubstr;

class Writer : public testing::Test {
 protected:
  Writer() {
    config_.vocab_size = 10;
    config_.context = 4;
    config_.channels = 8;
    config_.heads = 2;
    config_.layers = 1;
    config_.end_of_text.reset();
    set_ = model::ParameterSet(config_);
    fill(1);
  }
  void fill(float value) {
    set_.for_each([&](model::View& view, const model::ParameterInfo& info) {
      const std::int64_t elements = info.shape.elements() / info.shape[0] * info.file_rows;
      std::fill_n(view.f32(), elements, value);
    });
  }
  float value_in(const base::Path& checkpoint) {
    model::ParameterSet read(config_);
    load_checkpoint(checkpoint, std::vector<StateSet>{{kParametersSet, &read}});
    return read.wpe.f32()[0];
  }
  CheckpointState state(std::int64_t step) const {
    return {step, step * 64, {data::LoaderState{5, 2, 7}}, config_, "test", 1};
  }
  TemporaryFolder folder_;
  model::Config config_;
  model::ParameterSet set_;
  std::vector<StateSet> sets_ = {{kParametersSet, &set_}};
};

TEST_F(Writer, WritesTheValuesOfTheMomentItWasAsked) {
  CheckpointWriter writer(folder_.path(), {}, std::nullopt);
  for (int step = 1; step <= 5; ++step) {
    fill(static_cast<float>(step));
    writer.write(state(step), sets_, {.numbered = true, .best = step == 2});
    writer.wait_copied();
    fill(-1);  // training goes on
  }
  EXPECT_TRUE(writer.in_background());
  writer.wait();
  const std::vector<WriteResult> results = writer.results();
  ASSERT_EQ(results.size(), 5U);
  for (const WriteResult& result : results) EXPECT_EQ(result.error, "");
  EXPECT_EQ(list_checkpoints(folder_.path()).size(), 3U);
  for (const Checkpoint& checkpoint : list_checkpoints(folder_.path())) {
    EXPECT_NO_THROW(check_checkpoint(checkpoint.folder));
    EXPECT_EQ(value_in(checkpoint.folder), static_cast<float>(checkpoint.step));
  }
  EXPECT_EQ(value_in(folder_ / "checkpoints" / "best"), 2);
  EXPECT_EQ(base::read_file(folder_ / "checkpoints" / "latest"), "step_00000005\n");
}

TEST_F(Writer, WritesInTheForegroundWhereMemoryDoesNotHoldACopy) {
  CheckpointWriter writer(folder_.path(), {}, std::nullopt, [] { return std::uint64_t{1000}; });
  writer.write(state(1), sets_, {.numbered = true});
  EXPECT_FALSE(writer.in_background());
  const auto results = writer.results();
  ASSERT_EQ(results.size(), 1U);
  EXPECT_EQ(results[0].error, "");
  EXPECT_GE(results[0].waited_seconds, results[0].seconds);
  EXPECT_NO_THROW(check_checkpoint(*results[0].folder));
}

TEST_F(Writer, TellsOfTroubleAndTriesAgain) {
  base::write_file(folder_ / "checkpoints", "a file in the way");
  CheckpointWriter writer(folder_.path(), {}, std::nullopt);
  writer.write(state(1), sets_, {.numbered = true});
  writer.wait();
  auto results = writer.results();
  ASSERT_EQ(results.size(), 1U);
  EXPECT_FALSE(results[0].folder);
  EXPECT_THAT(results[0].error, HasSubstr("checkpoints"));
  std::filesystem::remove(folder_ / "checkpoints");
  writer.write(state(2), sets_, {.best = true});
  writer.wait();
  results = writer.results();
  ASSERT_EQ(results.size(), 1U);
  EXPECT_EQ(results[0].error, "");
  EXPECT_EQ(results[0].folder, folder_ / "checkpoints" / "best");
}

}  // namespace
}  // namespace train
