#pragma once
/// Parquet's metadata: the footer's schema and row groups, and the headers of pages.
///
/// Law: knows bytes, not files. What it gives has been checked against itself and against the size
/// of the file; only the column asked for is kept.
/// Source: the Apache Parquet format, parquet.thrift (numbers of fields and of enumerators).

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace data::parquet {

enum class Codec : std::uint8_t {
  kUncompressed = 0,
  kSnappy = 1,
  kGzip = 2,
  kLzo = 3,
  kBrotli = 4,
  kLz4 = 5,  ///< LZ4 blocks in Hadoop's frames; some writers left the frames out
  kZstd = 6,
  kLz4Raw = 7,
};

enum class Encoding : std::uint8_t {
  kPlain = 0,
  kPlainDictionary = 2,
  kRle = 3,
  kBitPacked = 4,
  kDeltaBinaryPacked = 5,
  kDeltaLengthByteArray = 6,
  kDeltaByteArray = 7,
  kRleDictionary = 8,
  kByteStreamSplit = 9,
};

/// "snappy", or "codec 12" for one that Parquet does not have.
std::string name_of(Codec codec);
/// "delta byte array", or "encoding 12".
std::string name_of(Encoding encoding);

/// The column's values of one row group.
struct Chunk {
  std::int64_t rows = 0;
  std::int64_t first_row = 0;  ///< in the file
  std::uint64_t offset = 0;    ///< of its first page, the dictionary's where there is one
  std::uint64_t bytes = 0;
  std::uint64_t content_bytes = 0;  ///< its pages uncompressed, as the footer claims; 0: unknown
  Codec codec = Codec::kUncompressed;
};

/// One column of a file.
struct Column {
  int max_definition = 0;  ///< definition level of a value that is not null
  std::int64_t rows = 0;
  std::vector<Chunk> chunks;  ///< one for each row group
};

/// The column called `name` (`a.b`: b inside the group a) of a file whose footer's metadata is
/// `footer` and whose pages lie in [4, data_end). `file` stands in messages. Throws Error for a
/// broken footer, and for a column that is missing, repeated, or not of strings, naming those that
/// are.
Column read_footer(std::span<const std::byte> footer, std::uint64_t data_end,
                   const std::string& file, const std::string& name);

enum class PageType : std::uint8_t { kData = 0, kIndex = 1, kDictionary = 2, kDataV2 = 3 };

struct PageHeader {
  PageType type = PageType::kData;
  std::uint32_t uncompressed_bytes = 0;
  std::uint32_t compressed_bytes = 0;
  bool has_crc = false;
  std::uint32_t crc = 0;
  std::uint32_t values = 0;  ///< nulls included
  Encoding encoding = Encoding::kPlain;
  Encoding level_encoding = Encoding::kRle;  ///< of definition levels; v1
  std::uint32_t definition_bytes = 0;        ///< v2
  std::uint32_t repetition_bytes = 0;        ///< v2
  bool compressed = true;                    ///< v2: the values after the levels are
};

/// Reads a page's header from the front of `bytes` and gives its size; 0 where `bytes` end before
/// it does. Throws Error for one that is broken.
std::size_t read_page_header(std::span<const std::byte> bytes, PageHeader& header);

}  // namespace data::parquet
