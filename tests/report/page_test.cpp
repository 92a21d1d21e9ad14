// Curves in bounded room, the page's bytes, tables, PNG. What the page does is page_test.py's.

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "expect_error.h"
#include "report/escape.h"
#include "report/report.h"
#include "temporary_folder.h"

namespace report {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Curves, KeepEveryPointOfAShortOne) {
  Curve curve(100);
  for (int i = 0; i < 99; ++i) curve.add(i, std::sin(i));
  const auto points = curve.points();
  ASSERT_EQ(points.size(), 99U);
  for (int i = 0; i < 99; ++i)
    EXPECT_EQ(points[static_cast<std::size_t>(i)], Point(i, std::sin(i)));
}

TEST(Curves, KeepExtremesOfALongOneInBoundedRoom) {
  Curve curve(200);
  constexpr int kPoints = 100'003;
  for (int i = 0; i < kPoints; ++i) {
    curve.add(i, i == 77'777 ? 1000 : i == 1'234 ? -1000 : std::sin(i * 0.01));
    ASSERT_LE(i % 1000 == 0 ? curve.points().size() : 0, 404U);
  }
  const auto points = curve.points();
  EXPECT_GE(points.size(), 100U);
  EXPECT_EQ(points.front().x, 0);
  EXPECT_EQ(points.back().x, kPoints - 1);
  const auto has = [&](const Point& p) { return std::ranges::find(points, p) != points.end(); };
  EXPECT_TRUE(has({77'777, 1000}));
  EXPECT_TRUE(has({1'234, -1000}));
  EXPECT_TRUE(std::ranges::is_sorted(points, {}, &Point::x));
}

TEST(Curves, LeaveOutWhatIsNotFinite) {
  Curve curve;
  EXPECT_TRUE(curve.empty());
  curve.add(0, std::nan(""));
  curve.add(1, INFINITY);
  EXPECT_TRUE(curve.empty());
  EXPECT_TRUE(curve.points().empty());
  curve.add(2, 5);
  EXPECT_THAT(curve.points(), ElementsAre(Point(2, 5)));
}

/// The JSON inside a page.
nlohmann::json data_of(const std::string& page) {
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const std::size_t begin = page.find(open) + open.size();
  return nlohmann::json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

PageRun a_run() {
  PageRun run;
  run.name = "run </script> <b>";
  run.state = "running";
  run.curves.push_back({"loss", "train", false, Curve()});
  for (int i = 0; i < 3; ++i) run.curves[0].curve.add(1e6 + i, 4.0 / (3 + i));
  run.axes.emplace_back("tokens", Curve());
  run.axes[0].second.add(1e6, 5e12);
  run.marks.push_back({7, "spike", "z: 8"});
  run.samples.push_back({9, "one\ntwo\xff </script><!-- \xf0\x9f\x98\x80"});
  run.configuration.emplace_back("lr", "0.1");
  return run;
}

TEST(Page, HoldsItsNumbersAndTextsAsTheyAre) {
  const PageRun run = a_run();
  const auto data = data_of(html("a & b", std::span(&run, 1), true));
  EXPECT_EQ(data["title"], "a & b");
  EXPECT_EQ(data["live"], true);
  const auto& shown = data["runs"][0];
  EXPECT_EQ(shown["name"], "run </script> <b>");
  EXPECT_EQ(shown["curves"][0]["x"], (std::vector<double>{1000000, 1000001, 1000002}));
  EXPECT_EQ(shown["curves"][0]["y"], (std::vector<double>{1.33333, 1, 0.8}));
  EXPECT_EQ(shown["axes"][0]["y"][0], 5e12);
  EXPECT_EQ(shown["marks"][0], nlohmann::json::array({7, "spike", "z: 8"}));
  EXPECT_EQ(shown["samples"][0][1], "one\ntwo\xEF\xBF\xBD </script><!-- \xf0\x9f\x98\x80");
  EXPECT_EQ(shown["configuration"][0], (nlohmann::json::array({"lr", "0.1"})));
}

TEST(Page, IsSelfContainedAndNothingInItEndsAnElement) {
  const PageRun run = a_run();
  const std::string page = html("a </title> & b", std::span(&run, 1), false);
  const auto times = [&](const std::string& part) {
    int count = 0;
    for (std::size_t at = page.find(part); at != std::string::npos; at = page.find(part, at + 1)) {
      ++count;
    }
    return count;
  };
  EXPECT_EQ(times("</script>"), 2);
  EXPECT_EQ(times("<script"), 2);
  EXPECT_EQ(times("</title>"), 1);
  EXPECT_EQ(times("<!--"), 0);
  // The one address is the name of SVG's elements, which nobody opens.
  EXPECT_EQ(times("http"), times("http://www.w3.org/2000/svg") + times("http-equiv"));
  EXPECT_EQ(times("default-src 'none'"), 1);
  EXPECT_EQ(html("x", {}, false), html("x", {}, false));
}

TEST(Escapes, MakeAnyBytesUtf8) {
  EXPECT_EQ(as_utf8("a\xff\xc3\xa4\xc3"), "a\xEF\xBF\xBD\xc3\xa4\xEF\xBF\xBD");
  EXPECT_EQ(as_utf8("\xed\xa0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  EXPECT_EQ(as_utf8("\xc0\x80\xf5"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(xml_escaped("<a b=\"&\">\x01\xef\xbf\xbe"), "&lt;a b=&quot;&amp;&quot;&gt;  ");
  EXPECT_EQ(script_escaped("\"<\\u0041>&\""), "\"\\u003c\\u0041\\u003e\\u0026\"");
}

TEST(Tables, AreCommaSeparated) {
  EXPECT_EQ(csv({{"a", "b,c"}, {{"1", ""}, {"say \"x\"", "2\n3"}}}),
            "a,\"b,c\"\n1,\n\"say \"\"x\"\"\",\"2\n3\"\n");
  expect_error("table: expected 1 cells a row, got 2", [] { csv({{"a"}, {{"1", "2"}}}); });
}

TEST(Png, IsDrawnFromTheSvg) {
  const TemporaryFolder folder;
  Plot plot{"Training loss", "tokens", "loss", {{"train", {0, 1, 2}, {3, 2, 1}}}};
  if (!write_png(folder / "a.png", svg(plot), 0.5)) GTEST_SKIP() << "librsvg is not installed";
  const std::string png = base::read_file(folder / "a.png");
  EXPECT_TRUE(png.starts_with("\x89PNG\r\n\x1a\n"));
  const auto number = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      value = value << 8 | static_cast<unsigned char>(png[at + i]);
    }
    return value;
  };
  EXPECT_EQ(number(16), 400U);  // of 800 x 460 units
  EXPECT_EQ(number(20), 230U);
  EXPECT_GT(png.size(), 2'000U);  // an empty picture of this size takes some 700
  try {
    write_png(folder / "a.png", "<svg xmlns='http://www.w3.org/2000/svg'><g>");
    ADD_FAILURE() << "half a document was drawn";
  } catch (const base::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("a.png: librsvg cannot draw the picture: "));
  }
}

}  // namespace
}  // namespace report
