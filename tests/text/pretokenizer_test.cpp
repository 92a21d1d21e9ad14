// The pieces, named one by one: what the pattern says at its corners.

#include "text/pretokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/slow_tokenizer.h"
#include "text/text_testing.h"

namespace {

using ::testing::ElementsAre;

std::vector<std::string> pieces(std::string_view bytes) {
  std::vector<std::string> found;
  const char* p = bytes.data();
  const char* const end = p + bytes.size();
  while (p < end) {
    const char* const next = text::piece_end(p, end);
    found.emplace_back(p, next);
    p = next;
  }
  return found;
}

TEST(Pretokenizer, TakesOneSpaceBeforeAWord) {
  EXPECT_THAT(pieces("a  b 1"), ElementsAre("a", " ", " b", " 1"));
  EXPECT_THAT(pieces("a\tb"), ElementsAre("a", "\t", "b"));
  EXPECT_THAT(pieces("a \tb"), ElementsAre("a", " ", "\t", "b"));
  EXPECT_THAT(pieces("a\u00a0b"), ElementsAre("a", "\u00a0", "b"));
}

TEST(Pretokenizer, KeepsSpaceAtTheEndTogether) {
  EXPECT_THAT(pieces("a  \n "), ElementsAre("a", "  \n "));
  EXPECT_THAT(pieces(" "), ElementsAre(" "));
}

TEST(Pretokenizer, SplitsContractionsOnlyWhereAPieceStarts) {
  EXPECT_THAT(pieces("we're"), ElementsAre("we", "'re"));
  EXPECT_THAT(pieces("'sx"), ElementsAre("'s", "x"));
  EXPECT_THAT(pieces("x 's"), ElementsAre("x", " '", "s"));
  EXPECT_THAT(pieces("''s"), ElementsAre("''", "s"));
  EXPECT_THAT(pieces("'r 'S"), ElementsAre("'", "r", " '", "S"));
  EXPECT_THAT(pieces("'l"), ElementsAre("'", "l"));
}

TEST(Pretokenizer, SeparatesLettersNumbersAndTheRest) {
  EXPECT_THAT(pieces("ab12.,c\u00bd\u0301"),
              ElementsAre("ab", "12", ".,", "c", "\u00bd", "\u0301"));
}

TEST(Pretokenizer, LeavesInvalidBytesAlone) {
  EXPECT_THAT(pieces(" \xff\xfe!"), ElementsAre(" ", "\xff", "\xfe", "!"));
  EXPECT_THAT(pieces("a\xe2\x82"), ElementsAre("a", "\xe2", "\x82"));
}

TEST(Pretokenizer, ClassesEveryCodePointAsUnicode16Does) {
  constexpr std::string_view kNames = "OLNS";
  for (char32_t code = 0; code < 0x110000; ++code) {
    ASSERT_EQ(kNames[static_cast<std::size_t>(text::class_of(code))],
              text_testing::class_table()[code])
        << std::hex << static_cast<std::uint32_t>(code);
  }
}

}  // namespace
