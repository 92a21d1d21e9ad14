#pragma once
/// A folder that goes away, errors by their text, shards of given tokens.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "data/data.h"

namespace data_test {

/// A fresh folder, removed with all it holds.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    static std::atomic<int> count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("gpt2_data_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const base::Path& path() const { return path_; }
  /// Writes a file inside, with the folders it needs, and gives its path.
  std::string write(const base::Path& name, std::string_view content) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    base::write_file(path_ / name, content);
    return (path_ / name).string();
  }

 private:
  base::Path path_;
};

/// Expects base::Error whose message holds `part` and is one line.
template <class F>
void expect_error(const std::string& part, F&& body) {
  try {
    body();
    FAIL() << "expected an error with: " << part;
  } catch (const base::Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(part));
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("\n")));
  }
}

inline std::uint32_t write_shard(const base::Path& path, const std::vector<data::TokenId>& tokens) {
  data::ShardWriter writer(path);
  writer.append(tokens);
  return writer.commit();
}

/// first, first + 1, ... (count of them).
inline std::vector<data::TokenId> counting(int first, int count) {
  std::vector<data::TokenId> tokens(static_cast<std::size_t>(count));
  std::iota(tokens.begin(), tokens.end(), static_cast<data::TokenId>(first));
  return tokens;
}

/// A prepared folder: `total` counting tokens in training shards of `shard_tokens` + 1.
inline void write_prepared(const base::Path& folder, int total, int shard_tokens,
                           int vocab_size = 65536) {
  data::Manifest manifest;
  manifest.shard_tokens = shard_tokens;
  manifest.train_tokens = total;
  manifest.vocab_size = vocab_size;
  for (int first = 0; first == 0 || first + 1 < total; first += shard_tokens) {
    const auto tokens = counting(first, std::min(shard_tokens + 1, total - first));
    data::ShardInfo info;
    info.file = "train_" + std::to_string(100000 + first) + ".bin";
    info.tokens = static_cast<std::int64_t>(tokens.size());
    info.crc32c = write_shard(folder / info.file, tokens);
    manifest.train.push_back(info);
  }
  data::write_manifest(folder, manifest);
}

}  // namespace data_test
