// What the environment and the names on the command line mean.

#include <gtest/gtest.h>

#include <map>

#include "base/file.h"
#include "expect_error.h"
#include "hub/hub.h"
#include "temporary_folder.h"

namespace {

hub::Settings settings(const std::map<std::string, std::string>& environment) {
  return hub::settings_from([&](const char* name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
  });
}

TEST(HubSettings, HaveHuggingFaceHubsDefaults) {
  const hub::Settings s = settings({{"HOME", "/nowhere/user"}});
  EXPECT_EQ(s.endpoint, "https://huggingface.co");
  EXPECT_EQ(s.cache, "/nowhere/user/.cache/huggingface/hub");
  EXPECT_EQ(s.token_file, "/nowhere/user/.cache/huggingface/token");
  EXPECT_EQ(s.token, "");
  EXPECT_FALSE(s.offline);
}

TEST(HubSettings, FollowTheEnvironment) {
  EXPECT_EQ(settings({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}}).cache, "/x/huggingface/hub");
  EXPECT_EQ(settings({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "/y"}}).cache,
            "/y/hub");
  EXPECT_EQ(settings({{"HOME", "/h"}, {"HF_HOME", "~/z"}}).cache, "/h/z/hub");
  EXPECT_EQ(settings({{"HF_HOME", "/y"}, {"HF_HUB_CACHE", "/w"}}).cache, "/w");
  EXPECT_EQ(settings({{"HOME", "/h"}, {"HF_ENDPOINT", "http://mirror:80/"}}).endpoint,
            "http://mirror:80");
  EXPECT_EQ(settings({{"HOME", "/h"}, {"HF_HUB_DOWNLOAD_TIMEOUT", "2.5"}}).stall_seconds, 2.5);
  for (const char* on : {"1", "true", "YES", "on"}) {
    EXPECT_TRUE(settings({{"HOME", "/h"}, {"HF_HUB_OFFLINE", on}}).offline) << on;
  }
  EXPECT_FALSE(settings({{"HOME", "/h"}, {"HF_HUB_OFFLINE", "0"}}).offline);
}

TEST(HubSettings, FindTheToken) {
  const TemporaryFolder folder;
  base::write_file(folder / "token", "hf_from_file\n");
  const std::string home = folder.path().string();
  EXPECT_EQ(settings({{"HF_HOME", home}}).token, "hf_from_file");
  EXPECT_EQ(settings({{"HF_HOME", home}, {"HF_TOKEN", " hf_given "}}).token, "hf_given");
  EXPECT_EQ(settings({{"HF_HOME", home}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}}).token, "");
  EXPECT_EQ(settings({{"HF_HOME", "/h"}, {"HF_TOKEN_PATH", home + "/token"}}).token,
            "hf_from_file");
}

TEST(HubSettings, RefuseWhatCannotBeUsed) {
  expect_error("the token in HF_TOKEN holds white space or characters that no token has", [] {
    settings({{"HOME", "/h"}, {"HF_TOKEN", "a\r\nX-Evil: 1"}});
  });
  expect_error("HF_ENDPOINT: expected a URL like https://huggingface.co, got 'ftp://x'", [] {
    settings({{"HOME", "/h"}, {"HF_ENDPOINT", "ftp://x"}});
  });
  expect_error("HF_HUB_DOWNLOAD_TIMEOUT: expected seconds, a number above 0, got 'soon'", [] {
    settings({{"HOME", "/h"}, {"HF_HUB_DOWNLOAD_TIMEOUT", "soon"}});
  });
  expect_error("no folder to keep downloads in: HOME is not set; set HF_HOME to one",
               [] { settings({}); });
}

TEST(HubSpec, NamesADataSetItsRevisionAndItsFiles) {
  hub::Spec spec = hub::parse_dataset("hf:krvhrv/crawl-books");
  EXPECT_EQ(spec.kind, hub::Kind::kDataset);
  EXPECT_EQ(spec.repository, "krvhrv/crawl-books");
  EXPECT_EQ(spec.revision, "main");
  EXPECT_EQ(spec.glob, "");
  spec = hub::parse_dataset("hf:o/n@refs/convert/parquet:default/train/*.parquet");
  EXPECT_EQ(spec.repository, "o/n");
  EXPECT_EQ(spec.revision, "refs/convert/parquet");
  EXPECT_EQ(spec.glob, "default/train/*.parquet");
  spec = hub::parse_dataset("hf:squad:data@2/*");
  EXPECT_EQ(spec.repository, "squad");
  EXPECT_EQ(spec.glob, "data@2/*");
}

TEST(HubSpec, RefusesWhatWouldLeaveTheCache) {
  for (const char* name : {"", "a/b/c", "../b", "a/..", "a--b/c", "/a", "a/", "a b/c", "-a/b",
                           "a/b?x", "a/b%2f", "a\t/b"}) {
    EXPECT_NE(error_of([&] {
                hub::parse_model(name, "main");
              }).find("expected OWNER/NAME as on the hub's pages"),
              std::string::npos)
        << name;
  }
  for (const char* revision : {"", "../x", "/x", "x/", "a//b", "x y", "a:b", "refs/.hidden", "."}) {
    EXPECT_NE(error_of([&] {
                hub::parse_model("a/b", revision);
              }).find("is no name of a branch, tag or commit"),
              std::string::npos)
        << revision;
  }
  expect_error("hf:a/b:: expected a pattern of files behind the last ':'",
               [] { hub::parse_dataset("hf:a/b:"); });
}

}  // namespace
