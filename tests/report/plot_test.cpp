// The picture: well-formed, small, deterministic, and true to its numbers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <regex>
#include <sstream>

#include "base/file.h"
#include "expect_error.h"
#include "report/report.h"
#include "report/ticks.h"

namespace report {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// Empty when the text nests its elements properly, has one root and only known entities;
/// otherwise what is wrong. Enough of XML for what the plot writes.
std::string xml_fault(std::string_view text) {
  std::vector<std::string> open;
  int roots = 0;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '&') {
      const std::string entity(text.substr(i, text.find(';', i) - i + 1));
      static const std::regex known("&(amp|lt|gt|quot|apos);");
      if (!std::regex_match(entity, known)) return "entity " + entity;
      ++i;
    } else if (text[i] == '>') {
      return "a bare > at " + std::to_string(i);
    } else if (text[i] == '<') {
      const std::size_t end = text.find('>', i);
      if (end == std::string_view::npos) return "an open tag at the end";
      const std::string tag(text.substr(i + 1, end - i - 1));
      static const std::regex closing("/([a-z]+)");
      static const std::regex opening("([a-z]+)(\\s+[a-zA-Z-]+=\"[^\"<>]*\")*\\s*(/?)");
      std::smatch match;
      if (std::regex_match(tag, match, closing)) {
        if (open.empty() || open.back() != match[1]) return "unexpected </" + match[1].str() + ">";
        open.pop_back();
      } else if (std::regex_match(tag, match, opening)) {
        if (open.empty()) ++roots;
        if (match[3].length() == 0) open.push_back(match[1]);
      } else {
        return "tag <" + tag.substr(0, 80) + ">";
      }
      i = end + 1;
    } else {
      if (open.empty() && text[i] != '\n') return "text outside the root";
      ++i;
    }
  }
  if (!open.empty()) return "<" + open.back() + "> is not closed";
  return roots == 1 ? "" : "roots: " + std::to_string(roots);
}

Plot plot_of(std::vector<double> x, std::vector<double> y) {
  return {"Loss", "tokens", "loss (nats per token)", {{"train", std::move(x), std::move(y)}}};
}

/// The points of the first polyline.
std::vector<std::pair<double, double>> points_of(const std::string& picture) {
  std::vector<std::pair<double, double>> points;
  const auto begin = picture.find("points=\"");
  if (begin == std::string::npos) return points;
  const auto end = picture.find('"', begin + 8);
  std::istringstream stream(picture.substr(begin + 8, end - begin - 8));
  char comma = 0;
  for (double x = 0, y = 0; stream >> x >> comma >> y;) points.emplace_back(x, y);
  return points;
}

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(XmlFault, SeesFaults) {
  EXPECT_EQ(xml_fault("<a b=\"c\"><d/>x &amp; y</a>\n"), "");
  EXPECT_NE(xml_fault("<a><b></a>"), "");
  EXPECT_NE(xml_fault("<a>x & y</a>"), "");
  EXPECT_NE(xml_fault("<a b=\"<\"/>"), "");
  EXPECT_NE(xml_fault("<a/><b/>"), "");
}

TEST(Svg, IsWellFormedAndNamesEverything) {
  Plot plot = plot_of({0, 1e6, 2e6}, {10.8, 6, 5});
  plot.series.push_back({"validation", {1e6, 2e6}, {6.5, 5.25}, true});
  const std::string picture = svg(plot);
  EXPECT_EQ(xml_fault(picture), "");
  EXPECT_THAT(picture, HasSubstr("<title>Loss</title>"));
  for (const char* text : {">tokens<", ">loss (nats per token)<", ">train<", ">validation<",
                           ">last 5<", ">last 5.25<", ">0.5M<", ">2.0M<", ">10<"}) {
    EXPECT_THAT(picture, HasSubstr(text));
  }
  EXPECT_EQ(count_of(picture, "<polyline"), 2U);
  EXPECT_EQ(count_of(picture, "class=\"dot "), 2U) << "markers on the validation line alone";
}

TEST(Svg, NeedsNothingFromOutside) {
  const std::string picture = svg(plot_of({0, 1}, {1, 2}));
  EXPECT_THAT(picture, Not(HasSubstr("<script")));
  EXPECT_THAT(picture, Not(HasSubstr("href")));
  EXPECT_THAT(picture, Not(HasSubstr("@import")));
  EXPECT_THAT(picture, Not(HasSubstr("url(")));
}

TEST(Svg, EscapesTexts) {
  Plot plot = plot_of({0, 1}, {1, 2});
  plot.title = "a <b> & \"c\" \xc3\xa9 \xf0\x9f\x98\x80";
  plot.x_label = "]]> {} {0}";
  plot.series[0].name = "<script>";
  const std::string picture = svg(plot);
  EXPECT_EQ(xml_fault(picture), "");
  EXPECT_THAT(picture, HasSubstr("a &lt;b&gt; &amp; &quot;c&quot; \xc3\xa9 \xf0\x9f\x98\x80<"));
  EXPECT_THAT(picture, HasSubstr("]]&gt; {} {0}<"));
  EXPECT_THAT(picture, HasSubstr(">&lt;script&gt;<"));
}

TEST(Svg, ReplacesWhatXmlCannotHold) {
  Plot plot = plot_of({0, 1}, {1, 2});
  // A control character, a stray continuation, an overlong '/', a surrogate, U+FFFF, a cut
  // character.
  for (const char* bad : {"\x01", "\x80", "\xc0\xaf", "\xed\xa0\x80", "\xef\xbf\xbf", "\xe2\x82"}) {
    plot.title = std::string("left") + bad + "right";
    EXPECT_THAT(svg(plot), testing::ContainsRegex("<title>left +right</title>"));
  }
}

TEST(Svg, OfNothingSaysSo) {
  for (const Plot& plot : {Plot{"t", "x", "y", {}}, plot_of({}, {}), plot_of({1}, {kNan})}) {
    const std::string picture = svg(plot);
    EXPECT_EQ(xml_fault(picture), "");
    EXPECT_THAT(picture, HasSubstr(">no data yet<"));
    EXPECT_EQ(count_of(picture, "<polyline"), 0U);
    EXPECT_THAT(picture, Not(HasSubstr("nan")));
    EXPECT_THAT(picture, Not(HasSubstr("inf,")));
  }
}

TEST(Svg, LeavesOutPointsThatAreNotFinite) {
  const std::string with = svg(plot_of({0, 1, 2, kNan, 3, 4}, {5, kNan, 4, 1, kInfinity, 3}));
  EXPECT_EQ(with, svg(plot_of({0, 2, 4}, {5, 4, 3})));
  EXPECT_EQ(points_of(with).size(), 3U);
}

TEST(Svg, SurvivesNumbersAtTheEdgeOfDouble) {
  const std::string picture = svg(plot_of({0, 1, 2, 3}, {1e308, -1e308, 1e149, -1e149}));
  EXPECT_EQ(xml_fault(picture), "");
  EXPECT_THAT(picture, Not(HasSubstr("nan")));
  EXPECT_EQ(points_of(picture).size(), 2U);
}

TEST(Svg, DrawsOnePointAsADot) {
  const std::string picture = svg(plot_of({4096}, {10.8}));
  EXPECT_EQ(xml_fault(picture), "");
  EXPECT_EQ(count_of(picture, "class=\"dot "), 1U);
  EXPECT_THAT(picture, Not(HasSubstr("nan")));
}

TEST(Svg, DrawsAConstantSeriesAcrossTheMiddle) {
  const std::string picture = svg(plot_of({0, 1, 2}, {3, 3, 3}));
  const auto points = points_of(picture);
  ASSERT_EQ(points.size(), 3U);
  EXPECT_EQ(points.front().second, points.back().second);
  EXPECT_GT(points.front().second, 150);
  EXPECT_LT(points.front().second, 350);
  EXPECT_EQ(count_of(svg(plot_of({0, 1}, {0, 0})), "<polyline"), 1U);
}

TEST(Svg, PutsLowerValuesLower) {
  const auto points = points_of(svg(plot_of({0, 1, 2}, {10, 5, 0})));
  ASSERT_EQ(points.size(), 3U);
  EXPECT_LT(points[0].second, points[1].second);  // SVG's y grows downwards
  EXPECT_NEAR(points[1].second - points[0].second, points[2].second - points[1].second, 0.11);
  EXPECT_NEAR(points[1].first - points[0].first, points[2].first - points[1].first, 0.11);
}

TEST(Svg, ThinsLongSeriesButKeepsTheirExtremes) {
  constexpr int kPoints = 2'000'000;
  std::vector<double> x;
  std::vector<double> y;
  for (int i = 0; i < kPoints; ++i) {
    x.push_back(i);
    y.push_back(std::sin(i * 0.7) + 5);
  }
  y[1'234'567] = 11;  // one spike among two million points
  const std::string picture = svg(plot_of(x, y));
  EXPECT_LT(picture.size(), 200'000U);
  const auto points = points_of(picture);
  const auto top = *std::min_element(points.begin(), points.end(),
                                     [](auto a, auto b) { return a.second < b.second; });
  EXPECT_NEAR((top.first - points.front().first) / (points.back().first - points.front().first),
              1'234'567.0 / kPoints, 0.002);
  EXPECT_TRUE(std::is_sorted(points.begin(), points.end(),
                             [](auto a, auto b) { return a.first < b.first; }));
}

TEST(Svg, IsDeterministicAndTakesPointsInAnyOrder) {
  const std::string picture = svg(plot_of({0, 1, 2}, {3, 2, 1}));
  EXPECT_EQ(picture, svg(plot_of({0, 1, 2}, {3, 2, 1})));
  EXPECT_EQ(picture, svg(plot_of({2, 0, 1}, {1, 3, 2})));
}

TEST(Svg, WrapsALongLegend) {
  Plot plot = plot_of({0, 1}, {1, 2});
  plot.series.assign(9, {"a series with a rather long name", {0, 1}, {1, 2}});
  const std::string picture = svg(plot);
  EXPECT_EQ(xml_fault(picture), "");
  EXPECT_EQ(count_of(picture, ">a series with a rather long name<"), 9U);
  EXPECT_THAT(picture, HasSubstr("y=\"64.0\""));
  EXPECT_THAT(picture, HasSubstr("y=\"84.0\""));
}

TEST(Svg, NamesTheSeriesWhoseColumnsDiffer) {
  expect_error("plot: series train: expected as many x as y, got 2 and 1", [] {
    (void)svg(plot_of({0, 1}, {1}));
  });
}

TEST(WriteSvg, WritesTheDocument) {
  const base::Path path = std::string(testing::TempDir()) + "report_plot_test.svg";
  const Plot plot = plot_of({0, 1}, {1, 2});
  write_svg(path, plot);
  EXPECT_EQ(base::read_file(path), svg(plot));
  std::filesystem::remove(path);
}

TEST(WriteSvg, NamesTheFileItCannotWrite) {
  EXPECT_THAT(error_of([] { write_svg("/nonexistent/loss.svg", plot_of({}, {})); }),
              HasSubstr("/nonexistent/loss.svg"));
}

TEST(Ticks, AreRoundAndInside) {
  EXPECT_THAT(ticks({0, 10}, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(ticks({3.4, 11.1}, 8), ElementsAre(4, 5, 6, 7, 8, 9, 10, 11));
  EXPECT_THAT(ticks({-1, 1}, 4), ElementsAre(-1, -0.5, 0, 0.5, 1));
  EXPECT_FALSE(std::signbit(ticks({-1, 1}, 4)[2]));
  EXPECT_THAT(ticks({0, 9.8e6}, 7), ElementsAre(0, 2e6, 4e6, 6e6, 8e6));
}

TEST(Ticks, AreAlwaysSomeButNeverMany) {
  for (const Axis axis : {Axis{0, 1e-12},
                          {1e9, 1e9 + 1},
                          {-1e150, 1e150},
                          {0.999, 1.001},
                          {7, 7.000001},
                          {0, 1.9},
                          {-0.1, 41.7}}) {
    const auto at = ticks(axis, 7);
    EXPECT_GE(at.size(), 2U) << axis.lo << " to " << axis.hi;
    EXPECT_LE(at.size(), 9U) << axis.lo << " to " << axis.hi;
  }
}

TEST(TickLabels, ShareUnitAndDecimals) {
  EXPECT_THAT(tick_labels({0, 5e6, 1e7}), ElementsAre("0", "5M", "10M"));
  EXPECT_THAT(tick_labels({0, 2.5e9, 5e9}), ElementsAre("0", "2.5G", "5.0G"));
  EXPECT_THAT(tick_labels({3.5, 4, 4.5}), ElementsAre("3.5", "4.0", "4.5"));
  EXPECT_THAT(tick_labels({-200, 0, 200}), ElementsAre("-200", "0", "200"));
  EXPECT_THAT(tick_labels({0, 5e-4, 1e-3}), ElementsAre("0", "0.0005", "0.0010"));
  EXPECT_THAT(tick_labels({0, 500, 1000, 1500}), ElementsAre("0", "0.5k", "1.0k", "1.5k"));
  EXPECT_THAT(tick_labels({0.1, 0.2, 0.3}), ElementsAre("0.1", "0.2", "0.3"));
}

TEST(TickLabels, StayShortForExtremes) {
  for (const auto& at :
       {std::vector<double>{0, 1e-9, 2e-9}, {1e9, 1e9 + 1}, {0, 1e149}, {1e35, 2e35}}) {
    const auto labels = tick_labels(at);
    for (const std::string& label : labels) EXPECT_LE(label.size(), 11U) << label;
    EXPECT_NE(labels.front(), labels.back());
  }
}

TEST(ShortNumber, HasFourDigits) {
  EXPECT_EQ(short_number(3.91234), "3.912");
  EXPECT_EQ(short_number(-1'250'000), "-1.25M");
  EXPECT_EQ(short_number(0), "0");
}

}  // namespace
}  // namespace report
