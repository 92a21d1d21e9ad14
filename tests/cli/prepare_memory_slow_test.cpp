// The same with inputs of gigabytes.

#include <gmock/gmock.h>

#include <fstream>

#include "cli/prepare_memory.h"
#include "data/data.h"

namespace {

using prepare_memory::kMiB;
using prepare_memory::kSanitized;
using prepare_memory::prepare_within;
using prepare_memory::promised;

/// Skips where the folder's disk has less room.
#define NEEDS_ROOM(folder, bytes)                                                \
  if (std::filesystem::space((folder).path()).available < std::uintmax_t{bytes}) \
  GTEST_SKIP() << "needs " << (bytes) << " bytes of disk"

TEST(PrepareAddressSpace, TakesATextOfFiveGigabytes) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  NEEDS_ROOM(folder, 9'000'000'000);
  {
    const std::string page = base::read_file(base::Path(GPT2_SOURCE_DIR) / "docs/design.md");
    std::string block;
    while (block.size() < 5'000'000) block += page;
    std::ofstream text(folder / "a.txt");
    for (std::size_t size = 0; size < 5'000'000'000; size += block.size()) text << block;
  }
  prepare_within(folder, 560 * kMiB, "a.txt --out out --quiet --threads 2");
  EXPECT_EQ(data::read_manifest(folder / "out").documents, 1);
}

TEST(PrepareAddressSpace, ForgetsDocumentsWhenItsSetIsFull) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  NEEDS_ROOM(folder, 3'500'000'000);
  {
    std::ofstream lines(folder / "a.jsonl");
    for (int i = 0; i < 62'000'000; ++i) lines << "{\"text\":\"" << i << "\"}\n";
  }
  const std::string said =
      prepare_within(folder, promised(2) + 1024 * kMiB,
                     "a.jsonl --out out --threads 2 --dedup exact --val-fraction 0");
  EXPECT_THAT(said, testing::HasSubstr("no memory to remember "));
  EXPECT_EQ(data::read_manifest(folder / "out").documents, 62'000'000);
}

}  // namespace
