// The output folder: taken only when it may be, finished or as it was before.

#include "prepare/output.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "prepare/helpers.h"

namespace prepare {
namespace {

namespace fs = std::filesystem;
using data_test::expect_error_with;
using data_test::Folder;
using prepare_test::files_in;
using prepare_test::names_in;
using testing::ElementsAre;

data::Manifest planned(double fraction = 0.01) {
  data::Manifest manifest;
  manifest.inputs = {{"a.txt", 5, "", 0}};
  manifest.validation_fraction = fraction;
  manifest.text_field = "text";
  manifest.vocab_hash = "0123456789abcdef";
  return manifest;
}

TEST(Output, TakesANewFolderAndGivesItBack) {
  const Folder folder;
  {
    const Output output(folder / "deep/er/out/", planned());
    EXPECT_THAT(names_in(folder / "deep/er/out"), ElementsAre("prepare.json"));
    data_test::write_shard(folder / "deep/er/out/train_000000.bin", {1, 2});
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Output, TakesAnEmptyFolderAndLeavesItEmpty) {
  const Folder folder;
  {
    const Output output(folder.path(), planned());
    data_test::write_shard(folder / "val_000000.bin", {1, 2});
    folder.write("vocab.json", "{}");
    folder.write("merges.txt", "");
  }
  EXPECT_TRUE(fs::exists(folder.path()));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Output, KeepsWhatIsCommitted) {
  const Folder folder;
  {
    Output output(folder / "out", planned());
    data_test::write_shard(folder / "out/train_000000.bin", {1, 2});
    output.commit(planned());
  }
  EXPECT_THAT(names_in(folder / "out"), ElementsAre("manifest.json", "train_000000.bin"));
}

TEST(Output, RefusesAFolderWithOtherFilesAndLeavesIt) {
  const Folder folder;
  folder.write("notes.txt", "mine");
  folder.write("train_000000.bin", "mine too");
  const auto before = files_in(folder.path());
  expect_error_with(folder.path().string() + " already holds other files (",
                    [&] { Output output(folder.path(), planned()); });
  EXPECT_EQ(files_in(folder.path()), before);
}

TEST(Output, RefusesAFile) {
  const Folder folder;
  const auto path = folder.write("out", "mine");
  expect_error_with("cannot write to " + path + ": expected a folder, found a file",
                    [&] { Output output(path, planned()); });
  EXPECT_EQ(base::read_file(path), "mine");
}

/// What a killed run leaves.
void leave_unfinished(const Folder& folder) {
  std::string marker;
  {
    const Output output(folder.path(), planned());
    marker = base::read_file(folder / "prepare.json");
  }
  folder.write("prepare.json", marker);
  folder.write("train_000000.bin", "partial");
  folder.write("train_000001.bin.tmp.4711", "partial");
  folder.write("manifest.json.tmp.4711", "partial");
  folder.write("merges.txt", "partial");
}

TEST(Output, TakesOverWhatAKilledRunLeft) {
  const Folder folder;
  leave_unfinished(folder);
  const Output output(folder.path(), planned());
  EXPECT_THAT(names_in(folder.path()), ElementsAre("prepare.json"));
}

TEST(Output, TakesOverWhatARunLeftThatWasKilledAtOnce) {
  const Folder folder;
  folder.write("prepare.json.tmp.4711", "{");
  EXPECT_NO_THROW(Output(folder.path(), planned()));
}

TEST(Output, RefusesAnUnfinishedRunWithOtherArguments) {
  const Folder folder;
  leave_unfinished(folder);
  const auto before = files_in(folder.path());
  expect_error_with(
      "holds an unfinished run with other val-fraction; choose another folder, or begin "
      "again with --restart",
      [&] { Output output(folder.path(), planned(0.2)); });
  EXPECT_EQ(files_in(folder.path()), before);
  folder.write("prepare.json", "{\"inp");
  expect_error_with("holds an unfinished run with other arguments",
                    [&] { Output output(folder.path(), planned()); });
}

TEST(Output, RefusesAnUnfinishedRunWithForeignFiles) {
  const Folder folder;
  leave_unfinished(folder);
  folder.write("thesis.txt", "mine");
  const auto before = files_in(folder.path());
  expect_error_with("holds an unfinished run and also thesis.txt",
                    [&] { Output output(folder.path(), planned()); });
  EXPECT_EQ(files_in(folder.path()), before);
}

TEST(Output, RefusesAnUnfinishedRunWhoseInputsWereTouched) {
  const Folder folder;
  leave_unfinished(folder);
  data::Manifest touched = planned();
  touched.inputs[0].modified_ns = 5;
  expect_error_with("holds an unfinished run with other input times",
                    [&] { Output output(folder.path(), touched); });
  touched = planned();
  touched.inputs[0].fingerprint = "00";
  expect_error_with("holds an unfinished run with other inputs;",
                    [&] { Output output(folder.path(), touched); });
}

TEST(Output, KeepsWhatHasAState) {
  const Folder folder;
  {
    Output output(folder / "out", planned());
    State state;
    state.records = 17;
    state.train.shards = {{"train_000000.bin", 3, 0xdeadbeef}};
    state.train.open = data::ShardProgress{5, 7};
    output.save(state);
  }
  folder.write("out/train_000000.bin", "complete");
  folder.write("out/train_000001.bin.part", "partial");
  const Output output(folder / "out", planned());
  ASSERT_TRUE(output.state());
  EXPECT_EQ(output.state()->records, 17);
  EXPECT_EQ(output.state()->train.shards[0].crc32c, 0xdeadbeef);
  EXPECT_EQ(output.state()->train.open->tokens, 5);
  EXPECT_THAT(names_in(folder / "out"), ElementsAre("prepare.json", "prepare.state.json",
                                                    "train_000000.bin", "train_000001.bin.part"));
}

TEST(Output, RestartEmptiesWhatIsOurs) {
  const Folder folder;
  leave_unfinished(folder);
  {
    const Output output(folder.path(), planned(0.2), /*restart=*/true);
    EXPECT_THAT(names_in(folder.path()), ElementsAre("prepare.json"));
  }
  leave_unfinished(folder);
  folder.write("thesis.txt", "mine");
  const auto before = files_in(folder.path());
  expect_error_with("also thesis.txt", [&] { Output output(folder.path(), planned(), true); });
  EXPECT_EQ(files_in(folder.path()), before);
}

TEST(Output, KeepsASecondRunOut) {
  const Folder folder;
  const Output output(folder.path(), planned());
  data_test::write_shard(folder / "train_000000.bin", {1, 2});
  expect_error_with(folder.path().string() + " is being written by another process",
                    [&] { Output second(folder.path(), planned()); });
  EXPECT_THAT(names_in(folder.path()), ElementsAre("prepare.json", "train_000000.bin"));
}

TEST(Output, OnAReadOnlyDiskSaysSo) {
  const Folder folder;
  const prepare_test::Mount disk(folder.path(), MS_RDONLY, "");
  if (!disk.mounted()) GTEST_SKIP() << "needs root to mount a read-only tmpfs";
  expect_error_with("Read-only file system", [&] { Output output(folder.path(), planned()); });
  expect_error_with("cannot create folder " + (folder / "out").string() + ": Read-only file system",
                    [&] { Output output(folder / "out", planned()); });
}

TEST(FindFinished, FindsNothingWithoutAManifest) {
  const Folder folder;
  EXPECT_FALSE(find_finished(folder.path(), planned()));
  EXPECT_FALSE(find_finished("/nowhere", planned()));
}

TEST(FindFinished, NamesTheArgumentsThatDiffer) {
  const Folder folder;
  data::write_manifest(folder.path(), planned());
  EXPECT_TRUE(find_finished(folder.path(), planned()));
  data::Manifest other = planned(0.5);
  other.vocab_hash = "ffffffffffffffff";
  expect_error_with("already holds data prepared with other tokenizer and val-fraction; choose",
                    [&] { find_finished(folder.path(), other); });
  other = planned();
  other.inputs[0].bytes = 6;
  expect_error_with("with other inputs;", [&] { find_finished(folder.path(), other); });
}

TEST(FindFinished, KnowsPathsThatAreNotUtf8) {
  const Folder folder;
  data::Manifest odd = planned();
  odd.inputs[0].path = "caf\xE9.txt";
  data::write_manifest(folder.path(), odd);
  EXPECT_TRUE(find_finished(folder.path(), odd));
}

TEST(FindFinished, RefusesADamagedOne) {
  const Folder folder;
  data::Manifest manifest = planned();
  manifest.train = {{"train_000000.bin", 3, 0}};
  data::write_manifest(folder.path(), manifest);
  expect_error_with("is damaged: begin again with --restart",
                    [&] { find_finished(folder.path(), planned()); });
}

TEST(FindFinished, EndsARunKilledAfterItsManifest) {
  const Folder folder;
  data::write_manifest(folder.path(), planned());
  folder.write("prepare.json", arguments_of(planned()).dump());
  EXPECT_TRUE(find_finished(folder.path(), planned()));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("manifest.json"));
}

}  // namespace
}  // namespace prepare
