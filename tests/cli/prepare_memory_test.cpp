// The memory of gpt2 prepare, whatever it is given.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/prepare_kill.h"
#include "cli/prepare_run.h"
#include "data/data.h"
#include "data/parquet_writer.h"
#include "temporary_folder.h"

namespace {

namespace fs = std::filesystem;
using prepare_run::prepare;
using prepare_run::Ran;
using prepare_run::repeated;

/// The sanitizers' own memory is several times the program's.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// What prepare.h promises for two threads, in KiB.
constexpr const char* kStatedBound = "ulimit -v 2621440 &&";
constexpr const char* kStatedBoundOfDeduplication = "ulimit -v 3670016 &&";

/// Peak resident bytes of a run.
std::int64_t peak_bytes(const std::vector<std::string>& words) {
  int status = 0;
  rusage usage{};
  const pid_t child = prepare_kill::start(words);
  EXPECT_EQ(::wait4(child, &status, 0, &usage), child);
  EXPECT_EQ(status, 0);
  return usage.ru_maxrss * 1024;
}

TEST(PrepareMemory, DoesNotGrowWithTheInput) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  const std::string line =
      repeated("It is a truth universally acknowledged, that 3 of 4. ", 20'000);
  {
    std::ofstream text(folder / "a.txt");
    std::ofstream lines(folder / "b.jsonl");
    for (int i = 0; i < 100; ++i) text << line << '\n';                         // 106 MB
    for (int i = 0; i < 100; ++i) lines << "{\"text\": \"" << line << "\"}\n";  // 106 MB
  }
  const std::int64_t peak =
      peak_bytes({"prepare", (folder / "a.txt").string(), (folder / "b.jsonl").string(), "--out",
                  (folder / "out").string(), "--quiet", "--threads", "4"});
  EXPECT_LT(peak, std::int64_t{160} << 20);
  RecordProperty("peak_mib", static_cast<int>(peak >> 20));
}

TEST(PrepareMemory, StaysUnderAGibibyteOnHostileInput) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  {
    // The longest stretch without a cut, the longest line, and a great many tiny documents.
    std::ofstream(folder / "a.txt")
        << std::string(8'000'000, 'a') << ' ' << std::string(8'000'000, 'b');
    std::ofstream(folder / "b.jsonl")
        << "{\"text\": \"" << repeated("word ", 13'000'000) << "\"}\n";
    std::ofstream(folder / "c.jsonl") << repeated("{\"text\": \"\"}\n", 1'000'000);
  }
  const std::int64_t peak = peak_bytes({"prepare", folder.path().string(), "--out",
                                        (folder / "out").string(), "--quiet", "--threads", "4"});
  EXPECT_LT(peak, std::int64_t{1} << 30);
  RecordProperty("peak_mib", static_cast<int>(peak >> 20));
}

TEST(PrepareMemory, FitsAnAddressSpaceSmallerThanTheInput) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  {
    std::ofstream text(folder / "a.txt");
    const std::string block = repeated("It is a truth universally acknowledged.\n", 25'000);
    for (int i = 0; i < 600; ++i) text << block;  // 600 MB
  }
  const Ran ran = prepare(folder, "a.txt --out out --quiet --threads 2", "ulimit -v 560000 &&");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
}

TEST(PrepareMemory, KeepsItsBoundWithLinesOfHundredsOfMegabytes) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  const base::Path lines = folder / "a.jsonl";
  constexpr std::int64_t kTooLong = (std::int64_t{1} << 30) + 1000;
  {
    std::ofstream file(lines);
    file << "{\"text\": \"";
    const std::string block = repeated("It is a truth universally acknowledged. ", 25'000);
    for (int i = 0; i < 300; ++i) file << block;  // 300 MB
    file << "\"}\n";
  }
  // A hole in the file is a line of zeros that takes no disk.
  fs::resize_file(lines, fs::file_size(lines) + kTooLong);
  std::ofstream(lines, std::ios::app) << '\n' << repeated("{\"text\": \"short\"}\n", 300);
  const Ran ran = prepare(folder, "a.jsonl --out out --quiet --threads 2", kStatedBound);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(base::read_file(folder / "out/rejected.jsonl"),
              testing::HasSubstr("\"line\":2,\"reason\":\"the line is longer than 1073741824"));
  EXPECT_EQ(data::read_manifest(folder / "out").documents, 301);
}

TEST(PrepareMemory, KeepsItsBoundWithManyDocumentsToRemember) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  {
    std::ofstream file(folder / "a.jsonl");
    for (int i = 0; i < 2'000'000; ++i) file << "{\"text\": \"" << i / 2 << "\"}\n";
  }
  const Ran ran = prepare(folder, "a.jsonl --out out --quiet --threads 2 --dedup exact",
                          kStatedBoundOfDeduplication);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(data::read_manifest(folder / "out").duplicates, 1'000'000);
}

TEST(PrepareMemory, FitsAnAddressSpaceSmallerThanWhatADictionaryUnfolds) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  constexpr int kRows = 1200;
  data_test::ParquetWriter writer;
  writer.dictionary_page(1, data_test::plain(repeated("and so on ", 50'000)));
  // One bit an index; a run of zeros.
  const std::string run = data_test::Thrift::varint(std::uint64_t{kRows} << 1) + '\0';
  writer.data_page(kRows, '\1' + run, 8);
  writer.end_group(kRows);
  base::write_file(folder / "a.parquet", writer.file());  // half a megabyte: 600 MB of text
  const Ran ran = prepare(folder, "a.parquet --out out --quiet --threads 2", "ulimit -v 560000 &&");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(data::read_manifest(folder / "out").documents, kRows);
}

}  // namespace
