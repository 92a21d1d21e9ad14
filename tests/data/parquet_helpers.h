#pragma once
/// Reading whole Parquet columns in tests.

#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/parquet.h"

namespace data_test {

using Rows = std::vector<std::optional<std::string>>;

inline base::Path golden_parquet(const std::string& name) {
  return base::Path(GPT2_SOURCE_DIR) / "tests/golden/parquet" / name;
}

inline void read_group(const data::ParquetFile& file, std::size_t group, Rows& rows) {
  data::ParquetValues values = file.read(group);
  for (std::optional<std::string_view> value; values.next(value);) {
    rows.push_back(value ? std::optional<std::string>(*value) : std::nullopt);
  }
}

inline Rows read_column(const base::Path& path, const std::string& column = "text") {
  const data::ParquetFile file(path, column);
  Rows rows;
  for (std::size_t group = 0; group < file.row_groups(); ++group) read_group(file, group, rows);
  return rows;
}

}  // namespace data_test
