// Transfers that go wrong on the way: cut, stalled, repeated, too long, of another content.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "expect_error.h"
#include "hub/cache.h"
#include "hub/fake_hub.h"

namespace {

namespace fs = std::filesystem;
using hub_testing::FakeHub;
using hub_testing::noise;
using hub_testing::ServerReply;
using hub_testing::ServerRequest;
using testing::EndsWith;
using testing::HasSubstr;

constexpr const char* kWeights = "model.safetensors";

/// A hub with a model, a cache, and what the storage host was asked for.
class HubTransfer : public testing::Test {
 protected:
  HubTransfer() { hub_.add_model(); }

  hub::Fetched fetch() { return hub::fetch_model(settings_, hub_.spec(), report_); }
  std::string weights() const { return hub_.content(kWeights); }
  base::Path blob() const {
    return folder_ / "hub/models--owner--name/blobs" / hub_.hash(kWeights);
  }
  base::Path partial() const { return blob().string() + ".incomplete"; }
  /// Leaves the first bytes of the weights, as an interrupted run does.
  void leave(const std::string& bytes) {
    fs::create_directories(partial().parent_path());
    base::write_file(partial(), bytes);
  }
  /// The Range headers that the storage host saw.
  std::vector<std::string> ranges() {
    std::vector<std::string> result;
    for (const auto& request : hub_.storage().requests()) result.push_back(request.header("range"));
    return result;
  }
  void expect_complete(const hub::Fetched& fetched) {
    EXPECT_TRUE(base::read_file(fetched.folder / kWeights) == weights());
    EXPECT_FALSE(fs::exists(partial()));
  }

  FakeHub hub_;
  TemporaryFolder folder_;
  hub::Settings settings_ = hub_.settings(folder_);
  hub::Report report_;
};

TEST_F(HubTransfer, GoesOnWhereAnEarlierRunStopped) {
  leave(weights().substr(0, 100'000));
  const hub::Fetched fetched = fetch();
  expect_complete(fetched);
  EXPECT_THAT(ranges(), testing::ElementsAre("bytes=100000-"));
  EXPECT_LT(fetched.bytes_received, 200'100U);
}

TEST_F(HubTransfer, NeedsNothingMoreWhereOnlyTheNameWasMissing) {
  leave(weights());
  expect_complete(fetch());
  EXPECT_TRUE(hub_.storage().requests().empty());
}

TEST_F(HubTransfer, GoesOnAfterEachCut) {
  hub_.storage_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    ServerReply reply = FakeHub::ranged(request, weights());
    reply.send_bytes = 70'000;  // five connections: more than may fail in a row
    return reply;
  };
  settings_.attempts = 2;
  expect_complete(fetch());
  EXPECT_THAT(ranges(), testing::ElementsAre("", "bytes=70000-", "bytes=140000-", "bytes=210000-",
                                             "bytes=280000-"));
}

TEST_F(HubTransfer, GivesUpOnAConnectionThatBringsNothing) {
  hub_.storage_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    ServerReply reply = FakeHub::ranged(request, weights());
    reply.send_bytes = request.header("range").empty() ? 1000 : 0;
    return reply;
  };
  const std::string message = error_of([&] { fetch(); });
  EXPECT_THAT(message, HasSubstr("model owner/name: model.safetensors: cannot get it from " +
                                 settings_.endpoint + ": "));
  EXPECT_THAT(message, EndsWith("; check the network and run it again to go on where it stopped"));
  EXPECT_EQ(fs::file_size(partial()), 1000U);
  // One that brings bytes, then as many as may fail in a row.
  EXPECT_EQ(ranges().size(), 1U + static_cast<std::size_t>(settings_.attempts) - 1U);
}

TEST_F(HubTransfer, CutsAStalledConnection) {
  hub_.storage_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    ServerReply reply = FakeHub::ranged(request, weights());
    if (request.header("range").empty()) {
      reply.send_bytes = 5000;
      reply.stall = true;
    }
    return reply;
  };
  settings_.stall_seconds = 1;
  std::string reason;
  report_ = [&](const hub::Progress& progress) { reason += progress.reason; };
  expect_complete(fetch());
  EXPECT_EQ(reason, "nothing came for 1 s");
  EXPECT_THAT(ranges(), testing::ElementsAre("", "bytes=5000-"));
}

TEST_F(HubTransfer, BeginsAgainWhereTheServerKnowsNoRanges) {
  leave(weights().substr(0, 1234));
  hub_.storage_hook = [&](const ServerRequest&) -> std::optional<ServerReply> {
    return ServerReply{.body = weights()};
  };
  expect_complete(fetch());
  EXPECT_THAT(ranges(), testing::ElementsAre("bytes=1234-"));
}

TEST_F(HubTransfer, BeginsAgainWhereTheServerSendsAnotherRange) {
  leave(weights().substr(0, 1234));
  hub_.storage_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    if (request.header("range").empty()) return {};
    return ServerReply{
        .status = 206, .headers = {{"Content-Range", "bytes 0-299999/300000"}}, .body = weights()};
  };
  expect_complete(fetch());
  EXPECT_THAT(ranges(), testing::ElementsAre("bytes=1234-", ""));
}

TEST_F(HubTransfer, BeginsAgainWhereTheServerRefusesTheRange) {
  leave(weights().substr(0, 1234));
  hub_.storage_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    if (request.header("range").empty()) return {};
    return ServerReply{.status = 416};
  };
  expect_complete(fetch());
}

TEST_F(HubTransfer, ThrowsAwayADamagedBeginningOnce) {
  std::string damaged = weights().substr(0, 5000);
  damaged[17] ^= 1;
  leave(damaged);
  expect_complete(fetch());
  EXPECT_THAT(ranges(), testing::ElementsAre("bytes=5000-", ""));
}

TEST_F(HubTransfer, ThrowsAwayABeginningThatIsTooLong) {
  leave(weights() + "more");
  expect_complete(fetch());
}

TEST_F(HubTransfer, RefusesAnotherContent) {
  hub_.storage_hook = [&](const ServerRequest&) -> std::optional<ServerReply> {
    return ServerReply{.body = noise(300'000, 99)};
  };
  EXPECT_EQ(error_of([&] { fetch(); }),
            "model owner/name: model.safetensors: what arrived does not have the hash " +
                hub_.hash(kWeights) + " that the hub lists; it was thrown away, run it again");
  EXPECT_FALSE(fs::exists(partial()));
  EXPECT_FALSE(fs::exists(blob()));
  EXPECT_EQ(hub_.storage().requests().size(), 1U);
}

TEST_F(HubTransfer, RefusesAnotherContentOfASmallFile) {
  hub_.hub_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    if (request.method != "GET" || !request.target.ends_with("/config.json")) return {};
    return ServerReply{.body = std::string(hub_.content("config.json").size(), 'x')};
  };
  EXPECT_THAT(
      error_of([&] { fetch(); }),
      HasSubstr("config.json: what arrived does not have the hash " + hub_.hash("config.json")));
}

TEST_F(HubTransfer, RefusesMoreBytesThanListed) {
  hub_.storage_hook = [&](const ServerRequest&) -> std::optional<ServerReply> {
    return ServerReply{.body = weights() + "!"};
  };
  EXPECT_EQ(error_of([&] { fetch(); }),
            "model owner/name: model.safetensors: the server sends more than the 300000 bytes that "
            "the hub lists; try again later");
  EXPECT_FALSE(fs::exists(blob()));
}

TEST_F(HubTransfer, AsksAgainWhenTheServerEndsEarly) {
  hub_.storage_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    if (!request.header("range").empty()) return {};
    return ServerReply{.body = weights().substr(0, 777)};  // and says that this is all
  };
  expect_complete(fetch());
  EXPECT_THAT(ranges(), testing::ElementsAre("", "bytes=777-"));
}

TEST_F(HubTransfer, WaitsAsLongAsA429Asks) {
  std::atomic<int> refused = 0;
  hub_.hub_hook = [&](const ServerRequest& request) -> std::optional<ServerReply> {
    if (!request.target.ends_with("/config.json") || refused++ > 0) return {};
    return ServerReply{.status = 429, .headers = {{"Retry-After", "1"}}};
  };
  std::vector<hub::Progress> waits;
  report_ = [&](const hub::Progress& progress) {
    if (progress.wait_seconds > 0) waits.push_back(progress);
  };
  expect_complete(fetch());
  ASSERT_EQ(waits.size(), 1U);
  EXPECT_EQ(waits[0].wait_seconds, 1);
  EXPECT_EQ(waits[0].reason, "HTTP 429");
}

TEST_F(HubTransfer, WaitsLongerAfterEachFailure) {
  std::atomic<int> failures = 0;
  hub_.hub_hook = [&](const ServerRequest&) -> std::optional<ServerReply> {
    if (failures++ >= 3) return {};
    return ServerReply{.status = 503};
  };
  settings_.attempts = 4;
  std::vector<double> waits;
  report_ = [&](const hub::Progress& progress) {
    if (progress.wait_seconds > 0) waits.push_back(progress.wait_seconds);
  };
  expect_complete(fetch());
  EXPECT_THAT(waits, testing::ElementsAre(0.01, 0.02, 0.04));
}

TEST_F(HubTransfer, WaitsForAnotherProgramThatFetchesTheSame) {
  const base::Path lock =
      folder_ / "hub/.locks/models--owner--name" / (hub_.hash(kWeights) + ".lock");
  fs::create_directories(lock.parent_path());
  const int held = ::open(lock.c_str(), O_RDWR | O_CREAT, 0666);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  std::thread other;
  report_ = [&](const hub::Progress& progress) {
    if (progress.reason != "another program is fetching model.safetensors") return;
    EXPECT_FALSE(fs::exists(partial()));
    // Once this one sleeps in the lock it ends: its content is there, its lock file gone, as
    // huggingface_hub's are.
    other = std::thread([this, held, lock] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      base::write_file(blob(), weights());
      fs::remove(lock);
      ::close(held);
    });
  };
  expect_complete(fetch());
  ASSERT_TRUE(other.joinable()) << "it did not wait";
  other.join();
  EXPECT_TRUE(hub_.storage().requests().empty());
  EXPECT_TRUE(fs::exists(lock)) << "a lock on a file without a name keeps nobody out";
}

}  // namespace
