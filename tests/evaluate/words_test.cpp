// White space, words and capital letters against what Python's str gives.

#include "evaluate/words.h"

#include <gtest/gtest.h>

namespace {

using namespace evaluate;

TEST(Words, AreWhatRunsOfWhiteSpaceSeparate) {
  // len(re.split(r"\s+", text)) of Python 3.11
  EXPECT_EQ(count_words(""), 1);
  EXPECT_EQ(count_words("one"), 1);
  EXPECT_EQ(count_words(" one \n two\n"), 4);
  EXPECT_EQ(count_words("a\u00A0b\u2003c\u3000\u2029d\x1F"
                        "e\u0085f\u180Eg\u200Bh"),
            6);
  EXPECT_EQ(count_words("a\xE2\x80 b\xFF"), 2);  // no character: no white space either
}

TEST(Words, AreStrippedOfAnyWhiteSpace) {
  EXPECT_EQ(strip(" \t\u2009a b\u00A0\u205F\n"), "a b");
  EXPECT_EQ(strip(" \n"), "");
  EXPECT_EQ(without_trailing_space("  a\u3000 "), "  a");
  EXPECT_EQ(without_trailing_space("\u00E0"), "\u00E0");
  EXPECT_EQ(without_trailing_space("\x80\x80\x80\x80\x80"), "\x80\x80\x80\x80\x80");
}

TEST(Words, CharactersAreCodePoints) { EXPECT_EQ(count_characters("a\u00E9\u20AC\U0001F600"), 4); }

TEST(Words, CapitalizeLowersTheRest) {
  EXPECT_EQ(capitalize(""), "");
  EXPECT_EQ(capitalize("the MAN"), "The man");
  EXPECT_EQ(capitalize("[x] A"), "[x] a");
  EXPECT_EQ(capitalize("\u00E9LAN \u00C9T\u00C9 \u0416"), "\u00C9lan \u00E9t\u00E9 \u0436");
  EXPECT_EQ(capitalize("\u01C6A\U00010400"),
            "\u01C5a\U00010428");  // dz with caron has a title case
}

}  // namespace
