// Compressed files and Parquet as inputs: the same documents as from plain files, also from the
// middle on.

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/data.h"
#include "data/helpers.h"
#include "temporary_folder.h"

namespace {

struct Content {
  std::string text;
  std::string broken;
  data::Position next;
  bool operator==(const Content& other) const {
    return text == other.text && broken.empty() == other.broken.empty();
  }
};

std::vector<Content> read_file(const base::Path& path, const std::string& field = "text",
                               const data::Position& from = {}) {
  data::ReaderOptions options;
  options.text_field = field;
  data::DocumentReader reader(data::find_inputs({path.string()}), options);
  if (from != data::Position()) reader.seek(from);
  std::vector<Content> all;
  data::Chunk chunk;
  while (reader.next(chunk)) {
    chunk.parse(
        [&](const data::Document& document) {
          all.push_back({std::string(document.text), "", document.next});
        },
        [&](const data::BrokenRecord& record, const data::Position& next) {
          all.push_back({"", record.what(), next});
        });
  }
  return all;
}

std::string gzipped(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstandard(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

std::string some_lines() {
  std::string lines;
  for (int i = 0; i < 20000; ++i) {
    lines += R"({"text": "line )" + std::to_string(i) +
             R"( of the file"})"
             "\n";
  }
  return lines;
}

TEST(CompressedInput, GivesTheDocumentsOfThePlainFile) {
  const TemporaryFolder folder;
  const std::string lines = some_lines();
  base::write_file(folder / "a.jsonl", lines);
  base::write_file(folder / "a.jsonl.gz", gzipped(lines));
  base::write_file(folder / "a.jsonl.zst", zstandard(lines));
  const auto plain = read_file(folder / "a.jsonl");
  ASSERT_EQ(plain.size(), 20000U);
  for (const char* name : {"a.jsonl.gz", "a.jsonl.zst"}) {
    const auto packed = read_file(folder / name);
    EXPECT_EQ(packed, plain) << name;
    const std::size_t middle = 12345;
    const auto rest = read_file(folder / name, "text", packed[middle - 1].next);
    EXPECT_EQ(rest, std::vector<Content>(plain.begin() + middle, plain.end())) << name;
  }
}

TEST(CompressedInput, EndsWithARejectionWhereTheStreamIsCutShort) {
  const TemporaryFolder folder;
  const std::string packed = gzipped(some_lines());
  base::write_file(folder / "a.jsonl.gz", packed.substr(0, packed.size() / 2));
  const auto read = read_file(folder / "a.jsonl.gz");
  ASSERT_FALSE(read.empty());
  EXPECT_NE(read.back().broken.find("gzip"), std::string::npos) << read.back().broken;
}

TEST(ParquetInput, GivesTheRowsThatHoldText) {
  const base::Path golden = base::Path(GPT2_SOURCE_DIR) / "tests/golden/parquet";
  std::vector<std::string> expected;
  const std::string lines = base::read_file(golden / "hf_like_expected.jsonl");
  for (std::size_t begin = 0; begin < lines.size();) {
    const std::size_t end = lines.find('\n', begin);
    const auto row = nlohmann::json::parse(lines.substr(begin, end - begin));
    if (!row.at("text").is_null()) expected.push_back(row.at("text"));
    begin = end + 1;
  }
  ASSERT_GT(expected.size(), 1000U);
  for (const char* name :
       {"hf_like_zstd_v2_pages.parquet", "hf_like_snappy_plain_small_pages_3rowgroups.parquet"}) {
    const auto read = read_file(golden / name);
    ASSERT_EQ(read.size(), expected.size()) << name;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(read[i].broken, "");
      ASSERT_EQ(read[i].text, expected[i]) << name << ", document " << i;
    }
    for (const std::size_t from : {std::size_t{1}, std::size_t{13}, expected.size() / 2}) {
      const auto rest = read_file(golden / name, "text", read[from - 1].next);
      EXPECT_EQ(rest,
                std::vector<Content>(read.begin() + static_cast<std::ptrdiff_t>(from), read.end()))
          << name << " from " << from;
    }
  }
}

TEST(ParquetInput, RejectsWhatIsCorruptAndGoesOnWithTheNextRowGroup) {
  const TemporaryFolder folder;
  const base::Path golden = base::Path(GPT2_SOURCE_DIR) / "tests/golden/parquet";
  std::string bytes =
      base::read_file(golden / "hf_like_snappy_plain_small_pages_3rowgroups.parquet");
  for (std::size_t i = 400; i < 4000; ++i) bytes[i] = static_cast<char>(bytes[i] ^ 0x5a);
  base::write_file(folder / "bad.parquet", bytes);
  std::size_t broken = 0;
  std::size_t whole = 0;
  for (const Content& each : read_file(folder / "bad.parquet"))
    ++(each.broken.empty() ? whole : broken);
  EXPECT_GT(broken, 0U);
  EXPECT_GT(whole, 600U);  // the other two row groups
}

TEST(ParquetInput, SaysWhichColumnsThereAre) {
  const base::Path golden = base::Path(GPT2_SOURCE_DIR) / "tests/golden/parquet";
  EXPECT_THROW(read_file(golden / "hf_like_zstd_dict_v1.parquet", "body"), base::Error);
}

}  // namespace
