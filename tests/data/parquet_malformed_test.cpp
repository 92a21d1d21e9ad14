// Parquet files made byte by byte: what no writer at hand writes, and what none should.

#include <zstd.h>

#include <fstream>

#include "data/helpers.h"
#include "data/parquet_helpers.h"
#include "data/parquet_writer.h"

namespace data_test {
namespace {

using data::ParquetFile;
using testing::ElementsAre;

/// Expects reading `bytes` to fail with "FILE: `message`".
void expect_malformed(const std::string& bytes, const std::string& message,
                      const std::string& column = "text") {
  const Folder folder;
  const std::string path = folder.write("a.parquet", bytes);
  expect_error_with(path + ": " + message, [&] { read_column(path, column); });
}

/// The same for one row group with one page of one row, plain unless `encoding` says otherwise.
void expect_bad_page(const std::string& payload, const std::string& message, int encoding = 0,
                     std::int64_t rows = 1) {
  ParquetWriter writer;
  writer.dictionary_page(2, plain("yes") + plain("no"));
  writer.data_page(rows, payload, encoding);
  writer.end_group(rows);
  expect_malformed(writer.file(), "row group 0, row 0: " + message);
}

Rows rows_of(const ParquetWriter& writer) {
  const Folder folder;
  return read_column(folder.write("a.parquet", writer.file()));
}

TEST(ParquetMade, ReadsPlainAndDictionaryPages) {
  ParquetWriter writer;
  writer.dictionary_page(3, plain("zero") + plain("") + plain("two"));
  writer.data_page(4, std::string("\x02\x04\x02\x03\x01\x00", 6), 8);  // 2, 2; packed 1, 0
  writer.data_page(0, "", 0);
  writer.data_page(1, plain("plain"));
  writer.end_group(5);
  writer.end_group(0);
  writer.data_page(1, plain("last"));
  writer.end_group(1);
  EXPECT_THAT(rows_of(writer), ElementsAre("two", "two", "", "zero", "plain", "last"));
}

TEST(ParquetMade, ReadsAFileWithoutRows) { EXPECT_THAT(rows_of(ParquetWriter()), ElementsAre()); }

TEST(ParquetMade, ReadsPageHeadersOfAnyLength) {
  ParquetWriter writer;
  writer.set_statistics(std::string(300'000, 's'));
  writer.data_page(1, plain("a"));
  writer.data_page(1, plain("b"));
  writer.end_group(2);
  EXPECT_THAT(rows_of(writer), ElementsAre("a", "b"));
}

TEST(ParquetMade, ReadsBeyondFourGibibytes) {
  constexpr std::int64_t kFar = (std::int64_t{1} << 32) + 12'345;
  ParquetWriter writer;
  writer.base = kFar;
  writer.data_page(1, plain("near the end"));
  writer.end_group(1);
  const Folder folder;
  const base::Path path = folder / "far.parquet";
  {
    std::ofstream stream(path, std::ios::binary);
    stream << "PAR1";
    stream.seekp(kFar);  // a hole
    stream << writer.content() << writer.footer();
  }
  EXPECT_THAT(read_column(path), ElementsAre("near the end"));
}

TEST(ParquetMalformed, NamesWhatIsNoParquetFile) {
  expect_malformed("", "0 bytes are too few for a Parquet file");
  expect_malformed("{\"text\": \"not Parquet\"}",
                   "not a complete Parquet file: expected 'PAR1' at its start and end, got '{\"te' "
                   "and 'et\"}'");
  const std::string whole = ParquetWriter().file();
  expect_malformed(whole.substr(0, whole.size() - 1), "not a complete Parquet file");
  expect_malformed("PARE" + std::string(8, '\0') + "PARE", "the file is encrypted");
  expect_malformed("PAR1" + little_endian(5) + "PAR1", "expected a footer of 5 bytes");
  expect_malformed("PAR1" + little_endian(UINT32_MAX) + "PAR1", "expected a footer of 4294967295");
  const Folder folder;
  expect_error_with("cannot open /nowhere/a.parquet: No such file or directory",
                    [] { read_column("/nowhere/a.parquet"); });
  expect_error_with("expected a regular file", [&] { read_column(folder.path()); });
}

TEST(ParquetMalformed, ChecksTheSchema) {
  const auto with = [](std::vector<Thrift> schema) {
    ParquetWriter writer;
    writer.schema = std::move(schema);
    return writer.file();
  };
  const Thrift text = schema_node("text", 6, 0);
  expect_malformed(with({}), "the footer has no schema");
  expect_malformed(with({schema_node("root", -1, 0, 2), text}),
                   "the footer's schema has fewer nodes than its groups promise");
  expect_malformed(with({schema_node("root", -1, 0, 0), text}),
                   "the footer's schema has more nodes than its groups");
  expect_malformed(with({schema_node("root", -1, 0, 1), schema_node("g", -1, 0, -1)}),
                   "the footer's schema has a group with -1 columns");
  std::vector<Thrift> deep(200, schema_node("g", -1, 0, 1));
  deep.push_back(text);
  expect_malformed(with(deep), "the footer's schema is too deep");
  expect_malformed(with({schema_node("root", -1, 0, 1), schema_node("text", 2, 0)}),
                   "column 'text': expected strings (BYTE_ARRAY), got INT64");
  expect_malformed(with({schema_node("root", -1, 0, 1), schema_node("text", 99, 0)}),
                   "column 'text': expected strings (BYTE_ARRAY), got an unknown type");
  Thrift decimal;
  decimal.i32(1, 6).i32(3, 0).text(4, "text").i32(6, 5);
  expect_malformed(with({schema_node("root", -1, 0, 1), decimal}),
                   "column 'text': expected strings (BYTE_ARRAY), got decimal numbers");
  expect_malformed(with({schema_node("root", -1, 0, 1), schema_node("text", 6, 2)}),
                   "column 'text': expected one string a row, got a repeated column");
}

/// A file of one good row whose footer `change` makes wrong.
template <class F>
std::string file_with(F&& change) {
  ParquetWriter writer;
  change(writer);
  writer.data_page(1, plain("fine"));
  writer.end_group(1);
  return writer.file();
}

TEST(ParquetMalformed, ShowsNamesOnOneLine) {
  ParquetWriter writer;
  writer.schema = {schema_node("root", -1, 0, 2), schema_node("two\nlines", 6, 0),
                   schema_node(std::string(1000, 'x'), 6, 0)};
  expect_malformed(writer.file(),
                   "there is no column 'text'; its columns of strings: 'two?lines', '" +
                       std::string(100, 'x') + "...'");
}

TEST(ParquetMalformed, ChecksRowGroupsAgainstTheFile) {
  expect_malformed(file_with([](auto& w) { w.offset = 1'000'000; }),
                   "row group 0: the column should lie at byte 1000000, 27 bytes long; the file's "
                   "data ends at 31");
  expect_malformed(file_with([](auto& w) { w.offset = -8; }), "row group 0: the column should lie");
  expect_malformed(file_with([](auto& w) { w.bytes = INT64_MAX; }),
                   "row group 0: the column should");
  expect_malformed(file_with([](auto& w) { w.bytes = -1; }), "row group 0: the column should lie");
  expect_malformed(file_with([](auto& w) { w.values = 2; }),
                   "row group 0: expected 1 values for its rows, got 2");
  expect_malformed(file_with([](auto& w) { w.total_rows = 2; }),
                   "expected 2 rows as the footer says, its row groups have 1");
  expect_malformed(file_with([](auto& w) { w.columns_in_group = 2; }),
                   "row group 0: expected 1 columns as in the schema, got 2");
  expect_malformed(file_with([](auto& w) { w.type = 1; }),
                   "row group 0: the footer's metadata of the column is incomplete or wrong");
  expect_malformed(file_with([](auto& w) { w.encrypted = true; }),
                   "row group 0: the column is encrypted; only plain ones are read");
  expect_malformed(file_with([](auto& w) { w.chunk_file = "b.parquet"; }),
                   "row group 0: the column lies in another file; name that one");
  ParquetWriter negative;
  negative.end_group(-1);
  expect_malformed(negative.file(), "row group 0: the footer gives it -1 rows");
}

TEST(ParquetMalformed, BoundsListsByWhatIsThere) {
  const std::string metadata = "\x29\xfc\xff\xff\xff\xff\x0f";  // a schema of 2^32 - 1 nodes
  expect_malformed("PAR1" + metadata + little_endian(7) + "PAR1",
                   "corrupt footer at its byte 7: a list is longer than what is there");
}

TEST(ParquetMalformed, NamesCodecsThatAreNotRead) {
  expect_malformed(
      file_with([](auto& w) { w.codec = 3; }),
      "row group 0, row 0: expected a codec of none, snappy, gzip, brotli, zstd or lz4, got lzo");
  expect_malformed(file_with([](auto& w) { w.codec = 9; }), "row group 0, row 0: expected a codec");
}

TEST(ParquetMalformed, ChecksDecompressedSizes) {
  for (const int codec : {1, 2, 4, 5, 6, 7}) {  // what follows is no such data
    expect_malformed(file_with([&](auto& w) { w.codec = codec; }), "row group 0, row 0: ");
  }
  std::string packed(100, '\0');
  const std::string content = plain("fine");
  packed.resize(ZSTD_compress(packed.data(), packed.size(), content.data(), content.size(), 1));
  const auto claim = [&](std::int64_t size, const std::string& message) {
    ParquetWriter writer;
    writer.codec = 6;
    writer.data_page(1, packed, 0, size);
    writer.end_group(1);
    expect_malformed(writer.file(), "row group 0, row 0: " + message);
  };
  claim(9, "zstd: expected a page of 9 bytes as its header says, got 8");
  claim(7, "corrupt zstd data: Destination buffer is too small");
  claim(INT32_MAX, "a page of 17 bytes cannot hold the 2147483647 that its header says (zstd)");
}

TEST(ParquetMalformed, ChecksPages) {
  ParquetWriter rows;
  rows.data_page(3, plain("a") + plain("b") + plain("c"));
  rows.end_group(2);
  expect_malformed(rows.file(), "row group 0, row 0: a page of 3 rows where 2 are left");
  ParquetWriter few;
  few.data_page(1, plain("a"));
  few.end_group(2);
  expect_malformed(few.file(), "row group 0, row 1: its pages end at byte 28 before row 1 of 2");
  ParquetWriter twice;
  twice.dictionary_page(1, plain("a"));
  twice.dictionary_page(1, plain("b"));
  twice.end_group(1);
  expect_malformed(twice.file(), "row group 0, row 0: a second dictionary page");
  ParquetWriter none;
  none.data_page(1, std::string("\x00\x02", 2), 8);
  none.end_group(1);
  expect_malformed(none.file(), "row group 0, row 0: values by dictionary before the dictionary");
  ParquetWriter many;
  many.dictionary_page(4, plain("a") + plain("b"));
  many.end_group(1);
  expect_malformed(many.file(), "row group 0, row 0: a dictionary of 4 values in 10 bytes");
  ParquetWriter header;
  header.append(std::string(20, '\0'));
  header.end_group(1);
  expect_malformed(header.file(), "row group 0, row 0: corrupt page header: page type -1");
}

TEST(ParquetMalformed, ChecksPlainValues) {
  expect_bad_page(little_endian(10) + "short", "a value of 10 bytes where the page has 5 left");
  expect_bad_page("abc", "the page ends before its values do");
  expect_bad_page("", "the page holds no values, it needs some");
  expect_bad_page(little_endian((1U << 30) + 1) + "x",
                  "a value of 1073741825 bytes; 1073741824 are the most");
  expect_bad_page(plain("x"),
                  "expected values plain, by dictionary or as delta (length) byte "
                  "arrays, got byte stream split",
                  9);
}

TEST(ParquetMalformed, ChecksDictionaryIndices) {
  expect_bad_page("\x02\x02\x02", "dictionary index 2, the dictionary has 2 values", 8);
  expect_bad_page("\x21\x02\x01", "dictionary indices of 33 bits; 32 are the most", 8);
  expect_bad_page("\x02", "the page ends inside a number", 8);
  expect_bad_page("\x02\x02", "the page ends inside a run", 8);
  expect_bad_page("\x02\x03", "the page ends inside packed numbers", 8);
  expect_bad_page(std::string("\x02\x00\x00\x00\x00", 5), "the page ends inside a number", 8);
  expect_bad_page("\x02" + std::string(11, '\xff'), "a number takes more than 10 bytes", 8);
}

/// The header of a delta block: 128 values in 4 parts.
std::string delta(std::uint64_t count, std::int64_t first) {
  return Thrift::varint(128) + Thrift::varint(4) + Thrift::varint(count) + Thrift::zigzag(first);
}

TEST(ParquetMade, ReadsDeltaLengths) {
  ParquetWriter writer;  // lengths 3, 1 and 5: least difference -2, then 0 and 6 in 3 bits
  const std::string lengths = delta(3, 3) + Thrift::zigzag(-2) +
                              std::string("\x03\x00\x00\x00", 4) + "\x30" + std::string(11, '\0');
  writer.data_page(3, lengths + "oneIthree", 6);
  writer.end_group(3);
  EXPECT_THAT(rows_of(writer), ElementsAre("one", "I", "three"));
}

TEST(ParquetMalformed, ChecksDeltas) {
  expect_bad_page(delta(1, -1) + "x", "a value of -1 bytes", 6);
  expect_bad_page(delta(1, 2) + "x", "a value of 2 bytes where the page has 1 left", 6);
  expect_bad_page(delta(0, 0), "the page holds 0 values, it needs more", 6);
  expect_bad_page(delta(9, 0), "9 lengths in a page of 1 values", 6);
  expect_bad_page(Thrift::varint(100) + "\x04\x01" + std::string(1, '\0'),
                  "delta blocks of 100 values in 4 parts", 6);
  expect_bad_page(Thrift::varint(128) + std::string("\x00\x01\x00", 3),
                  "delta blocks of 128 values in 0 parts", 6);
  expect_bad_page(delta(2, 0) + "\x02\x21\x01\x01\x01", "deltas of 33 bits; 32 are the most", 6, 2);
  expect_bad_page(delta(2, 0) + "\x02\x01\x01\x01\x01", "the page ends inside a delta block", 6, 2);
  expect_bad_page(delta(1, 1) + delta(1, 0), "a value repeats 1 bytes of one of 0", 7);
}

TEST(ParquetMalformed, ChecksDefinitionLevels) {
  const auto with_levels = [](const std::string& payload, const std::string& message) {
    ParquetWriter writer;
    writer.schema[1] = schema_node("text", 6, 1);
    writer.data_page(1, payload);
    writer.end_group(1);
    expect_malformed(writer.file(), "row group 0, row 0: " + message);
  };
  with_levels("abc", "definition levels of 0 bytes in a page of 3");
  with_levels(little_endian(9) + "x", "definition levels of 9 bytes in a page of 5");
  with_levels(little_endian(2) + "\x02\x07" + plain("x"), "definition level 7, 1 is the most");
}

}  // namespace
}  // namespace data_test
