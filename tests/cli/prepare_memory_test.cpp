// Memory stays within the stated bound whatever the inputs are.

#include "cli/prepare_memory.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "data/data.h"
#include "data/parquet_writer.h"

namespace {

namespace fs = std::filesystem;
using prepare_memory::kMiB;
using prepare_memory::kSanitized;
using prepare_memory::prepare_within;
using testing::HasSubstr;

std::string repeated(const std::string& text, std::size_t times) {
  std::string all;
  all.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

TEST(PrepareAddressSpace, HoldsALineOf300Megabytes) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  {
    const std::string block = repeated("It is a truth universally acknowledged. ", 25'000);
    std::ofstream lines(folder / "a.jsonl");
    lines << "{\"text\": \"";
    for (int i = 0; i < 300; ++i) lines << block;
    lines << "\"}\n{\"text\": \"behind it\"}\n";
  }
  // The line once, and what any input takes: a second copy would not fit.
  prepare_within(folder, 650 * kMiB, "a.jsonl --out out --quiet --threads 2 --dedup exact");
  EXPECT_EQ(data::read_manifest(folder / "out").documents, 2);
}

TEST(PrepareAddressSpace, PassesOverALineOfMoreThanAGibibyte) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  const std::uint64_t size = data::kMaxLineBytes + 100;
  {
    std::ofstream lines(folder / "a.jsonl");
    for (int i = 0; i < 200; ++i) lines << "{\"text\": \"before it\"}\n";
  }
  const std::uint64_t before = fs::file_size(folder / "a.jsonl");
  fs::resize_file(folder / "a.jsonl", before + size);  // a hole
  std::ofstream(folder / "a.jsonl", std::ios::app) << "\n{\"text\": \"behind it\"}\n";
  prepare_within(folder, 1400 * kMiB, "a.jsonl --out out --quiet --threads 2");
  const data::Manifest manifest = data::read_manifest(folder / "out");
  EXPECT_EQ(manifest.documents, 201);
  EXPECT_EQ(manifest.rejected, 1);
  EXPECT_THAT(base::read_file(folder / "out/rejected.jsonl"),
              HasSubstr("\"line\":201,\"reason\":\"the line is longer than 1073741824 bytes\""));
}

TEST(PrepareAddressSpace, HoldsTheHashesOfManyDocuments) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  {
    std::ofstream lines(folder / "a.jsonl");
    for (int i = 0; i < 4'000'000; ++i) lines << "{\"text\": \"" << i % 3'000'000 << "\"}\n";
  }
  // 3 million hashes of 16 bytes with room to grow are 64 MiB.
  prepare_within(folder, 400 * kMiB,
                 "a.jsonl --out out --quiet --threads 2 --dedup exact --val-fraction 0");
  const data::Manifest manifest = data::read_manifest(folder / "out");
  EXPECT_EQ(manifest.documents, 3'000'000);
  EXPECT_EQ(manifest.duplicates, 1'000'000);
}

TEST(PrepareAddressSpace, DoesNotHoldWhatADictionaryExpandsTo) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  // Two row groups of 64 kB, each of which says its text 30,000 times over: 3.9 GB of text.
  constexpr std::int64_t kRows = 30'000;
  const std::string text = repeated("universally acknowledged ", 2'600);
  data_test::ParquetWriter writer;
  for (int group = 0; group < 2; ++group) {
    writer.dictionary_page(1, data_test::plain(text));
    // Indices of one bit, all zero, in one run.
    writer.data_page(kRows, "\1" + data_test::Thrift::varint(kRows << 1) + std::string(1, '\0'), 8);
    writer.end_group(kRows);
  }
  base::write_file(folder / "a.parquet", writer.file());
  ASSERT_LT(fs::file_size(folder / "a.parquet"), 300'000U);
  // The ids alone are 600 MB, and each row group's ids half of that.
  prepare_within(folder, 400 * kMiB, "a.parquet --out out --quiet --threads 2");
  EXPECT_EQ(data::read_manifest(folder / "out").documents, 2 * kRows);
}

TEST(PrepareAddressSpace, RejectsAValueOfMoreThanAGibibyte) {
  if (kSanitized) GTEST_SKIP() << "measures the program without sanitizers";
  const TemporaryFolder folder;
  constexpr std::uint32_t kSize = (std::uint32_t{1} << 30) + 1;
  using data_test::Thrift;
  const Thrift kind = Thrift().i32(1, 1).i32(2, 0).i32(3, 3).i32(4, 3);
  data_test::ParquetWriter writer;
  const std::string head =
      Thrift().i32(1, 0).i32(2, kSize + 4).i32(3, kSize + 4).structure(5, kind).bytes() +
      data_test::little_endian(kSize);  // behind it, a hole
  writer.append(head);
  writer.bytes = writer.content_bytes = std::int64_t{kSize} + std::ssize(head);
  writer.end_group(1);
  writer.bytes.reset();
  writer.content_bytes.reset();
  writer.base += kSize;
  writer.data_page(1, data_test::plain("behind it"));
  writer.end_group(1);
  base::write_file(folder / "a.parquet", "PAR1" + head);
  fs::resize_file(folder / "a.parquet", 4 + head.size() + kSize);
  std::ofstream(folder / "a.parquet", std::ios::app)
      << writer.content().substr(head.size()) << writer.footer();
  prepare_within(folder, 1400 * kMiB, "a.parquet --out out --quiet --threads 2 --max-rejected 60%");
  const data::Manifest manifest = data::read_manifest(folder / "out");
  EXPECT_EQ(manifest.documents, 1);
  EXPECT_THAT(base::read_file(folder / "out/rejected.jsonl"),
              HasSubstr("a value of 1073741825 bytes; 1073741824 are the most"));
}

}  // namespace
