// Comma-separated values.

#include "base/error.h"
#include "report/report.h"

namespace report {
namespace {

void append_row(std::string& out, const std::vector<std::string>& cells) {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) out += ',';
    if (cells[i].find_first_of(",\"\r\n") == std::string::npos) {
      out += cells[i];
      continue;
    }
    out += '"';
    for (const char c : cells[i]) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    out += '"';
  }
  out += '\n';
}

}  // namespace

std::string csv(const Table& table) {
  std::string out;
  append_row(out, table.columns);
  for (const auto& row : table.rows) {
    if (row.size() != table.columns.size()) {
      base::fail("table: expected {} cells a row, got {}", table.columns.size(), row.size());
    }
    append_row(out, row);
  }
  return out;
}

}  // namespace report
