#pragma once
/// Pictures: series of numbers -> files.
///
/// Law: knows series, axes and files; nothing of trainers or models.

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace report {

/// One line of a plot.
struct Series {
  std::string name;  ///< in the legend: "train", "validation"
  std::vector<double> x;
  std::vector<double> y;  ///< points that are not finite are left out
  bool markers = false;   ///< draw points too: for series with few of them
};

/// A plot: what stands at its axes, with units.
struct Plot {
  std::string title;
  std::string x_label;  ///< "tokens"
  std::string y_label;  ///< "loss (nats per token)"
  std::vector<Series> series;
};

/// The picture as one self-contained SVG document (no script, no external font or style), readable
/// on white and on dark pages. Long series are thinned to the picture's resolution (keeping each
/// column's extremes), so the file stays small. Points are joined by rising x, whatever their
/// order. Empty series give axes with a note "no data yet". The same plot gives the same bytes.
/// Throws Error when a series has not as many x as y.
std::string svg(const Plot& plot);

/// Writes svg(plot) atomically.
void write_svg(const base::Path& path, const Plot& plot);

}  // namespace report
