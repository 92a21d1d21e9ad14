// The layout on disk that huggingface_hub shares.

#include "hub/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "hub/fake_hub.h"
#include "hub/select.h"

namespace {

namespace fs = std::filesystem;
using hub_testing::FakeHub;
using hub_testing::kCommit;
using testing::ElementsAre;

TEST(HubCache, IsLaidOutAsHuggingFaceHubs) {
  FakeHub hub;
  hub.add_model();
  const TemporaryFolder folder;
  const hub::Fetched fetched = hub::fetch_model(hub.settings(folder), hub.spec(), {});
  const base::Path model = folder / "hub/models--owner--name";
  EXPECT_EQ(fetched.folder, model / "snapshots" / kCommit);
  EXPECT_EQ(fetched.commit, kCommit);
  EXPECT_THAT(fetched.names,
              ElementsAre("config.json", "merges.txt", "model.safetensors", "vocab.json"));
  EXPECT_EQ(base::read_file(model / "refs/main"), kCommit);
  for (const std::string& name : fetched.names) {
    EXPECT_EQ(fs::read_symlink(fetched.folder / name), "../../blobs/" + hub.hash(name));
    EXPECT_EQ(base::read_file(fetched.folder / name), hub.content(name));
    EXPECT_TRUE(fs::exists(folder / "hub/.locks/models--owner--name" / (hub.hash(name) + ".lock")));
  }
  for (const auto& entry : fs::directory_iterator(model / "blobs")) {
    EXPECT_TRUE(entry.path().extension().empty()) << entry.path();
  }
}

TEST(HubCache, LinksFromFoldersBelowTheSnapshot) {
  FakeHub hub(hub::Kind::kDataset);
  hub.add("data/deep/train.parquet", "PAR1", /*large=*/true);
  const TemporaryFolder folder;
  const hub::Fetched fetched = hub::fetch_dataset(hub.settings(folder), hub.spec(), {});
  EXPECT_EQ(fs::read_symlink(fetched.folder / "data/deep/train.parquet"),
            "../../../../blobs/" + hub.hash("data/deep/train.parquet"));
  EXPECT_EQ(fetched.folder.parent_path().parent_path().filename(), "datasets--owner--name");
}

TEST(HubCache, KeepsTheListOfFilesInHuggingFaceHubsFormat) {
  const TemporaryFolder folder;
  const hub::Cache cache(folder.path(), {});
  const std::string sha1(40, 'a');
  const std::string sha256(64, 'b');
  const base::Path file = cache.folder() / "trees" / (std::string(kCommit) + ".json");
  fs::create_directories(file.parent_path());
  base::write_file(file, R"({"format_version": 1, "files": {
      "x.json": {"size": 5, "blob_id": ")" +
                             sha1 + R"("},
      "y.bin": {"size": 7, "blob_id": ")" +
                             sha1 + R"(", "lfs_sha256": ")" + sha256 +
                             R"(", "lfs_size": 7, "xet_hash": "cc"}}})");
  const auto tree = cache.tree(kCommit);
  ASSERT_TRUE(tree.has_value());
  EXPECT_EQ(tree->at("x.json").hash(), sha1);
  EXPECT_EQ(tree->at("y.bin").hash(), sha256);
  EXPECT_EQ(tree->at("y.bin").size, 7U);
  cache.remember(kCommit, *tree);
  EXPECT_NE(base::read_file(file).find("\"xet_hash\": \"cc\""), std::string::npos);
  EXPECT_EQ(cache.tree(kCommit)->at("y.bin").hash(), sha256);
}

TEST(HubCache, DistrustsListsThatLeadOutOfIt) {
  const TemporaryFolder folder;
  const hub::Cache cache(folder.path(), {});
  const base::Path file = cache.folder() / "trees" / (std::string(kCommit) + ".json");
  fs::create_directories(file.parent_path());
  const std::string entry = R"(": {"size": 5, "blob_id": ")" + std::string(40, 'a') + "\"}}}";
  base::write_file(file, R"({"format_version": 1, "files": {"a/x)" + entry);
  EXPECT_TRUE(cache.tree(kCommit).has_value());
  base::write_file(file, R"({"format_version": 1, "files": {"../../x)" + entry);
  EXPECT_FALSE(cache.tree(kCommit).has_value());
  base::write_file(file, R"({"format_version": 2, "files": {"x)" + entry);
  EXPECT_FALSE(cache.tree(kCommit).has_value());
  base::write_file(file, "{");
  EXPECT_FALSE(cache.tree(kCommit).has_value());
  for (const char* name : {"", "/x", "a/../b", "..", "a//b", "a/", "./a"}) {
    EXPECT_FALSE(hub::is_safe_name(name)) << name;
  }
  EXPECT_TRUE(hub::is_safe_name("a/..b/c.txt"));
}

std::vector<std::string> chosen(hub::Kind kind, const std::string& glob,
                                const std::vector<std::string>& names) {
  hub::Spec spec;
  spec.kind = kind;
  spec.glob = glob;
  return hub::select(spec, names, "it");
}

TEST(HubSelection, TakesAllPartsOfAModelOrItsOneFile) {
  const std::vector<std::string> parts = {"config.json",
                                          "model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors",
                                          "model.fp16.safetensors",
                                          "model.safetensors.index.json",
                                          "pytorch_model.bin",
                                          "sub/model-00001-of-00002.safetensors",
                                          "tokenizer.json"};
  EXPECT_THAT(chosen(hub::Kind::kModel, "", parts),
              ElementsAre("config.json", "model-00001-of-00002.safetensors",
                          "model-00002-of-00002.safetensors", "model.safetensors.index.json",
                          "tokenizer.json"));
  EXPECT_THAT(chosen(hub::Kind::kModel, "",
                     {"config.json", "model-00001-of-00001.safetensors", "model.safetensors",
                      "model.safetensors.index.json"}),
              ElementsAre("config.json", "model.safetensors"));
}

TEST(HubSelection, TakesParquetBeforeJsonlAndWhatTheGlobMatches) {
  const std::vector<std::string> names = {"README.md", "a/1.parquet", "b/2.parquet", "c.jsonl"};
  const auto data = hub::Kind::kDataset;
  EXPECT_THAT(chosen(data, "", names), ElementsAre("a/1.parquet", "b/2.parquet"));
  EXPECT_THAT(chosen(data, "", {"c.jsonl", "d.txt"}), ElementsAre("c.jsonl"));
  EXPECT_THAT(chosen(data, "*.parquet", names), ElementsAre("a/1.parquet", "b/2.parquet"));
  EXPECT_THAT(chosen(data, "a/", names), ElementsAre("a/1.parquet"));
  EXPECT_THAT(chosen(data, "?.jsonl", names), ElementsAre("c.jsonl"));
}

TEST(HubSelection, SaysWhatIsMissing) {
  const auto message = [](hub::Kind kind, const std::string& glob,
                          const std::vector<std::string>& names) {
    return error_of([&] { chosen(kind, glob, names); });
  };
  EXPECT_EQ(message(hub::Kind::kModel, "", {"model.safetensors"}),
            "it: it has no config.json: not a model");
  EXPECT_EQ(message(hub::Kind::kModel, "", {"config.json", "pytorch_model.bin"}),
            "it: it has no weights in safetensors (model.safetensors or "
            "model.safetensors.index.json); choose a repository or revision that has");
  EXPECT_EQ(message(hub::Kind::kDataset, "*.txt", {"a", "b", "c", "d", "e"}),
            "it: no file matches '*.txt'; it holds a, b, c, d and 1 more");
  EXPECT_EQ(message(hub::Kind::kDataset, "", {"a.csv"}),
            "it: it holds neither .parquet nor .jsonl files but a.csv; try its revision "
            "refs/convert/parquet, or name files with ':PATTERN'");
}

}  // namespace
