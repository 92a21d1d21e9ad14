// Fetching from a hub that behaves: what is asked, what is not asked twice, who gets the token.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "hub/cache.h"
#include "hub/fake_hub.h"

namespace {

namespace fs = std::filesystem;
using hub_testing::FakeHub;
using hub_testing::kCommit;
using hub_testing::kToken;
using hub_testing::noise;
using hub_testing::ServerReply;
using hub_testing::ServerRequest;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(HubFetch, GivesTheTokenToTheHubAlone) {
  FakeHub hub;
  hub.add_model();
  const TemporaryFolder folder;
  hub::Settings settings = hub.settings(folder);
  settings.token = kToken;
  hub::fetch_model(settings, hub.spec(), {});
  ASSERT_FALSE(hub.hub().requests().empty());
  for (const ServerRequest& request : hub.hub().requests()) {
    EXPECT_EQ(request.header("authorization"), std::string("Bearer ") + kToken) << request.target;
  }
  ASSERT_EQ(hub.storage().requests().size(), 1U);
  EXPECT_EQ(hub.storage().requests()[0].header("authorization"), "");
  EXPECT_EQ(hub.storage().requests()[0].header("accept-encoding"), "identity");
}

TEST(HubFetch, GivesNoTokenToAnotherPortOfTheSameName) {
  FakeHub hub;
  hub.add("config.json", "{}");
  hub.add("model.safetensors", noise(100, 1), /*large=*/true);
  hub.hub_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    if (request.method == "HEAD" || !request.target.ends_with("model.safetensors")) return {};
    return ServerReply{.status = 307,
                       .headers = {{"Location", hub.storage().url() + "/store/model.safetensors"}}};
  };
  const TemporaryFolder folder;
  hub::Settings settings = hub.settings(folder);
  settings.token = kToken;
  hub::fetch_model(settings, hub.spec(), {});
  ASSERT_EQ(hub.storage().requests().size(), 1U);
  EXPECT_EQ(hub.storage().requests()[0].header("authorization"), "");
}

TEST(HubFetch, FollowsTheHubsOwnRelativeRedirects) {
  FakeHub hub;
  hub.add_model();
  hub.hub_hook = [](const ServerRequest& request) -> std::optional<ServerReply> {
    const std::string old = "/api/models/name/";
    if (request.target.starts_with(old)) {
      return ServerReply{
          .status = 307,
          .headers = {{"Location", "/api/models/owner/name/" + request.target.substr(old.size())}}};
    }
    if (request.target.starts_with("/name/")) {
      return ServerReply{.status = 307, .headers = {{"Location", "/owner" + request.target}}};
    }
    return {};
  };
  const TemporaryFolder folder;
  hub::Spec spec = hub.spec();
  spec.repository = "name";  // as models were called before they had owners
  const hub::Fetched fetched = hub::fetch_model(hub.settings(folder), spec, {});
  EXPECT_EQ(base::read_file(fetched.folder / "config.json"), hub.content("config.json"));
  EXPECT_THAT(fetched.folder.string(), HasSubstr("models--name/"));
}

TEST(HubFetch, ReadsAListOfManyPages) {
  FakeHub hub(hub::Kind::kDataset);
  for (int i = 10; i < 21; ++i) hub.add("train-" + std::to_string(i) + ".parquet", noise(10, 1));
  hub.page_files = 4;
  const TemporaryFolder folder;
  const hub::Fetched fetched = hub::fetch_dataset(hub.settings(folder), hub.spec(), {});
  EXPECT_EQ(fetched.names.size(), 11U);
  EXPECT_EQ(hub.hub().count("GET", "/tree/"), 3);
  EXPECT_EQ(fetched.paths().back(), fetched.folder / "train-20.parquet");
  // Equal contents are one blob, and come once.
  EXPECT_EQ(hub.hub().count("GET", "/resolve/"), 1);
}

TEST(HubFetch, AsksOnlyForTheCommitWhenAllIsThere) {
  FakeHub hub;
  hub.add_model();
  const TemporaryFolder folder;
  EXPECT_GT(hub::fetch_model(hub.settings(folder), hub.spec(), {}).bytes_received, 300'000U);
  const std::size_t before = hub.hub().requests().size();
  const hub::Fetched again = hub::fetch_model(hub.settings(folder), hub.spec(), {});
  EXPECT_EQ(again.bytes_received, 0U);
  EXPECT_EQ(hub.hub().requests().size(), before + 1);
  hub::Spec commit = hub.spec();
  commit.revision = kCommit;
  EXPECT_EQ(hub::fetch_model(hub.settings(folder), commit, {}).names, again.names);
  EXPECT_EQ(hub.hub().requests().size(), before + 1) << "a commit never changes";
}

TEST(HubFetch, FindsABranchWithSlashesInItsName) {
  FakeHub hub;
  hub.add_model();
  hub.branches = {{"refs%2Fpr%2F1", kCommit}};
  const TemporaryFolder folder;
  hub::Spec spec = hub.spec();
  spec.revision = "refs/pr/1";
  hub::fetch_model(hub.settings(folder), spec, {});
  EXPECT_EQ(base::read_file(folder / "hub/models--owner--name/refs/refs/pr/1"), kCommit);
}

TEST(HubFetch, FetchesNamesThatUrlsSpellDifferently) {
  FakeHub hub(hub::Kind::kDataset);
  const std::string name = "a b/100% #1?.jsonl";
  hub.add(name, "{}");
  hub.hub_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    if (request.target.find("/resolve/") == std::string::npos) return {};
    EXPECT_THAT(request.target, testing::EndsWith("/a%20b/100%25%20%231%3F.jsonl"));
    return FakeHub::ranged(request, hub.content(name));
  };
  const TemporaryFolder folder;
  const hub::Fetched fetched = hub::fetch_dataset(hub.settings(folder), hub.spec(), {});
  EXPECT_THAT(fetched.names, ElementsAre(name));
  EXPECT_EQ(base::read_file(fetched.paths()[0]), "{}");
}

TEST(HubFetch, TakesEmptyFilesWithoutAskingForTheirBytes) {
  FakeHub hub(hub::Kind::kDataset);
  hub.add("empty.jsonl", "");
  const TemporaryFolder folder;
  const hub::Fetched fetched = hub::fetch_dataset(hub.settings(folder), hub.spec(), {});
  EXPECT_EQ(fs::file_size(fetched.paths()[0]), 0U);
}

TEST(HubFetch, ReportsHowFarItIs) {
  FakeHub hub;
  hub.add_model();
  const TemporaryFolder folder;
  std::vector<hub::Progress> seen;
  hub::fetch_model(hub.settings(folder), hub.spec(),
                   [&](const hub::Progress& progress) { seen.push_back(progress); });
  ASSERT_GE(seen.size(), 8U);  // the begin and end of each of four files
  std::uint64_t total = 0;
  for (const char* name : {"config.json", "merges.txt", "model.safetensors", "vocab.json"}) {
    total += hub.content(name).size();
  }
  EXPECT_EQ(seen.front().bytes_done, 0U);
  EXPECT_EQ(seen.front().file, "config.json");
  for (const hub::Progress& progress : seen) {
    EXPECT_EQ(progress.bytes_total, total);
    EXPECT_EQ(progress.files_total, 4U);
    EXPECT_LE(progress.bytes_done, total);
  }
  EXPECT_EQ(seen.back().bytes_done, total);
  EXPECT_EQ(seen.back().bytes_received, total);
}

TEST(HubFetch, ServesFromTheCacheWhenOffline) {
  FakeHub hub;
  hub.add_model();
  const TemporaryFolder folder;
  hub::Settings settings = hub.settings(folder);
  const hub::Fetched online = hub::fetch_model(settings, hub.spec(), {});
  const std::size_t asked = hub.hub().requests().size();
  settings.offline = true;
  const hub::Fetched offline = hub::fetch_model(settings, hub.spec(), {});
  EXPECT_EQ(offline.folder, online.folder);
  EXPECT_EQ(offline.names, online.names);
  EXPECT_EQ(hub.hub().requests().size(), asked);
}

TEST(HubFetch, ServesFromTheCacheWhenTheHubIsAway) {
  const TemporaryFolder folder;
  hub::Settings settings;
  std::vector<std::string> names;
  {
    FakeHub hub;
    hub.add_model();
    settings = hub.settings(folder);
    names = hub::fetch_model(settings, hub.spec(), {}).names;
  }
  hub::Spec spec;
  spec.repository = "owner/name";
  int waits = 0;
  const hub::Fetched fetched =
      hub::fetch_model(settings, spec, [&](const hub::Progress&) { ++waits; });
  EXPECT_EQ(fetched.names, names);
  EXPECT_EQ(waits, 1) << "who has all of it waits once";
  EXPECT_THAT(fetched.unreachable, HasSubstr("cannot get it from " + settings.endpoint));
}

TEST(HubFetch, TakesNoHalfSnapshotForAWholeOne) {
  FakeHub hub;
  hub.add_model();
  const TemporaryFolder folder;
  hub::Settings settings = hub.settings(folder);
  const hub::Fetched fetched = hub::fetch_model(settings, hub.spec(), {});
  fs::remove(fetched.folder / "model.safetensors");
  settings.offline = true;
  EXPECT_EQ(error_of([&] { hub::fetch_model(settings, hub.spec(), {}); }),
            "model owner/name: revision 'main' is not complete in the cache " +
                settings.cache.string() +
                ", and HF_HUB_OFFLINE is set; fetch it once with the network");
  settings.offline = false;
  // The content is still there: only the link is made.
  EXPECT_EQ(hub::fetch_model(settings, hub.spec(), {}).bytes_received, 0U);
  EXPECT_TRUE(fs::exists(fetched.folder / "model.safetensors"));
}

TEST(HubFetch, TrustsASnapshotWithoutAListOnlyWhenOffline) {
  FakeHub hub(hub::Kind::kDataset);
  hub.add("a.jsonl", "{}");
  hub.add("b.jsonl", "{ }");
  const TemporaryFolder folder;
  hub::Settings settings = hub.settings(folder);
  hub::Spec spec = hub.spec();
  spec.revision = kCommit;
  hub.branches[kCommit] = kCommit;
  const hub::Fetched fetched = hub::fetch_dataset(settings, spec, {});
  fs::remove_all(folder / "hub/datasets--owner--name/trees");
  fs::remove(fetched.folder / "b.jsonl");
  settings.offline = true;
  EXPECT_THAT(hub::fetch_dataset(settings, spec, {}).names, ElementsAre("a.jsonl"));
  settings.offline = false;
  EXPECT_THAT(hub::fetch_dataset(settings, spec, {}).names, ElementsAre("a.jsonl", "b.jsonl"));
}

TEST(HubFetch, LooksForNewFilesWhereTheOldCommitHadNone) {
  FakeHub hub(hub::Kind::kDataset);
  hub.add("a.jsonl", "{}");
  const TemporaryFolder folder;
  hub::Settings settings = hub.settings(folder);
  hub::fetch_dataset(settings, hub.spec(), {});
  hub::Spec spec = hub.spec();
  spec.glob = "*.txt";
  const std::string none = "data set owner/name: no file matches '*.txt'; it holds a.jsonl";
  settings.offline = true;
  EXPECT_EQ(error_of([&] { hub::fetch_dataset(settings, spec, {}); }), none);
  settings.offline = false;
  const std::size_t asked = hub.hub().requests().size();
  EXPECT_EQ(error_of([&] { hub::fetch_dataset(settings, spec, {}); }), none);
  EXPECT_EQ(hub.hub().requests().size(), asked + 1);
}

TEST(HubFetch, CopiesOutOfTheCache) {
  FakeHub hub;
  hub.add_model();
  const TemporaryFolder folder;
  const hub::Fetched fetched = hub::fetch_model(hub.settings(folder), hub.spec(), {});
  fs::create_directories(folder / "out");
  base::write_file(folder / "out/config.json", "old");
  hub::copy_to(fetched, folder / "out");
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder / "out")) {
    EXPECT_FALSE(fs::is_symlink(entry.symlink_status())) << entry.path();
    EXPECT_EQ(base::read_file(entry.path()), hub.content(entry.path().filename().string()));
    ++files;
  }
  EXPECT_EQ(files, 4);
}

}  // namespace
