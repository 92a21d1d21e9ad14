// Ticks: the largest of the steps 1, 2, 5 x 10^n that still gives enough of them.

#include "report/ticks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace report {
namespace {

struct Unit {
  double size;
  std::string_view prefix;
};

constexpr Unit kUnits[] = {{1e18, "E"}, {1e15, "P"}, {1e12, "T"}, {1e9, "G"},
                           {1e6, "M"},  {1e3, "k"},  {1, ""}};

Unit unit_for(double magnitude) {
  for (const Unit& unit : kUnits) {
    if (magnitude >= unit.size) return unit;
  }
  return {1, ""};
}

constexpr int kMostDecimals = 6;

/// Decimals that write multiples of `step` exactly, or kMostDecimals + 1 where it takes more.
int decimals_of(double step) {
  int decimals = 0;
  double scaled = step;
  // The tolerance covers the rounding in a difference of two ticks.
  while (decimals <= kMostDecimals && std::abs(scaled - std::round(scaled)) > 1e-6 * scaled) {
    scaled *= 10;
    ++decimals;
  }
  return decimals;
}

}  // namespace

std::vector<double> ticks(const Axis& axis, int wanted) {
  const double raw = (axis.hi - axis.lo) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = power;
  for (const double factor : {2.0, 5.0, 10.0}) {
    if (step < raw) step = factor * power;
  }
  const double slack = (axis.hi - axis.lo) * 1e-9;  // a tick on the border counts as inside
  const double first = std::ceil((axis.lo - slack) / step);
  std::vector<double> result;
  for (double i = first; i * step <= axis.hi + slack; ++i) {
    result.push_back(i == 0 ? 0.0 : i * step);  // never -0
    if (result.size() > 100) break;  // the step vanishes beside the numbers: i no longer advances
  }
  return result;
}

std::vector<std::string> tick_labels(const std::vector<double>& ticks) {
  double magnitude = 0;
  for (const double tick : ticks) magnitude = std::max(magnitude, std::abs(tick));
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
  Unit unit = unit_for(magnitude);
  if (decimals_of(step / unit.size) > kMostDecimals) unit = {1, ""};
  const int decimals = decimals_of(step / unit.size);
  const bool plain = decimals <= kMostDecimals && magnitude / unit.size < 1e12;
  std::vector<std::string> labels;
  for (const double tick : ticks) {
    if (tick == 0) {
      labels.emplace_back("0");
    } else if (plain) {
      labels.push_back(fmt::format("{:.{}f}{}", tick / unit.size, decimals, unit.prefix));
    } else {
      labels.push_back(fmt::format("{:.6g}", tick));
    }
  }
  return labels;
}

std::string short_number(double value) {
  const Unit unit = unit_for(std::abs(value));
  return fmt::format("{:.4g}{}", value / unit.size, unit.prefix);
}

}  // namespace report
