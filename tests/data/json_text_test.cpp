// The text of a line against a general parser, on lines that are broken in every way.

#include "data/json_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "base/rng.h"

namespace data {
namespace {

std::optional<std::string> ours(std::string line, const std::vector<std::string>& field) {
  std::string_view text;
  if (!find_text(line, field, text).empty()) return std::nullopt;
  return std::string(text);
}

std::optional<std::string> theirs(const std::string& line, const std::vector<std::string>& field) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (json.is_discarded()) return std::nullopt;
  const nlohmann::json* at = &json;
  for (const std::string& name : field) {
    if (!at->is_object() || !at->contains(name)) return std::nullopt;
    at = &(*at)[name];
  }
  if (!at->is_string()) return std::nullopt;
  return at->get<std::string>();
}

TEST(FindText, AgreesWithAGeneralParser) {
  const std::vector<std::string> seeds = {
      R"({"text": "a\u00e9\ud83d\ude00\n\t\"\\\/\b\f\r", "b": [1, -2.5e+3, {}, [], true, false, null]})",
      R"({"b": {"text": "no"}, "x": {"text": {"text": 1}}, "text": "yes", "n": 0.0, "m": -0})",
      R"(  {"text" : 1 , "text":"last" , "e":1E5,"long":"0123456789012345678901234567890123456789"} )",
      R"({"text": {"text": "deep", "t": [{"text": 1}]}, "\u0074ext": "escaped key"})"};
  const std::string letters = "{}[]:,\"\\ue0123dD8tfnabx. -+E\n\x01/";
  int texts = 0;
  for (std::uint64_t sample = 0; sample < 200'000; ++sample) {
    const auto draw = [&](std::uint64_t i, std::size_t below) {
      return static_cast<std::size_t>(base::random_below(below, 7, sample, i));
    };
    std::string line = seeds[draw(0, seeds.size())];
    for (std::size_t i = draw(1, 3); i > 0; --i) {
      const std::size_t at = draw(10 * i, line.size());
      const char letter = letters[draw(10 * i + 1, letters.size())];
      switch (draw(10 * i + 2, 3)) {
        case 0:
          line[at] = letter;
          break;
        case 1:
          line.insert(at, 1, letter);
          break;
        default:
          line.erase(at, 1 + draw(10 * i + 3, 4));
      }
    }
    const std::vector<std::string> field = draw(2, 2) == 0
                                               ? std::vector<std::string>{"text"}
                                               : std::vector<std::string>{"text", "text"};
    const auto expected = theirs(line, field);
    ASSERT_EQ(ours(line, field), expected) << line;
    if (expected) ++texts;
  }
  EXPECT_GT(texts, 20'000);
}

}  // namespace
}  // namespace data
