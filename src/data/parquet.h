#pragma once
/// One column of strings of a Parquet file, as Hugging Face's data sets are written.
///
/// Read: columns of BYTE_ARRAY (strings, JSON, binary) that have one value or none in a row, also
/// inside groups ("meta.text"); v1 and v2 pages; values plain, by dictionary, delta length and
/// delta byte arrays; uncompressed, snappy, gzip, brotli, zstd, lz4. Refused, with a reason: lists,
/// numbers, encrypted files, LZO.
///
/// Law: a row group is read by itself, so that several threads can read several at once; memory is
/// a page, its compressed bytes and a dictionary. Nothing in the file is believed unchecked.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"

namespace data {

/// The values of one row group, front to back. Row groups and rows are counted from 0.
class ParquetValues {
 public:
  ~ParquetValues();
  ParquetValues(ParquetValues&&) noexcept;
  ParquetValues& operator=(ParquetValues&&) noexcept;

  /// Gives the next row's value, nothing for a null, valid until the next call; false at the end.
  /// Throws Error with file, row group and row for what is corrupt, at every call from there on;
  /// other row groups are not concerned.
  bool next(std::optional<std::string_view>& value);
  /// The file's row that next() gives next.
  std::int64_t row() const;

 private:
  friend class ParquetFile;
  struct State;
  explicit ParquetValues(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// A file's column. Constant once it is open: threads may share it.
class ParquetFile {
 public:
  /// `column`: its name, "group.name" inside groups. Reads the footer; throws Error for a file that
  /// is not Parquet, is broken, or has no such column of strings, naming those that it has.
  ParquetFile(const base::Path& path, const std::string& column);
  ~ParquetFile();
  ParquetFile(ParquetFile&&) noexcept;
  ParquetFile& operator=(ParquetFile&&) noexcept;

  std::uint64_t file_bytes() const;
  std::int64_t rows() const;
  std::size_t row_groups() const;
  std::int64_t rows_in(std::size_t row_group) const;
  /// The file's row with which a row group begins.
  std::int64_t first_row(std::size_t row_group) const;
  /// Bytes that the column's pages of a row group take in the file.
  std::uint64_t bytes_in(std::size_t row_group) const;
  /// Bytes of them uncompressed, as the footer claims; 0: unknown.
  std::uint64_t content_bytes_in(std::size_t row_group) const;

  /// Reads a row group; what is returned may outlive this object. A dictionary and a page that have
  /// more than `most_bytes` together are an error: the footer's claim was wrong.
  ParquetValues read(std::size_t row_group,
                     std::uint64_t most_bytes = std::numeric_limits<std::uint64_t>::max()) const;

 private:
  friend class ParquetValues;
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace data
