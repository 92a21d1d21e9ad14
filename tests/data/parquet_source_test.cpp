// Parquet files as inputs, row group by row group: the same documents whoever reads them and
// wherever reading begins.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "data/data.h"
#include "data/helpers.h"
#include "data/parquet_rows.h"

namespace {

using data_test::Folder;
using data_test::make_parquet_rows;

/// A document, a piece of one, or what is wrong with a record.
struct Row {
  std::string text;
  std::string broken;
  data::Position next;
  base::Hash128 hash;
  bool starts = true;
  bool operator==(const Row&) const = default;
};

std::vector<Row> read_file(const std::string& path, const data::Position& from = {}) {
  data::ReaderOptions options;
  options.hashes = true;
  options.pieces.limit_bytes = 300'000;
  options.accepts = [](std::string_view text) { return !text.ends_with("refused"); };
  data::DocumentReader reader(data::find_inputs({path}), options);
  if (from != data::Position()) reader.seek(from);
  std::vector<Row> all;
  data::Chunk chunk;
  while (reader.next(chunk)) {
    chunk.parse(
        [&](const data::Document& document) {
          all.push_back(
              {std::string(document.text), "", document.next, document.hash, document.starts});
        },
        [&](const data::BrokenRecord& record, const data::Position& next) {
          all.push_back({"", record.what(), next, {}});
        });
  }
  return all;
}

/// Four rows are long, two of them in a row group that the reader itself reads; one of each two is
/// refused, as are short ones.
std::string text_of(std::int64_t row) {
  std::string text = "row " + std::to_string(row);
  if (row == 1003 || row == 1004 || row == 1600 || row == 1604) text += std::string(1'300'000, 'a');
  if (row % 100 == 4 || row % 100 == 5) text += " refused";
  return text;
}

TEST(ParquetSource, GivesEveryRowWithItsNumber) {
  const Folder folder;
  const auto made = make_parquet_rows(24, text_of);
  const std::string path = folder.write("a.parquet", made.file);
  const auto read = read_file(path);
  std::vector<std::string> good;
  std::size_t broken = 0;
  std::size_t refused = 0;
  for (const Row& each : read) {
    if (each.broken.empty()) {
      if (each.starts) good.emplace_back();
      good.back() += each.text;
      continue;
    }
    const std::string row = std::to_string(each.next.record);
    if (each.broken == path + ":" + row + ": not accepted") {
      ++refused;
      EXPECT_TRUE(text_of(each.next.record - 1).ends_with("refused"));
    } else {
      ++broken;
      const std::int64_t group = (each.next.record - 1) / 80;
      EXPECT_EQ(each.broken, path + ":" + row + ": " + path + ": row group " +
                                 std::to_string(group) + ", row " +
                                 std::to_string(group * 80 + 40) +
                                 ": definition levels of 2 bytes in a page of 5");
    }
  }
  EXPECT_EQ(broken, made.broken);
  std::vector<std::string> expected;
  for (const std::string& text : made.good) {
    if (!text.ends_with("refused")) expected.push_back(text);
  }
  EXPECT_TRUE(good == expected);
  EXPECT_EQ(refused, made.good.size() - expected.size());
  EXPECT_GT(refused, 4U);
}

TEST(ParquetSource, GoesOnBehindEveryRecordAndPiece) {
  const Folder folder;
  const std::string path = folder.write("a.parquet", make_parquet_rows(24, text_of).file);
  const auto read = read_file(path);
  std::size_t in_pieces = 0;
  for (std::size_t i = 1; i < read.size(); ++i) {
    const bool in_piece = read[i - 1].next.text_offset != 0;
    in_pieces += in_piece ? 1 : 0;
    if (!in_piece && i % 37 != 0) continue;
    const auto rest = read_file(path, read[i - 1].next);
    EXPECT_TRUE(rest == std::vector<Row>(read.begin() + static_cast<std::ptrdiff_t>(i), read.end()))
        << "from " << i;
  }
  EXPECT_EQ(in_pieces, 8U);  // two rows of five pieces
}

TEST(ParquetSource, PassesOverRowGroupsWithoutReadingThem) {
  const Folder folder;
  auto made = make_parquet_rows(24, text_of);
  const std::string path = folder.write("a.parquet", made.file);
  const auto read = read_file(path);
  std::size_t from = 0;
  while (read[from].next.record < 22 * 80 + 3) ++from;
  std::fill(made.file.begin() + 4, made.file.begin() + std::ssize(made.file) / 2, '\xff');
  folder.write("a.parquet", made.file);
  EXPECT_TRUE(read_file(path, read[from].next) ==
              std::vector<Row>(read.begin() + static_cast<std::ptrdiff_t>(from) + 1, read.end()));
}

TEST(ParquetSource, RefusesPagesThatTheFooterDeniesWhereThreadsReadThem) {
  const Folder folder;
  data_test::ParquetWriter writer;
  writer.data_page(1, data_test::plain("fits"));
  writer.data_page(1, data_test::plain("not"), 0, std::int64_t{50} << 20);
  writer.end_group(2);
  writer.data_page(1, data_test::plain("next"));
  writer.end_group(1);
  const std::string path = folder.write("a.parquet", writer.file());
  const auto read = read_file(path);
  ASSERT_EQ(read.size(), 3U);
  EXPECT_EQ(read[0].text, "fits");
  EXPECT_TRUE(read[1].broken.find("row group 0, row 1: a page of 52428800 bytes; the footer says "
                                  "that all of its pages have ") != std::string::npos)
      << read[1].broken;
  EXPECT_EQ(read[2].text, "next");
}

}  // namespace
