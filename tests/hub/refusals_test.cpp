// What the hub refuses, and what the user reads then: one line that says what to do.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "expect_error.h"
#include "hub/cache.h"
#include "hub/fake_hub.h"

namespace {

namespace fs = std::filesystem;
using hub_testing::FakeHub;
using hub_testing::kToken;
using hub_testing::noise;
using hub_testing::ServerReply;
using hub_testing::ServerRequest;
using testing::HasSubstr;

class HubRefusal : public testing::Test {
 protected:
  HubRefusal() { hub_.add_model(); }

  std::string message() {
    return error_of([&] { hub::fetch_model(settings_, spec_, {}); });
  }
  /// Every request whose target holds `part` gets `reply`.
  void answer(const std::string& part, const ServerReply& reply) {
    hub_.hub_hook = [=](const ServerRequest& request) -> std::optional<ServerReply> {
      if (request.target.find(part) == std::string::npos) return {};
      return reply;
    };
  }
  std::string login() const {
    return "put a token from " + settings_.endpoint + "/settings/tokens into HF_TOKEN or " +
           settings_.token_file.string();
  }

  FakeHub hub_;
  TemporaryFolder folder_;
  hub::Settings settings_ = hub_.settings(folder_);
  hub::Spec spec_ = hub_.spec();
};

TEST_F(HubRefusal, OfARepositoryThatIsNotThere) {
  spec_.repository = "owner/other";
  EXPECT_EQ(message(),
            "model owner/other: not found on " + settings_.endpoint +
                " (HTTP 404); check the name and revision 'main', and if it is private, " +
                login());
}

TEST_F(HubRefusal, OfARevisionThatIsNotThere) {
  spec_.revision = "v9";
  EXPECT_EQ(message(), "model owner/name: it has no revision 'v9' (HTTP 404); see " +
                           settings_.endpoint + "/owner/name for its branches");
}

TEST_F(HubRefusal, OfAFileThatWentAway) {
  answer("/resolve/", {.status = 404, .headers = {{"X-Error-Code", "EntryNotFound"}}});
  EXPECT_EQ(message(),
            "model owner/name: it has no file config.json at revision 'main' (HTTP 404)");
}

TEST_F(HubRefusal, WithoutALogin) {
  answer("/api/", {.status = 401, .headers = {{"X-Error-Code", "RepoNotFound"}}});
  EXPECT_EQ(message(),
            "model owner/name: it does not exist, or is private or gated (HTTP 401); check the "
            "name, or " +
                login());
}

TEST_F(HubRefusal, OfAToken) {
  settings_.token = kToken;
  answer("/api/", {.status = 401});
  EXPECT_EQ(message(),
            "model owner/name: the token is refused (HTTP 401); it is read from HF_TOKEN "
            "or " +
                settings_.token_file.string() + ": renew it at " + settings_.endpoint +
                "/settings/tokens");
}

TEST_F(HubRefusal, OfAGatedModel) {
  answer("/resolve/", {.status = 401, .headers = {{"X-Error-Code", "GatedRepo"}}});
  EXPECT_EQ(message(),
            "model owner/name: config.json: access is refused: it is gated or private (HTTP 401); "
            "ask for access at " +
                settings_.endpoint + "/owner/name, then " + login());
  settings_.token = kToken;
  answer("/resolve/", {.status = 403, .headers = {{"X-Error-Code", "GatedRepo"}}});
  EXPECT_EQ(message(),
            "model owner/name: config.json: access is refused: it is gated or private (HTTP 403); "
            "ask for access at " +
                settings_.endpoint + "/owner/name with the account of the token in use");
}

TEST_F(HubRefusal, OfTooManyRequests) {
  answer("/api/", {.status = 429, .headers = {{"Retry-After", "3600"}}});
  EXPECT_EQ(
      message(),
      "model owner/name: too many requests (HTTP 429, asks to wait 3600 s); wait, or " + login());
  EXPECT_EQ(hub_.hub().requests().size(), 1U);
}

TEST_F(HubRefusal, OfAHubInTrouble) {
  answer("/api/", {.status = 502});
  EXPECT_EQ(message(), "model owner/name: " + settings_.endpoint +
                           " is in trouble (HTTP 502); run it again later");
  EXPECT_EQ(hub_.hub().requests().size(), 3U);
}

TEST_F(HubRefusal, OfAHubThatIsNone) {
  answer("/api/", {.body = "<html>Please log in to this hotel's network</html>"});
  EXPECT_EQ(message(), "model owner/name: " + settings_.endpoint +
                           " answers without a commit; is HF_ENDPOINT a hub?");
  answer("/tree/", {.body = R"([{"type": "file", "path": 7}])"});
  EXPECT_EQ(message(), "model owner/name: the list of its files is not as expected; is " +
                           settings_.endpoint + " a hub?");
}

TEST_F(HubRefusal, OfNamesThatLeaveTheCache) {
  const std::string oid(40, 'a');
  answer("/tree/",
         {.body = R"([{"type": "file", "path": "../../evil", "size": 1, "oid": ")" + oid + "\"}]"});
  EXPECT_EQ(message(),
            "model owner/name: the hub lists a file that cannot be kept: '../../evil' "
            "with hash '" +
                oid + "'");
  answer("/tree/",
         {.body = R"([{"type": "file", "path": "a\nb", "size": 1, "oid": ")" + oid + "\"}]"});
  EXPECT_THAT(message(), HasSubstr("cannot be kept: 'a?b' with hash"));
  answer("/tree/",
         {.body = R"([{"type": "file", "path": "x", "size": 1, "oid": "../../../evil"}])"});
  EXPECT_THAT(message(), HasSubstr("cannot be kept: 'x' with hash '../../../evil'"));
}

TEST_F(HubRefusal, OfAFileThatIsNotAsListed) {
  answer("/model.safetensors",
         {.headers = {{"X-Linked-Etag", '"' + std::string(64, 'a') + '"'}}, .body = "x"});
  EXPECT_EQ(message(), "model owner/name: model.safetensors: expected hash " +
                           hub_.hash("model.safetensors") + " as listed, the hub serves " +
                           std::string(64, 'a') + "; try again later");
  answer("/model.safetensors", {.headers = {{"X-Linked-Size", "5"}}, .body = "x"});
  EXPECT_EQ(message(),
            "model owner/name: model.safetensors: expected 300000 bytes as listed, the "
            "hub serves 5; try again later");
  answer("/model.safetensors", {.headers = {{"X-Repo-Commit", std::string(40, 'b')}}, .body = "x"});
  EXPECT_THAT(message(), HasSubstr("expected commit 0123456789abcdef0123456789abcdef01234567, the "
                                   "hub serves " +
                                   std::string(40, 'b')));
}

TEST_F(HubRefusal, OfARedirectThatGoesRound) {
  answer("/api/", {.status = 307, .headers = {{"Location", "/api/again"}}});
  EXPECT_THAT(message(), HasSubstr("redirected more than 10 times"));
  answer("/api/", {.status = 307, .headers = {{"Location", "file:///etc/passwd"}}});
  EXPECT_THAT(message(), HasSubstr(" redirects to 'file:///etc/passwd'"));
}

TEST_F(HubRefusal, OfAMachineWithoutNetwork) {
  settings_.endpoint = "http://127.0.0.1:1";
  EXPECT_THAT(message(), testing::AllOf(HasSubstr("model owner/name: cannot get it from "
                                                  "http://127.0.0.1:1: "),
                                        HasSubstr("; check the network and run it again")));
}

TEST_F(HubRefusal, OfWorkingOffline) {
  settings_.offline = true;
  EXPECT_EQ(message(), "model owner/name: revision 'main' is not complete in the cache " +
                           settings_.cache.string() +
                           ", and HF_HUB_OFFLINE is set; fetch it once with the network");
  EXPECT_TRUE(hub_.hub().requests().empty());
  EXPECT_FALSE(fs::exists(settings_.cache));
}

TEST_F(HubRefusal, OfAFullDisk) {
  fs::create_directories(folder_ / "disk");
  const base::Path disk = folder_ / "disk";
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "needs root to mount a small tmpfs";
  }
  settings_.cache = disk / "hub";
  const std::string before = message();
  ::umount2(disk.c_str(), MNT_DETACH);
  EXPECT_THAT(before,
              testing::AllOf(
                  HasSubstr("model owner/name: no space in " + settings_.cache.string() + ": 300"),
                  HasSubstr(" are free; free some space, or set HF_HOME to a folder on "
                            "another disk")));
}

}  // namespace
