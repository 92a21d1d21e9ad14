#pragma once
/// The rows of a row group as records. Private to the room.
///
/// Law: a row group needs nothing of another, so that each thread can read one of its own; what
/// comes out does not depend on who reads it, nor on where reading began.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "data/documents.h"
#include "data/parquet.h"

namespace data {

class RowGroup {
 public:
  /// Begins with the row at `from`, or with the row group where that lies before it. Reads nothing
  /// yet. `name`: of the file, in messages. `most_bytes`: as ParquetFile::read has it.
  RowGroup(std::shared_ptr<const ParquetFile> file, std::size_t group, const Position& from,
           std::string name, std::uint64_t most_bytes);

  /// The next row's text, nulls passed over, valid until the next call; nothing at the end. Throws
  /// BrokenRecord for a corrupt row, after which it may be called again for the one behind it.
  std::optional<std::string_view> next();
  /// Where the row lies that next() gave: its front, or what is already done of it.
  Position place() const;
  /// Behind the row that next() gave or threw.
  Position behind() const { return {from_.input, row_, 0, 0}; }

 private:
  void open();

  std::shared_ptr<const ParquetFile> file_;
  std::size_t group_;
  Position from_;
  std::string name_;
  std::uint64_t most_bytes_;
  std::int64_t row_;  // of the file, the next one
  std::int64_t end_;
  std::optional<ParquetValues> values_;
  std::string corrupt_;  // why no more rows can be read; empty: they can
};

/// Whether the row that next() gave goes out in pieces, or is the rest of one that did.
bool is_long_row(const RowGroup& rows, std::string_view text);

}  // namespace data
