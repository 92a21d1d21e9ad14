// A plot as lines of text. A cell holds 2 x 4 dots of the Braille block: U+2800 and a bit a dot.
// Source of the bits: The Unicode Standard, chapter 21.1, "Braille Patterns".

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "report/report.h"
#include "report/ticks.h"

namespace report {
namespace {

constexpr int kDotsAcross = 2;
constexpr int kDotsDown = 4;
constexpr unsigned kDots[kDotsDown][kDotsAcross] = {
    {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
constexpr int kLabel = 8;  // cells for the numbers of the y axis, and the axis

std::string utf8_of(unsigned code) {  // U+0800 to U+FFFF
  return {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

/// Dots and marks, from the upper left corner.
class Canvas {
 public:
  Canvas(int columns, int rows)
      : columns_(columns), rows_(rows), cells_(static_cast<std::size_t>(columns * rows), 0) {}
  int width() const { return columns_ * kDotsAcross; }
  int height() const { return rows_ * kDotsDown; }
  void dot(int x, int y) { cell(x, y) |= kDots[y % kDotsDown][x % kDotsAcross]; }
  void mark(int x, int y) { cell(x, y) |= kMark; }
  /// A line between two dots.
  void line(int x0, int y0, int x1, int y1) {
    const int steps = std::max({std::abs(x1 - x0), std::abs(y1 - y0), 1});
    for (int i = 0; i <= steps; ++i) {
      const double t = static_cast<double>(i) / steps;
      dot(static_cast<int>(std::lround(x0 + t * (x1 - x0))),
          static_cast<int>(std::lround(y0 + t * (y1 - y0))));
    }
  }
  std::string row(int index) const {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const unsigned content = cells_[place(column, index)];
      if ((content & kMark) != 0) {
        text += "o";
      } else {
        text += content == 0 ? std::string(" ") : utf8_of(0x2800 + content);
      }
    }
    return text;
  }

 private:
  static constexpr unsigned kMark = 0x100;
  std::size_t place(int column, int row) const {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns_) +
           static_cast<std::size_t>(column);
  }
  unsigned& cell(int x, int y) { return cells_[place(x / kDotsAcross, y / kDotsDown)]; }
  int columns_, rows_;
  std::vector<unsigned> cells_;
};

struct Scales {
  Axis x, y;
  int width, height;  // dots

  int column(double value) const { return place((value - x.lo) / (x.hi - x.lo), width); }
  int row(double value) const { return place((y.hi - value) / (y.hi - y.lo), height); }
  static int place(double share, int dots) {
    return std::clamp(static_cast<int>(share * (dots - 1) + 0.5), 0, dots - 1);
  }
};

/// Where the axes end; nothing where there is no point.
std::optional<Scales> scales_for(std::span<const Series> series, double steps) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Scales scales{{kInfinity, steps}, {kInfinity, -kInfinity}, 0, 0};
  for (const Series& one : series) {
    for (std::size_t i = 0; i < std::min(one.x.size(), one.y.size()); ++i) {
      if (!std::isfinite(one.x[i]) || !std::isfinite(one.y[i])) continue;
      scales.x = {std::min(scales.x.lo, one.x[i]), std::max(scales.x.hi, one.x[i])};
      scales.y = {std::min(scales.y.lo, one.y[i]), std::max(scales.y.hi, one.y[i])};
    }
  }
  if (scales.y.lo > scales.y.hi) return std::nullopt;
  if (scales.x.lo >= scales.x.hi) scales.x.hi = scales.x.lo + 1;
  const double least = std::max(std::abs(scales.y.hi), 1e-6) * 1e-6;
  if (scales.y.hi - scales.y.lo < least) {
    scales.y = {scales.y.lo - least, scales.y.hi + least};
  }
  return scales;
}

/// The mean of each column of dots, joined.
void draw_line(Canvas& canvas, const Scales& scales, const Series& series) {
  std::vector<double> sums(static_cast<std::size_t>(canvas.width()), 0);
  std::vector<int> counts(sums.size(), 0);
  for (std::size_t i = 0; i < std::min(series.x.size(), series.y.size()); ++i) {
    if (!std::isfinite(series.x[i]) || !std::isfinite(series.y[i])) continue;
    const auto column = static_cast<std::size_t>(scales.column(series.x[i]));
    sums[column] += series.y[i];
    ++counts[column];
  }
  std::optional<std::pair<int, int>> before;
  for (std::size_t column = 0; column < sums.size(); ++column) {
    if (counts[column] == 0) continue;
    const std::pair here{static_cast<int>(column), scales.row(sums[column] / counts[column])};
    if (!before) before = here;
    canvas.line(before->first, before->second, here.first, here.second);
    before = here;
  }
}

std::string legend(std::span<const Series> series, int columns) {
  std::string text = std::string(kLabel, ' ');
  for (std::size_t s = 0; s < series.size(); ++s) {
    if (series[s].y.empty()) continue;
    text += fmt::format("{}{} {}", s == 0 ? "" : "   o ", series[s].name,
                        short_number(series[s].y.back()));
  }
  return text.substr(0, static_cast<std::size_t>(columns));
}

/// "└──────" with numbers below it would take two lines; the numbers stand in the line itself.
std::string x_axis(const Scales& scales, int cells) {
  const std::string first = short_number(scales.x.lo);
  const std::string last = short_number(scales.x.hi);
  std::string line = std::string(kLabel - 1, ' ') + "\u2514" + first + " ";
  const int used = static_cast<int>(first.size() + last.size()) + 2;
  for (int i = used; i < cells; ++i) line += "\u2500";
  return line + " " + last;
}

}  // namespace

std::vector<std::string> text_chart(std::span<const Series> series, double steps, int columns,
                                    int rows) {
  if (columns < kLeastColumns || rows < kLeastRows) return {};
  auto scales = scales_for(series, steps);
  if (!scales) return {};
  const int cells = columns - kLabel;
  const int canvas_rows = rows - 2;  // beside the legend and the x axis
  Canvas canvas(cells, canvas_rows);
  scales->width = canvas.width();
  scales->height = canvas.height();
  for (std::size_t s = 0; s < series.size(); ++s) {
    if (s == 0) {
      draw_line(canvas, *scales, series[s]);
      continue;
    }
    for (std::size_t i = 0; i < std::min(series[s].x.size(), series[s].y.size()); ++i) {
      if (!std::isfinite(series[s].x[i]) || !std::isfinite(series[s].y[i])) continue;
      canvas.mark(scales->column(series[s].x[i]), scales->row(series[s].y[i]));
    }
  }
  std::vector<std::string> lines = {legend(series, columns)};
  for (int row = 0; row < canvas_rows; ++row) {
    const double share = canvas_rows > 1 ? static_cast<double>(row) / (canvas_rows - 1) : 0;
    const bool labelled = row == 0 || row + 1 == canvas_rows || row == canvas_rows / 2;
    const std::string number =
        labelled ? short_number(scales->y.hi - share * (scales->y.hi - scales->y.lo)) : "";
    lines.push_back(fmt::format("{:>{}}\u2502", number.substr(0, kLabel - 1), kLabel - 1) +
                    canvas.row(row));
  }
  lines.push_back(x_axis(*scales, cells));
  return lines;
}

}  // namespace report
