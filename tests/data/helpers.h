#pragma once
/// Folders with files, errors by a part of their text, shards of given tokens.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "data/data.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace data_test {

inline constexpr std::int64_t kVocab = 65536;  // ids are uint16

class Folder : public TemporaryFolder {
 public:
  /// Writes a file inside, with the folders it needs, and gives its path.
  std::string write(const base::Path& name, std::string_view content) const {
    std::filesystem::create_directories((path() / name).parent_path());
    base::write_file(path() / name, content);
    return (path() / name).string();
  }
};

/// Expects base::Error whose message is one line and holds `part`.
template <class F>
void expect_error_with(const std::string& part, F&& body) {
  EXPECT_THAT(error_of(body), testing::HasSubstr(part));
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
