#pragma once
/// A Parquet file of many row groups with all that makes them different.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/parquet_writer.h"

namespace data_test {

struct ParquetRows {
  std::string file;
  std::vector<std::string> good;  ///< the texts in order
  std::size_t broken = 0;         ///< rows that cannot be read
};

/// `groups` row groups of 80 rows in 10 pages; text(i) is row i's. Every seventh row holds null.
/// Row groups 3, 11, 19, ... are corrupt from their sixth page on; the footer says that 5, 10, 15,
/// ... have more content than one thread may hold.
inline ParquetRows make_parquet_rows(std::int64_t groups,
                                     const std::function<std::string(std::int64_t)>& text) {
  constexpr std::int64_t kPages = 10;
  constexpr std::int64_t kRows = 8;  // of a page
  ParquetRows made;
  ParquetWriter writer;
  writer.schema = {schema_node("root", -1, 0, 1), schema_node("text", 6, 1)};
  std::int64_t row = 0;
  for (std::int64_t group = 0; group < groups; ++group) {
    for (std::int64_t page = 0; page < kPages; ++page) {
      const bool broken = group % 8 == 3 && page >= 5;
      std::vector<std::optional<std::string>> values;
      for (std::int64_t i = 0; i < kRows; ++i, ++row) {
        const bool null = row % 7 == 6;
        values.push_back(null ? std::nullopt : std::optional(text(row)));
        if (broken) {
          ++made.broken;
        } else if (!null) {
          made.good.push_back(*values.back());
        }
      }
      std::string content = optional_page(values);
      if (broken) content.resize(5);  // the levels' length, and less than they need
      writer.data_page(kRows, content);
    }
    writer.content_bytes.reset();
    if (group % 5 == 0) writer.content_bytes = std::int64_t{1} << 30;
    writer.end_group(kPages * kRows);
  }
  made.file = writer.file();
  return made;
}

}  // namespace data_test
