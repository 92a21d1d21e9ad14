// Parquet files of other writers: every codec, encoding and kind of page against the rows that went
// in, and files that cannot be read.

#include "data/parquet.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "data/damage.h"
#include "data/helpers.h"
#include "data/parquet_helpers.h"

namespace data_test {
namespace {

using data::ParquetFile;
using nlohmann::json;

std::vector<json> lines_of(const base::Path& path) {
  std::ifstream stream(path);
  std::vector<json> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  EXPECT_FALSE(lines.empty()) << path;
  return lines;
}

class HuggingFaceLike : public testing::TestWithParam<const char*> {};

TEST_P(HuggingFaceLike, GivesExactlyTheRowsThatWentIn) {
  const auto expected = lines_of(golden_parquet("hf_like_expected.jsonl"));
  for (const char* column : {"text", "id", "url"}) {
    Rows rows;
    for (const json& line : expected) {
      const json& value = line.at(column);
      rows.push_back(value.is_null() ? std::nullopt : std::optional(value.get<std::string>()));
    }
    EXPECT_TRUE(read_column(golden_parquet(GetParam()), column) == rows) << column;
  }
}

std::string name_without_extension(const testing::TestParamInfo<const char*>& file) {
  return base::Path(file.param).stem();
}

INSTANTIATE_TEST_SUITE_P(Parquet, HuggingFaceLike,
                         testing::Values("hf_like_none_plain_v1.parquet",
                                         "hf_like_snappy_dict_v1.parquet",
                                         "hf_like_zstd_dict_v1.parquet", "hf_like_gzip_v1.parquet",
                                         "hf_like_brotli_v1.parquet", "hf_like_lz4raw_v1.parquet",
                                         "hf_like_zstd_v2_pages.parquet",
                                         "hf_like_delta_length_zstd.parquet",
                                         "hf_like_delta_byte_array_none.parquet",
                                         "hf_like_dict_fallback_to_plain.parquet",
                                         "hf_like_snappy_plain_small_pages_3rowgroups.parquet"),
                         name_without_extension);

TEST(Parquet, ReadsTheFlatColumnsOfParquetTesting) {
  for (const json& line : lines_of(golden_parquet("testing/expected.jsonl"))) {
    const std::string file = line.at("file");
    const Rows rows = read_column(golden_parquet("testing/" + file), line.at("column"));
    std::uint64_t hash = base::fnv1a64({});
    std::int64_t nulls = 0;
    for (const auto& row : rows) {
      const auto size = row ? static_cast<std::uint32_t>(row->size()) : UINT32_MAX;
      hash = base::fnv1a64(std::as_bytes(std::span(&size, 1)), hash);
      hash = base::fnv1a64(base::as_bytes(row.value_or("")), hash);
      nulls += row ? 0 : 1;
    }
    EXPECT_EQ(rows.size(), line.at("rows").get<std::size_t>()) << line;
    EXPECT_EQ(nulls, line.at("nulls").get<std::int64_t>()) << line;
    EXPECT_EQ(fmt::format("{:016x}", hash), line.at("fnv1a64").get<std::string>()) << line;
  }
}

void expect_refused(const std::string& file, const std::string& column, const std::string& reason) {
  const base::Path path = golden_parquet("testing/" + file);
  expect_error_with(path.string() + ": " + reason, [&] { read_column(path, column); });
}

TEST(Parquet, RefusesWhatIsNoFlatColumnOfStrings) {
  expect_refused("nested_lists.snappy.parquet", "a",
                 "column 'a': expected strings, got a list or group; the file has no column of "
                 "strings");
  expect_refused("list_columns.parquet", "utf8_list.list.item",
                 "column 'utf8_list.list.item': expected one string a row, got a repeated column");
  expect_refused("large_string_map.brotli.parquet", "arr", "column 'arr': expected strings, got");
  expect_refused("repeated_no_annotation.parquet", "phoneNumbers.phone.kind",
                 "column 'phoneNumbers.phone.kind': expected one string a row");
  expect_refused("nullable.impala.parquet", "int_map.map.key",
                 "column 'int_map.map.key': expected");
  expect_refused("nonnullable.impala.parquet", "Int_Map.map.key", "column 'Int_Map.map.key': exp");
  expect_refused("rle_boolean_encoding.parquet", "datatype_boolean",
                 "column 'datatype_boolean': expected strings (BYTE_ARRAY), got BOOLEAN");
  expect_refused("dict-page-offset-zero.parquet", "l_partkey",
                 "column 'l_partkey': expected strings (BYTE_ARRAY), got INT32");
  expect_refused("concatenated_gzip_members.parquet", "text",
                 "there is no column 'text'; the file has no column of strings");
  expect_refused("delta_byte_array.parquet", "text",
                 "there is no column 'text'; its columns of strings: 'c_customer_id', "
                 "'c_salutation', 'c_first_name', 'c_last_name', 'c_preferred_cust_flag', "
                 "'c_birth_country', 'c_login', 'c_email_address', ...");
}

TEST(Parquet, RefusesSizesThatContradictEachOther) {
  expect_refused("nation.dict-malformed.parquet", "name",
                 "row group 0, row 0: a page of 28 bytes at byte 438; the row group's pages have "
                 "13 left");
}

constexpr std::int64_t kGroupRows = 30;

Rows nested_rows() {
  Rows rows;
  for (int i = 0; i < 3 * kGroupRows; ++i) {
    std::string text = "row " + std::to_string(i) + ": ";
    for (int k = 0; k < i % 4; ++k) text += "αβγ ";
    rows.push_back(i % 7 == 3 || i % 5 == 2 ? std::nullopt : std::optional(text));
  }
  return rows;
}

TEST(Parquet, ReadsInsideGroupsAndRowGroupsInAnyOrder) {
  const base::Path path = golden_parquet("nested_checksums_3rowgroups.parquet");
  const ParquetFile file(path, "meta.text");
  EXPECT_EQ(file.rows(), 3 * kGroupRows);
  ASSERT_EQ(file.row_groups(), 3U);
  EXPECT_EQ(file.file_bytes(), std::filesystem::file_size(path));
  const Rows expected = nested_rows();
  for (const std::size_t group : {2U, 0U, 1U}) {
    EXPECT_EQ(file.rows_in(group), kGroupRows);
    EXPECT_EQ(file.first_row(group), kGroupRows * static_cast<std::int64_t>(group));
    EXPECT_GT(file.bytes_in(group), 0U);
    EXPECT_LT(file.bytes_in(group), file.file_bytes());
    Rows rows;
    read_group(file, group, rows);
    const auto first = expected.begin() + file.first_row(group);
    EXPECT_EQ(rows, Rows(first, first + kGroupRows));
  }
}

TEST(Parquet, ReadsRowGroupsSideBySideAndAfterTheFileIsGone) {
  std::optional<ParquetFile> file(
      std::in_place, golden_parquet("nested_checksums_3rowgroups.parquet"), "meta.text");
  data::ParquetValues a = file->read(0);
  data::ParquetValues b = file->read(2);
  file.reset();
  const Rows expected = nested_rows();
  std::optional<std::string_view> value;
  for (std::size_t i = 0; i < kGroupRows; ++i) {
    EXPECT_EQ(a.row(), static_cast<std::int64_t>(i));
    ASSERT_TRUE(a.next(value));
    EXPECT_EQ(value, expected[i]);
    ASSERT_TRUE(b.next(value));
    EXPECT_EQ(value, expected[2 * kGroupRows + i]);
  }
  EXPECT_FALSE(a.next(value));
  EXPECT_FALSE(b.next(value));
  EXPECT_EQ(b.row(), 3 * kGroupRows);
}

TEST(Parquet, NamesRowGroupAndRowOfACorruptPageAndReadsTheOthers) {
  const Folder folder;
  std::string bytes = base::read_file(golden_parquet("nested_checksums_3rowgroups.parquet"));
  const std::size_t inside = bytes.find("row 40: ");
  ASSERT_NE(inside, std::string::npos);
  bytes[inside] = 'R';
  const ParquetFile file(folder.write("a.parquet", bytes), "meta.text");
  data::ParquetValues values = file.read(1);
  std::optional<std::string_view> value;
  for (int attempt = 0; attempt < 2; ++attempt) {
    expect_error_with("a.parquet: row group 1, row 30: a page is corrupt: expected checksum ",
                      [&] { values.next(value); });
  }
  Rows rows;
  read_group(file, 0, rows);
  read_group(file, 2, rows);
  Rows expected = nested_rows();
  expected.erase(expected.begin() + kGroupRows, expected.begin() + 2 * kGroupRows);
  EXPECT_EQ(rows, expected);
}

TEST(Parquet, RefusesEveryTruncation) {
  const Folder folder;
  const std::string path =
      folder.write("a.parquet", base::read_file(golden_parquet("testing/sort_columns.parquet")));
  for_each_truncation(
      path, [&](std::size_t) { expect_error_with(path + ": ", [&] { read_column(path, "b"); }); });
}

/// How many of the ways to change a byte of a golden file make reading `column` fail; the others
/// give some rows.
std::size_t refusals(const std::string& name, const std::string& column) {
  const Folder folder;
  const std::string bytes = base::read_file(golden_parquet("testing/" + name));
  const std::string path = folder.write("a.parquet", bytes);
  std::size_t refused = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const int bits : {0x01, 0x80, 0xff}) {
      flip_bits(path, i, bits);
      try {
        read_column(path, column);
      } catch (const base::Error& error) {
        EXPECT_THAT(error.what(), testing::StartsWith(path + ": "));
        ++refused;
      }
      flip_bits(path, i, bits);
    }
  }
  EXPECT_EQ(read_column(path, column), read_column(golden_parquet("testing/" + name), column));
  return refused;
}

TEST(Parquet, SurvivesEveryChangedByte) {
  EXPECT_GT(refusals("sort_columns.parquet", "b"), 300U);
  EXPECT_GT(refusals("hadoop_lz4_compressed.parquet", "c1"), 300U);
  EXPECT_GT(refusals("datapage_v2.snappy.parquet", "a"), 300U);
}

}  // namespace
}  // namespace data_test
