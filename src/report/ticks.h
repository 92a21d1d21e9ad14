#pragma once
/// Where an axis has its ticks, and what stands at them.

#include <string>
#include <vector>

namespace report {

/// The numbers from lo to hi along one edge of a plot. lo < hi, both finite.
struct Axis {
  double lo = 0;
  double hi = 1;
};

/// Round numbers (1, 2 or 5 times a power of ten apart) inside the axis, in rising order: at least
/// two, and about `wanted` of them.
std::vector<double> ticks(const Axis& axis, int wanted);

/// What stands at these ticks: all with the same unit prefix (k, M, G, T, P, E: powers of 1000) and
/// as many decimals as the step between them needs: "0", "2M", "4M" or "3.5", "4.0".
std::vector<std::string> tick_labels(const std::vector<double>& ticks);

/// One number with four significant digits and a unit prefix: "3.912", "1.25M".
std::string short_number(double value);

}  // namespace report
