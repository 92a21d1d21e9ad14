// The picture in the terminal, as text.

#include <gmock/gmock.h>

#include <cmath>

#include "report/report.h"

namespace report {
namespace {

/// Cells of a line: characters of UTF-8.
int cells(const std::string& line) {
  return static_cast<int>(
      std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

Series falling() {
  Series series{"loss", {}, {}};
  for (int i = 1; i <= 100; ++i) {
    series.x.push_back(i);
    series.y.push_back(11.0 - 0.1 * i);
  }
  return series;
}

TEST(TextChart, DrawsALineFromTheUpperLeftToTheLowerRight) {
  const Series series = falling();
  const auto lines = text_chart(std::span(&series, 1), 100, 30, 6);
  EXPECT_THAT(lines, testing::ElementsAre("        loss 1",                  //
                                          "   10.9│⠉⠒⠢⠤⣀⡀                ",  //
                                          "       │     ⠈⠑⠒⠤⢄⣀           ",  //
                                          "    4.3│           ⠉⠑⠒⠤⢄⡀     ",  //
                                          "      1│                ⠈⠉⠒⠢⠤⣀",  //
                                          "       └1 ──────────────── 100"));
}

TEST(TextChart, FillsTheRoomItIsGivenAndNoMore) {
  Series validation{"validation", {20, 60, 100}, {9.5, 5, 1.5}};
  const std::vector<Series> series = {falling(), validation};
  for (const int columns : {30, 41, 80, 200}) {
    for (const int rows : {5, 6, 16, 40}) {
      const auto lines = text_chart(series, 250, columns, rows);
      ASSERT_EQ(static_cast<int>(lines.size()), rows);
      for (const std::string& line : lines) EXPECT_LE(cells(line), columns) << line;
    }
  }
  const auto lines = text_chart(series, 250, 60, 12);
  EXPECT_EQ(lines.front(), "        loss 1   o validation 1.5");
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  EXPECT_EQ(std::ranges::count(all.substr(all.find('\n')), 'o'), 3) << all;
  EXPECT_TRUE(lines.back().ends_with(" 250")) << lines.back();
}

TEST(TextChart, IsNothingWhereThereIsNoRoomOrNothingToDraw) {
  const Series series = falling();
  EXPECT_TRUE(text_chart(std::span(&series, 1), 100, 29, 10).empty());
  EXPECT_TRUE(text_chart(std::span(&series, 1), 100, 80, 4).empty());
  EXPECT_TRUE(text_chart({}, 100, 80, 10).empty());
  const Series none{"loss", {1, 2}, {std::nan(""), INFINITY}};
  EXPECT_TRUE(text_chart(std::span(&none, 1), 100, 80, 10).empty());
}

TEST(TextChart, SurvivesOnePointAndEqualOnes) {
  for (const Series& series :
       {Series{"loss", {5}, {2}}, Series{"loss", {5, 5}, {2, 2}}, Series{"loss", {1, 9}, {0, 0}}}) {
    const auto lines = text_chart(std::span(&series, 1), 0, 40, 8);
    ASSERT_EQ(lines.size(), 8U);
  }
}

}  // namespace
}  // namespace report
