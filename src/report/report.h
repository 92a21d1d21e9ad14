#pragma once
/// Pictures: series of numbers -> files and pages that show them.
///
/// Law: knows series, axes, tables and files; nothing of trainers or models.

#include <array>
#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"

namespace report {

struct Point {
  double x = 0;
  double y = 0;
  bool operator==(const Point&) const = default;
};

// ---- one picture ------------------------------------------------------------------------------

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

/// Draws an SVG document with librsvg, `scale` pixels a unit, and writes it as PNG, atomically. The
/// library is looked for when the first picture is drawn, so that no other command waits for it to
/// load. Returns false, writing nothing, where this machine does not have it. Throws Error for a
/// document that it cannot draw.
bool write_png(const base::Path& path, const std::string& svg, double scale = 2);

// ---- curves that grow -------------------------------------------------------------------------

/// A curve of any length in bounded room: of neighbouring points the lowest and the highest stay,
/// of ever more neighbours as it grows. As long as few points were added all of them are there.
class Curve {
 public:
  /// Keeps about `most` points, at least half as many once there were more. `most` >= 4.
  explicit Curve(std::size_t most = 2000) : most_(most) {}
  /// By rising x. A point that is not finite is left out.
  void add(double x, double y);
  /// What is kept, by rising x; the first and the last point always are.
  std::vector<Point> points() const;
  bool empty() const { return count_ == 0; }

 private:
  struct Bucket {
    Point low, high;
  };
  std::size_t most_;
  std::size_t count_ = 0;  // added
  std::size_t width_ = 1;  // points a bucket
  std::vector<Bucket> buckets_;
  Point first_, last_;
};

// ---- the page ---------------------------------------------------------------------------------

/// A curve of a run, in one of the page's charts.
struct PageCurve {
  std::string chart;     ///< its key, "loss": what charts of several runs are joined by
  std::string name;      ///< "train", "validation"
  bool markers = false;  ///< few points that are worth seeing
  Curve curve;           ///< over steps
};

/// A name and a value, for the page's tables.
using Fact = std::pair<std::string, std::string>;

/// Something that happened at a step.
struct PageMark {
  std::int64_t step = 0;
  std::string kind;  ///< "resume"
  std::string text;  ///< the rest of it
};

struct PageSample {
  std::int64_t step = 0;
  std::string text;  ///< any bytes
};

/// All that the page shows of one run.
struct PageRun {
  std::string name;
  std::string state;  ///< "running", "finished"
  std::vector<PageCurve> curves;
  std::vector<std::pair<std::string, Curve>> axes;  ///< "tokens": of each step, to be x instead
  std::vector<PageMark> marks;
  std::vector<PageSample> samples;
  std::vector<Fact> configuration, environment;
};

/// One page about one run or several, self-contained: styles, script and numbers are inside, and it
/// asks no network for anything. `live`: it loads itself again now and then. Any bytes may stand in
/// names and samples; what is not UTF-8 becomes U+FFFD.
std::string html(const std::string& title, std::span<const PageRun> runs, bool live);

// ---- tables -----------------------------------------------------------------------------------

struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  ///< as many cells as columns
};

/// Comma-separated values with a line of names first (RFC 4180, lines end with \n).
std::string csv(const Table& table);

// ---- the terminal -----------------------------------------------------------------------------

/// Curves as lines of text: braille dots for the first, a mark a point for the others. Exactly
/// `rows` lines of at most `columns` cells; none where there is no room for a picture
/// (kLeastColumns, kLeastRows) or nothing to draw. `steps`: where the x axis ends.
std::vector<std::string> text_chart(std::span<const Series> series, double steps, int columns,
                                    int rows);
inline constexpr int kLeastColumns = 30;
inline constexpr int kLeastRows = 5;

// ---- TensorBoard ------------------------------------------------------------------------------

/// How many values fall between min and max, in ranges of equal width.
struct Histogram {
  static constexpr int kRanges = 32;
  double min = 0, max = 0, sum = 0, sum_of_squares = 0;
  std::int64_t count = 0;  ///< finite values; the others do not count
  std::array<std::int64_t, kRanges> counts{};
};

/// Of (rows, columns) values; the same for any number of threads.
Histogram histogram_of(std::span<const float> values);

/// A file of TensorBoard's events, which grows. A killed process leaves at most one cut record at
/// its end, which TensorBoard takes for the end.
class EventFile {
 public:
  /// Makes a file in `folder` whose name sorts behind those of earlier runs. `seconds`: wall time,
  /// since 1970. `step`: events of earlier files from this one on no longer count. Throws Error
  /// when it cannot be written.
  EventFile(const base::Path& folder, double seconds, std::int64_t step);
  using Scalar = std::pair<std::string, double>;
  void scalars(double seconds, std::int64_t step, std::span<const Scalar> scalars);
  /// Shown as it is, line by line. Any bytes; what is not UTF-8 becomes U+FFFD.
  void text(double seconds, std::int64_t step, const std::string& tag, std::string_view text);
  void histogram(double seconds, std::int64_t step, const std::string& tag,
                 const Histogram& histogram);
  /// Hands everything to the system. Throws Error when it could not be written.
  void flush();
  const base::Path& path() const { return path_; }

 private:
  void append(const std::string& event);
  base::Path path_;
  std::ofstream file_;
};

}  // namespace report
