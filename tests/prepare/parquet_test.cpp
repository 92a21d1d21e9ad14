// Row groups prepared by all threads: the bytes of one thread's work, also after a stop.

#include <gtest/gtest.h>

#include "base/parallel.h"
#include "data/parquet_rows.h"
#include "prepare/helpers.h"

namespace prepare {
namespace {

using data_test::Folder;
using prepare_test::files_in;
using prepare_test::prepare_folder;
using prepare_test::read_split;
using prepare_test::sample_text;

/// Most rows are short, some come twice, some are long, and one is not UTF-8.
std::string text_of(std::int64_t row) {
  if (row % 400 == 399) return sample_text(static_cast<std::uint64_t>(row), 1'400'000);
  if (row == 250) return "caf\xE9";
  return sample_text(static_cast<std::uint64_t>(row % 1000), static_cast<std::size_t>(row % 300));
}

Options options_for(const Folder& folder) {
  return {.inputs = {(folder / "in").string()},
          .out = folder / "out",
          .shard_tokens = 20'000,
          .validation_fraction = 0.2,
          .max_rejected = 0.2,
          .strict_utf8 = true,
          .drop_duplicates = true};
}

TEST(PrepareParquet, GivesTheIdsOfEveryRow) {
  const Folder folder;
  const auto made = data_test::make_parquet_rows(24, text_of);
  folder.write("in/a.parquet", made.file);
  Options options = options_for(folder);
  options.validation_fraction = 0;
  options.drop_duplicates = false;
  options.strict_utf8 = false;
  const Result result = prepare_folder(options);
  std::vector<data::TokenId> expected;
  text::Encoder encoder(text::Tokenizer::gpt2());
  for (const std::string& text : made.good) {
    expected.push_back(50256);
    encoder.encode(text, expected);
  }
  EXPECT_TRUE(read_split(options.out, data::Split::kTrain) == expected);
  EXPECT_EQ(result.manifest.documents, std::ssize(made.good));
  EXPECT_EQ(result.manifest.rejected, static_cast<std::int64_t>(made.broken));
}

TEST(PrepareParquet, WritesTheSameBytesForAnyNumberOfThreads) {
  const Folder folder;
  const auto made = data_test::make_parquet_rows(60, text_of);
  folder.write("in/a.parquet", made.file);
  folder.write("in/b.parquet", made.file);
  Options options = options_for(folder);
  const int threads_before = base::thread_count();
  std::map<std::string, std::string> expected;
  for (const int threads : {1, 2, 3, 7}) {
    base::set_thread_count(threads);
    options.out = folder / ("out" + std::to_string(threads));
    const Result result = prepare_folder(options);
    EXPECT_EQ(result.manifest.rejected, 2 * static_cast<std::int64_t>(made.broken + 1));
    EXPECT_GT(result.manifest.duplicates, std::ssize(made.good));
    EXPECT_GT(result.manifest.train.size(), 50U);
    const auto files = files_in(options.out);
    if (expected.empty()) expected = files;
    EXPECT_TRUE(files == expected) << threads << " threads";
  }
  base::set_thread_count(threads_before);
}

TEST(PrepareParquet, GoesOnInTheMiddleOfARowGroup) {
  const Folder folder;
  folder.write("in/a.parquet", data_test::make_parquet_rows(24, text_of).file);
  Options options = options_for(folder);
  options.shard_tokens = 7000;  // long rows take many shards
  prepare_folder(options);
  const auto expected = files_in(options.out);
  options.out = folder / "stopped";
  for (const double most : {0.0, 0.01, 0.05}) {  // stops at the first broken rows, then later
    options.max_rejected = most;
    EXPECT_THROW(prepare_folder(options), base::Error);
  }
  options.max_rejected = 0.2;
  EXPECT_TRUE(prepare_folder(options).resumed);
  EXPECT_TRUE(files_in(options.out) == expected);
}

}  // namespace
}  // namespace prepare
