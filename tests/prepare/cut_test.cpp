// Cuts: what lies before one and what lies after it encode to the ids of the whole.

#include "prepare/cut.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "text/text.h"

namespace prepare {
namespace {

using Ids = std::vector<text::TokenId>;

Ids encode(std::string_view text) {
  static text::Encoder encoder(text::Tokenizer::gpt2());
  Ids ids;
  encoder.encode(text, ids);
  return ids;
}

/// Tries every cut of `text` that last_cut() offers when it sees any beginning; returns how many.
int check_every_cut(const std::string& text) {
  const Ids whole = encode(text);
  int cuts = 0;
  for (std::size_t end = 2; end <= text.size(); ++end) {
    const std::size_t cut = last_cut(std::string_view(text).substr(0, end));
    EXPECT_LT(cut, end);
    if (cut + 1 != end) continue;  // one that was tried before, or none
    Ids joined = encode(std::string_view(text).substr(0, cut));
    const Ids rest = encode(std::string_view(text).substr(cut));
    joined.insert(joined.end(), rest.begin(), rest.end());
    EXPECT_EQ(joined, whole) << "cut at " << cut << " of '" << text << "'";
    ++cuts;
  }
  return cuts;
}

TEST(LastCut, IsBeforeWhiteSpaceOrAtTheEndOfARun) {
  EXPECT_EQ(last_cut("two words"), 3U);
  EXPECT_EQ(last_cut("one\ntwo\nx"), 7U);
  EXPECT_EQ(last_cut("abc123"), 3U);
  EXPECT_EQ(last_cut("123abc"), 3U);
  EXPECT_EQ(last_cut("it's"), 2U);
  EXPECT_EQ(last_cut("a  "), 1U);
}

TEST(LastCut, IsNowhereElse) {
  EXPECT_EQ(last_cut(""), 0U);
  EXPECT_EQ(last_cut("a"), 0U);
  EXPECT_EQ(last_cut("abcdef"), 0U);
  EXPECT_EQ(last_cut("   \n\n\t "), 0U);
  EXPECT_EQ(last_cut(" abc"), 0U);
  EXPECT_EQ(last_cut("'s"), 0U);              // a contraction
  EXPECT_EQ(last_cut("!?a"), 0U);             // may be one
  EXPECT_EQ(last_cut("ab\xC3\xA9"), 0U);      // a letter beyond ASCII goes on with the run
  EXPECT_EQ(last_cut("x\xC2\xA0 y"), 0U);     // NO-BREAK SPACE is white space
  EXPECT_EQ(last_cut("\xE3\x80\x80 y"), 0U);  // as is IDEOGRAPHIC SPACE
}

TEST(LastCut, ComesAfterCharactersBeyondAscii) {
  EXPECT_EQ(last_cut("\xE3\x80\x82\n"), 3U);  // an ideographic full stop
  EXPECT_EQ(last_cut("caf\xC3\xA9 "), 5U);
  EXPECT_EQ(last_cut("\xF0\x9F\x98\x80 x"), 4U);
}

TEST(LastCut, KeepsTheIdsOfNaturalText) {
  const std::string text =
      "It's a truth universally acknowledged, that a man in possession of $10,000 must've wanted "
      "more.\r\n\r\n  \"They'll see,\" she'd said;\t'tis  2024!\n\n\n    indented = f(x)[3]; // "
      "why?\n"
      "Na\xC3\xAFve caf\xC3\xA9 \xE2\x80\x94 \xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x82\nrock'n'roll "
      "we're I'm 5'9 x's''s \n";
  EXPECT_GT(check_every_cut(text), 50);
}

TEST(LastCut, KeepsTheIdsOfHostileText) {
  // Whatever the pre-tokenizer treats in its own way, in every mixture.
  const std::vector<std::string> parts = {" ",
                                          "  ",
                                          "\n",
                                          "\t",
                                          "\r\n",
                                          "a",
                                          "b",
                                          "ll",
                                          "s",
                                          "t",
                                          "re",
                                          "ve",
                                          "m",
                                          "d",
                                          "'",
                                          "''",
                                          "1",
                                          "23",
                                          ".",
                                          "!",
                                          "\x1C",
                                          std::string(1, '\0'),
                                          "\xC2\xA0",
                                          "\xC2\x85",
                                          "\xE2\x80\x83",
                                          "\xE2\x80\xA8",
                                          "\xE1\x9A\x80",
                                          "\xE2\x81\x9F",
                                          "\xE3\x80\x80",
                                          "\xE2\x80\x8B",
                                          "\xC3\xA9",
                                          "e\xCC\x81",
                                          "\xD9\xA3",
                                          "\xE4\xBD\xA0",
                                          "\xF0\x9F\x98\x80",
                                          "\xFF",
                                          "\xE2\x80",
                                          "\xC2",
                                          "\x80",
                                          "S",
                                          "LL",
                                          "\xE2\x80\x99"};
  int cuts = 0;
  for (std::uint64_t sample = 0; sample < 10'000; ++sample) {
    std::string text;
    for (std::uint64_t i = 0; i < 14; ++i) {
      text += parts[base::random_below(parts.size(), 1, sample, i)];
    }
    cuts += check_every_cut(text);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(cuts, 15'000);
}

}  // namespace
}  // namespace prepare
