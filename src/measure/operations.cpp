// The table by operation.

#include <algorithm>

#include "measure/measure.h"

namespace measure {

std::vector<Operation> operations_of(const std::vector<kernels::OperationTotals>& profile,
                                     std::int64_t steps, double seconds, double peak, double read) {
  const auto count = static_cast<double>(std::max<std::int64_t>(steps, 1));
  std::vector<Operation> rows;
  double inside = 0;
  for (const kernels::OperationTotals& totals : profile) {
    const double own = std::max(totals.seconds, 1e-12);
    const double least = std::max(totals.flops / peak, totals.bytes / read);
    std::string name(totals.operation);
    if (totals.inputs > 0) name += fmt::format(" {}x{}", totals.inputs, totals.outputs);
    rows.push_back({.name = std::move(name),
                    .calls = static_cast<double>(totals.calls) / count,
                    .milliseconds = totals.seconds / count * 1e3,
                    .flops_per_second = totals.flops / own,
                    .bytes_per_second = totals.bytes / own,
                    .fraction_of_roofline = least / own});
    inside += totals.seconds;
  }
  std::ranges::stable_sort(rows, std::greater{}, &Operation::milliseconds);
  rows.push_back(
      {.name = "other", .calls = 1, .milliseconds = std::max(seconds - inside, 0.0) / count * 1e3});
  return rows;
}

}  // namespace measure
