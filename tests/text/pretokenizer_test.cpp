// The pieces, named one by one: what the pattern says at its corners.

#include "text/pretokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/cpu/isa.h"
#include "text/slow_tokenizer.h"
#include "text/text_testing.h"

namespace {

using ::testing::ElementsAre;

/// Every processor's instruction sets, each with a name.
class Pretokenizer : public ::testing::TestWithParam<const text::cpu::Kernels*> {
 protected:
  std::vector<std::string> pieces(std::string_view bytes) const {
    std::vector<std::size_t> starts;
    text::cpu::CutState state{};
    std::vector<std::uint16_t> positions(text::cpu::kPositions);
    const std::size_t blocks = bytes.size() / text::cpu::kBlockBytes + 1;
    // In chunks of different sizes: what is carried over must not matter.
    for (std::size_t done = 0, chunk = 1; done < blocks; done += chunk, chunk = chunk % 3 + 1) {
      const std::size_t now = std::min(chunk, blocks - done);
      const std::size_t begin = done * text::cpu::kBlockBytes;
      const std::size_t count =
          GetParam()->cut(state, bytes.data(), bytes.size(), begin, now, positions.data());
      for (std::size_t i = 0; i < count; ++i) starts.push_back(begin + positions[i] - 1);
    }
    starts.push_back(bytes.size());
    std::vector<std::string> found;
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
      found.emplace_back(bytes.substr(starts[i], starts[i + 1] - starts[i]));
    }
    return found;
  }
};

INSTANTIATE_TEST_SUITE_P(InstructionSets, Pretokenizer,
                         ::testing::ValuesIn(text::cpu::available_kernels()),
                         [](const auto& kernels) { return std::string(kernels.param->name); });

TEST_P(Pretokenizer, TakesOneSpaceBeforeAWord) {
  EXPECT_THAT(pieces("a  b 1"), ElementsAre("a", " ", " b", " 1"));
  EXPECT_THAT(pieces("a\tb"), ElementsAre("a", "\t", "b"));
  EXPECT_THAT(pieces("a \tb"), ElementsAre("a", " ", "\t", "b"));
  EXPECT_THAT(pieces("a\u00a0b"), ElementsAre("a", "\u00a0", "b"));
}

TEST_P(Pretokenizer, KeepsSpaceAtTheEndTogether) {
  EXPECT_THAT(pieces("a  \n "), ElementsAre("a", "  \n "));
  EXPECT_THAT(pieces(" "), ElementsAre(" "));
}

TEST_P(Pretokenizer, SplitsContractionsOnlyWhereAPieceStarts) {
  EXPECT_THAT(pieces("we're"), ElementsAre("we", "'re"));
  EXPECT_THAT(pieces("'sx"), ElementsAre("'s", "x"));
  EXPECT_THAT(pieces("x 's"), ElementsAre("x", " '", "s"));
  EXPECT_THAT(pieces("''s"), ElementsAre("''", "s"));
  EXPECT_THAT(pieces("'r 'S"), ElementsAre("'", "r", " '", "S"));
  EXPECT_THAT(pieces("'l"), ElementsAre("'", "l"));
}

TEST_P(Pretokenizer, SeparatesLettersNumbersAndTheRest) {
  EXPECT_THAT(pieces("ab12.,c\u00bd\u0301"),
              ElementsAre("ab", "12", ".,", "c", "\u00bd", "\u0301"));
}

TEST_P(Pretokenizer, LeavesInvalidBytesAlone) {
  EXPECT_THAT(pieces(" \xff\xfe!"), ElementsAre(" ", "\xff", "\xfe", "!"));
  EXPECT_THAT(pieces("a\xe2\x82"), ElementsAre("a", "\xe2", "\x82"));
}

/// What stands across a border of blocks is cut as it is elsewhere.
TEST_P(Pretokenizer, DoesNotSeeTheBlocks) {
  const std::vector<std::string> parts = {"don't we're I'll",
                                          " 's 'll",
                                          "\u3000\u3000x",
                                          " \u2003 y",
                                          "\n \u00a0\n",
                                          "\u4e2d\u6587",
                                          "\U0001f600\U0001f600 ",
                                          "\xf0\x9f\x98",
                                          "\xe4\xb8",
                                          "12\u0663\u00bd",
                                          "'",
                                          "'re",
                                          "''s",
                                          " \xff's",
                                          "  \xff"};
  for (const std::string& part : parts) {
    for (std::size_t before = 40; before < 200; ++before) {
      for (const char c : {'a', ' ', '.', '\n'}) {
        const std::string text = std::string(before, c) + part + "z " + part;
        const auto slow = text_testing::slow_pieces(text);
        ASSERT_EQ(pieces(text), std::vector<std::string>(slow.begin(), slow.end()))
            << before << " times '" << c << "' and " << part;
      }
    }
  }
}

TEST(Classes, CoverEveryCodePointAsUnicode16Does) {
  constexpr std::string_view kNames = "OLNS";
  for (char32_t code = 0; code < 0x110000; ++code) {
    ASSERT_EQ(kNames[static_cast<std::size_t>(text::class_of(code))],
              text_testing::class_table()[code])
        << std::hex << static_cast<std::uint32_t>(code);
  }
}

}  // namespace
