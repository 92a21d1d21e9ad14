// The SVG of a plot: a card with title, legend, grid, axes and lines.
//
// Colours are CSS classes with a light and a dark set (prefers-color-scheme); the card is opaque,
// so that whichever set a viewer takes stays readable on whatever page it stands.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "report/escape.h"
#include "report/report.h"
#include "report/ticks.h"

namespace report {
namespace {

// The picture in SVG units, one a pixel at its natural size.
constexpr double kWidth = 800;
constexpr double kHeight = 460;
constexpr double kLeft = 76;
constexpr double kRight = kWidth - 32;
constexpr double kBottom = kHeight - 62;
constexpr double kTitleBaseline = 38;
constexpr double kLegendBaseline = 64;  // of its first row
constexpr double kLegendRow = 20;
constexpr double kLegendFont = 13;

/// Numbers past this are left out as infinite ones are: their differences would overflow.
constexpr double kLargest = 1e150;

constexpr int kColours = 6;
constexpr std::string_view kStyle = R"(<style>
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.card{fill:#ffffff;stroke:#d8dee4}.ink{fill:#1f2328}.soft{fill:#59636e}
.grid{stroke:#e6eaef}.axis{stroke:#8c959f}.dot{stroke:#ffffff}
.l0{stroke:#2563eb}.l1{stroke:#e8710a}.l2{stroke:#15924b}.l3{stroke:#9333ea}.l4{stroke:#d6336c}.l5{stroke:#0d8a9e}
.f0{fill:#2563eb}.f1{fill:#e8710a}.f2{fill:#15924b}.f3{fill:#9333ea}.f4{fill:#d6336c}.f5{fill:#0d8a9e}
@media (prefers-color-scheme:dark){
.card{fill:#0d1117;stroke:#3d444d}.ink{fill:#f0f6fc}.soft{fill:#9198a1}
.grid{stroke:#262c34}.axis{stroke:#6e7681}.dot{stroke:#0d1117}
.l0{stroke:#5b9dff}.l1{stroke:#ff9f4a}.l2{stroke:#4ecb7d}.l3{stroke:#c084fc}.l4{stroke:#ff7aa8}.l5{stroke:#3fc8dc}
.f0{fill:#5b9dff}.f1{fill:#ff9f4a}.f2{fill:#4ecb7d}.f3{fill:#c084fc}.f4{fill:#ff7aa8}.f5{fill:#3fc8dc}
}
</style>
)";

/// The points of a series that can be drawn, by rising x.
std::vector<Point> drawable(const Series& series) {
  if (series.x.size() != series.y.size()) {
    base::fail("plot: series {}: expected as many x as y, got {} and {}", series.name,
               series.x.size(), series.y.size());
  }
  std::vector<Point> points;
  points.reserve(series.x.size());
  for (std::size_t i = 0; i < series.x.size(); ++i) {
    // Written so that NaN fails it as well.
    if (std::abs(series.x[i]) <= kLargest && std::abs(series.y[i]) <= kLargest) {
      points.push_back({series.x[i], series.y[i]});
    }
  }
  std::stable_sort(points.begin(), points.end(),
                   [](const Point& a, const Point& b) { return a.x < b.x; });
  return points;
}

/// Room for [lo, hi] and a share of it on both sides; something around a single value.
Axis padded(double lo, double hi, double share) {
  const double least = std::max(std::abs(lo), std::abs(hi)) * 1e-9;
  if (hi - lo <= least) {
    const double around = lo == 0 ? 1 : std::abs(lo) * 0.1;
    return {lo - around, hi + around};
  }
  return {lo - (hi - lo) * share, hi + (hi - lo) * share};
}

/// The x axis begins at 0 where the data begins near it, and ends with the data.
Axis x_axis(double lo, double hi) {
  if (lo >= 0 && hi > 0 && lo <= 0.25 * hi) return {0, hi};
  return padded(lo, hi, 0);
}

/// The plotting area and its scales.
struct Frame {
  Axis x;
  Axis y;
  double top;

  double to_x(double value) const {
    return kLeft + (value - x.lo) / (x.hi - x.lo) * (kRight - kLeft);
  }
  double to_y(double value) const {
    return kBottom - (value - y.lo) / (y.hi - y.lo) * (kBottom - top);
  }
};

Frame frame_around(const std::vector<std::vector<Point>>& all, double top) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Point lo{kInfinity, kInfinity};
  Point hi{-kInfinity, -kInfinity};
  for (const auto& points : all) {
    for (const Point& p : points) {
      lo = {std::min(lo.x, p.x), std::min(lo.y, p.y)};
      hi = {std::max(hi.x, p.x), std::max(hi.y, p.y)};
    }
  }
  if (lo.x > hi.x) return {{0, 1}, {0, 1}, top};
  return {x_axis(lo.x, hi.x), padded(lo.y, hi.y, 0.05), top};
}

/// At most four points a column of one pixel: first, lowest, highest and last, in their order. The
/// line through them covers the same pixels as the line through all.
std::vector<Point> thinned(const std::vector<Point>& points, const Frame& frame) {
  std::vector<Point> kept;
  for (std::size_t begin = 0; begin < points.size();) {
    const double column = std::floor(frame.to_x(points[begin].x));
    std::size_t lowest = begin;
    std::size_t highest = begin;
    std::size_t end = begin;
    for (; end < points.size() && std::floor(frame.to_x(points[end].x)) == column; ++end) {
      if (points[end].y < points[lowest].y) lowest = end;
      if (points[end].y > points[highest].y) highest = end;
    }
    std::size_t chosen[] = {begin, lowest, highest, end - 1};
    std::sort(std::begin(chosen), std::end(chosen));
    const auto* last = std::unique(std::begin(chosen), std::end(chosen));
    for (const auto* i = std::begin(chosen); i != last; ++i) kept.push_back(points[*i]);
    begin = end;
  }
  return kept;
}

/// Width of a text in a common sans-serif font, near enough to lay out a legend.
double text_width(std::string_view text, double font_size) {
  const auto characters =
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
  return static_cast<double>(characters) * font_size * 0.58;
}

/// Where the entries of the legend stand, row by row, and how many rows they fill.
struct Legend {
  std::vector<std::string> values;  ///< "last 3.91" for each series
  std::vector<Point> places;
  int rows = 0;
};

Legend lay_out_legend(const Plot& plot, const std::vector<std::vector<Point>>& all) {
  constexpr double kGap = 26;
  constexpr double kSwatch = 28;
  Legend legend;
  double x = kLeft;
  for (std::size_t s = 0; s < all.size(); ++s) {
    legend.values.push_back(all[s].empty() ? "no data yet"
                                           : "last " + short_number(all[s].back().y));
    const double width =
        kSwatch + text_width(plot.series[s].name + legend.values[s], kLegendFont) + 8;
    if (x > kLeft && x + width > kRight) {
      x = kLeft;
      ++legend.rows;
    }
    legend.places.push_back({x, kLegendBaseline + kLegendRow * legend.rows});
    x += width + kGap;
  }
  if (!all.empty()) ++legend.rows;
  return legend;
}

void draw_legend(std::string& out, const Plot& plot, const Legend& legend) {
  for (std::size_t s = 0; s < legend.places.size(); ++s) {
    const auto [x, y] = legend.places[s];
    const std::size_t colour = s % kColours;
    out += fmt::format(R"(<path d="M{0:.1f} {1:.1f}h20" class="l{2}" stroke-width="3"/>)", x,
                       y - 4.5, colour);
    if (plot.series[s].markers) {
      out += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="4" class="f{}"/>)", x + 10, y - 4.5,
                         colour);
    }
    out += fmt::format(
        R"(<text x="{:.1f}" y="{:.1f}" font-size="{}" class="ink">{}<tspan dx="8" class="soft">{}</tspan></text>)"
        "\n",
        x + 28, y, kLegendFont, xml_escaped(plot.series[s].name), legend.values[s]);
  }
}

void draw_axes(std::string& out, const Plot& plot, const Frame& frame) {
  const auto x_ticks = ticks(frame.x, 7);
  const auto x_labels = tick_labels(x_ticks);
  const auto y_ticks = ticks(frame.y, 9);
  const auto y_labels = tick_labels(y_ticks);
  out += R"(<g stroke-width="1" fill="none">)";
  for (const double tick : y_ticks) {
    out +=
        fmt::format(R"(<path d="M{} {:.1f}H{}" class="grid"/>)", kLeft, frame.to_y(tick), kRight);
  }
  for (const double tick : x_ticks) {
    out += fmt::format(
        R"(<path d="M{0:.1f} {1}V{2}" class="grid"/><path d="M{0:.1f} {2}v5" class="axis"/>)",
        frame.to_x(tick), frame.top, kBottom);
  }
  out += fmt::format(R"(<path d="M{} {}H{}" class="axis"/></g>)", kLeft, kBottom, kRight);
  out += "\n<g font-size=\"12\" class=\"soft\">";
  for (std::size_t i = 0; i < x_ticks.size(); ++i) {
    out += fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>)",
                       frame.to_x(x_ticks[i]), kBottom + 20, x_labels[i]);
  }
  for (std::size_t i = 0; i < y_ticks.size(); ++i) {
    out += fmt::format(R"(<text x="{}" y="{:.1f}" text-anchor="end">{}</text>)", kLeft - 10,
                       frame.to_y(y_ticks[i]) + 4, y_labels[i]);
  }
  out += fmt::format(
      "</g>\n<g font-size=\"13\" class=\"soft\" text-anchor=\"middle\">"
      R"(<text x="{0}" y="{1}">{2}</text>)"
      R"x(<text transform="translate(24 {3:.1f}) rotate(-90)">{4}</text></g>)x"
      "\n",
      (kLeft + kRight) / 2, kBottom + 44, xml_escaped(plot.x_label), (frame.top + kBottom) / 2,
      xml_escaped(plot.y_label));
}

void draw_series(std::string& out, const std::vector<Point>& all, bool markers, std::size_t colour,
                 const Frame& frame) {
  constexpr std::size_t kMostMarkers = 200;  // more would hide the line they stand on
  const auto points = thinned(all, frame);
  if (points.size() > 1) {
    out += fmt::format(
        R"(<polyline class="l{}" fill="none" stroke-width="{}" stroke-linejoin="round" )"
        R"(stroke-linecap="round" points=")",
        colour, markers ? 2 : 1.6);
    for (const Point& p : points) {
      out += fmt::format("{:.1f},{:.1f} ", frame.to_x(p.x), frame.to_y(p.y));
    }
    out.back() = '"';
    out += "/>\n";
  }
  if ((markers && points.size() <= kMostMarkers) || points.size() == 1) {
    for (const Point& p : points) {
      out += fmt::format(
          R"(<circle cx="{:.1f}" cy="{:.1f}" r="4" stroke-width="1.5" class="dot f{}"/>)",
          frame.to_x(p.x), frame.to_y(p.y), colour);
    }
    out += '\n';
  }
}

}  // namespace

std::string svg(const Plot& plot) {
  std::vector<std::vector<Point>> all;
  for (const Series& series : plot.series) all.push_back(drawable(series));
  const bool empty = std::all_of(all.begin(), all.end(), [](const auto& p) { return p.empty(); });
  const Legend legend = lay_out_legend(plot, all);
  const Frame frame =
      frame_around(all, kLegendBaseline - 4 + kLegendRow * std::max(legend.rows, 1));

  std::string out = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img">)"
      "\n<title>{2}</title>\n{3}"
      R"(<rect x="0.5" y="0.5" width="{4}" height="{5}" rx="10" class="card"/>)"
      "\n"
      R"(<text x="{6}" y="{7}" font-size="18" font-weight="600" class="ink">{2}</text>)"
      "\n",
      kWidth, kHeight, xml_escaped(plot.title), kStyle, kWidth - 1, kHeight - 1, kLeft,
      kTitleBaseline);
  draw_legend(out, plot, legend);
  draw_axes(out, plot, frame);
  for (std::size_t s = 0; s < all.size(); ++s) {
    draw_series(out, all[s], plot.series[s].markers, s % kColours, frame);
  }
  if (empty) {
    out += fmt::format(
        R"(<text x="{}" y="{:.1f}" font-size="15" text-anchor="middle" class="soft">no data yet</text>)"
        "\n",
        (kLeft + kRight) / 2, (frame.top + kBottom) / 2);
  }
  return out + "</svg>\n";
}

void write_svg(const base::Path& path, const Plot& plot) { base::write_file(path, svg(plot)); }

}  // namespace report
