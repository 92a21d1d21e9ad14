// gpt2 download and gpt2 prepare hf:..., run as a user runs them, against a hub of our own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdlib>

#include "base/file.h"
#include "data/data.h"
#include "hub/fake_hub.h"
#include "temporary_folder.h"

namespace {

namespace fs = std::filesystem;
using hub_testing::FakeHub;
using hub_testing::kCommit;
using hub_testing::ServerReply;
using hub_testing::ServerRequest;
using testing::HasSubstr;
using testing::StartsWith;

struct Ran {
  int code = -1;
  std::string out;
  std::string err;
};

/// Runs `gpt2 words` in `folder` with HF_HOME below it and `environment` set.
Ran run(const FakeHub& hub, const TemporaryFolder& folder, const std::string& words,
        const std::string& environment = "") {
  const TemporaryFolder streams;
  const std::string command =
      "cd '" + folder.path().string() + "' && unset HF_TOKEN HF_HUB_CACHE; HF_HOME='" +
      (folder / "home").string() + "' HF_ENDPOINT=" + hub.settings(folder).endpoint + " " +
      environment + " '" GPT2_BINARY "' " + words + " >'" + (streams / "out").string() + "' 2>'" +
      (streams / "err").string() + "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          base::read_file(streams / "out"), base::read_file(streams / "err")};
}

TEST(DownloadCommand, PrintsTheFolderOfTheModel) {
  FakeHub hub;
  hub.add_model();
  const TemporaryFolder folder;
  const Ran ran = run(hub, folder, "download owner/name");
  EXPECT_EQ(ran.code, 0) << ran.err;
  const std::string snapshot =
      (folder / "home/hub/models--owner--name/snapshots" / kCommit).string();
  EXPECT_EQ(ran.out, snapshot + "\n");
  EXPECT_EQ(ran.err, "gpt2: owner/name at commit 0123456789ab: 4 files, 300 kB downloaded\n");
  EXPECT_EQ(base::read_file(base::Path(snapshot) / "vocab.json"), hub.content("vocab.json"));
  const Ran again = run(hub, folder, "download hf:owner/name -q", "HF_HUB_OFFLINE=1");
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.out, ran.out);
  EXPECT_EQ(again.err, "");
}

TEST(DownloadCommand, CopiesToAFolder) {
  FakeHub hub;
  hub.add_model();
  hub.branches = {{"v1", kCommit}};
  const TemporaryFolder folder;
  const Ran ran = run(hub, folder, "download owner/name --revision v1 --to here/model");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "here/model\n");
  EXPECT_EQ(fs::file_size(folder / "here/model/model.safetensors"), 300'000U);
}

TEST(DownloadCommand, SendsTheTokenOfTheFile) {
  FakeHub hub;
  hub.add_model();
  hub.hub_hook = [](const ServerRequest& request) -> std::optional<ServerReply> {
    if (request.header("authorization") == "Bearer hf_mine") return {};
    return ServerReply{.status = 401};
  };
  const TemporaryFolder folder;
  const Ran refused = run(hub, folder, "download owner/name");
  EXPECT_EQ(refused.code, 1);
  EXPECT_EQ(refused.out, "");
  EXPECT_THAT(refused.err, StartsWith("gpt2: error: model owner/name: it does not exist, or is "
                                      "private or gated (HTTP 401)"));
  EXPECT_EQ(refused.err.find('\n'), refused.err.size() - 1);
  fs::create_directories(folder / "home");
  base::write_file(folder / "home/token", "hf_mine\n");
  EXPECT_EQ(run(hub, folder, "download owner/name").code, 0);
}

TEST(DownloadCommand, SaysWhatItWaitsFor) {
  FakeHub hub;
  hub.add_model();
  std::atomic<int> refused = 0;
  hub.hub_hook = [&](const ServerRequest&) -> std::optional<ServerReply> {
    if (refused++ > 0) return {};
    return ServerReply{.status = 503, .headers = {{"Retry-After", "1"}}};
  };
  const TemporaryFolder folder;
  const Ran ran = run(hub, folder, "download owner/name");
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.err, StartsWith("gpt2: download: HTTP 503; trying again in 1 s\n"));
}

TEST(DownloadCommand, WrongUsageIsCode2) {
  const FakeHub hub;
  const TemporaryFolder folder;
  EXPECT_EQ(run(hub, folder, "download").code, 2);
  EXPECT_EQ(run(hub, folder, "download a/b --what").code, 2);
}

TEST(PrepareCommand, FetchesADataSetAndPreparesIt) {
  FakeHub hub(hub::Kind::kDataset, "books/few");
  hub.add("README.md", "about");
  hub.add("data/a.jsonl", "{\"text\": \"One document.\"}\n{\"text\": \"two\"}\n");
  hub.add("data/b.jsonl", "{\"text\": \"three\"}\n", /*large=*/true);
  hub.add("other/c.jsonl", "{\"text\": \"not this one\"}\n");
  const TemporaryFolder folder;
  base::write_file(folder / "mine.txt", "four");
  const std::string words = "prepare 'hf:books/few:data/*' mine.txt --out out --val-fraction 0";
  const Ran ran = run(hub, folder, words);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("gpt2: books/few at commit 0123456789ab: 2 files, "));
  EXPECT_THAT(ran.err, HasSubstr("gpt2: out: 4 documents, "));
  const data::Manifest manifest = data::read_manifest(folder / "out");
  EXPECT_EQ(manifest.inputs.size(), 3U);
  EXPECT_THAT(manifest.inputs[0].path, testing::EndsWith("/data/a.jsonl"));
  const Ran again = run(hub, folder, words, "HF_HUB_OFFLINE=1");
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("out is already prepared from these inputs"));
}

TEST(TrainTokenizerCommand, LearnsFromADataSet) {
  FakeHub hub(hub::Kind::kDataset, "books/few");
  hub.add("a.jsonl", "{\"text\": \"the the the the then\"}\n");
  const TemporaryFolder folder;
  const Ran ran =
      run(hub, folder, "train-tokenizer hf:books/few --out out --vocab-size 259 --min-frequency 2");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(fs::exists(folder / "out/merges.txt"));
}

TEST(PrepareCommand, LeavesNothingWhereTheDataSetIsAbsent) {
  FakeHub hub(hub::Kind::kDataset, "books/few");
  const TemporaryFolder folder;
  const Ran ran = run(hub, folder, "prepare hf:books/none --out out");
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, StartsWith("gpt2: error: data set books/none: not found on "));
  EXPECT_FALSE(fs::exists(folder / "out"));
}

}  // namespace
