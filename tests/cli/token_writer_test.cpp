// Tokens on their way to stdout: whole characters only, stop texts over token borders.

#include "cli/token_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model_testing.h"

namespace {

using testing::ElementsAre;

/// Pushes a text a byte at a time: the hardest token borders there are.
std::string filtered(const std::vector<std::string>& stops, const std::string& text) {
  cli::StopFilter filter(stops);
  std::string shown;
  for (const char c : text) shown += filter.push({&c, 1});
  return shown + filter.finish();
}

TEST(StopFilter, CutsBeforeTheFirstStopText) {
  EXPECT_EQ(filtered({"END"}, "one END two END"), "one ");
  EXPECT_EQ(filtered({"two", "one"}, "zero one two"), "zero ");
  EXPECT_EQ(filtered({"a"}, "abc"), "");
  EXPECT_EQ(filtered({}, "abc"), "abc");
}

TEST(StopFilter, GivesBackABeginningThatWasNone) {
  EXPECT_EQ(filtered({"END"}, "EN"), "EN");
  EXPECT_EQ(filtered({"aab"}, "aaaab"), "aa");
  EXPECT_EQ(filtered({"abab", "abac"}, "ababad"), "");
  EXPECT_EQ(filtered({"\n\n"}, "a\nb\n"), "a\nb\n");
}

TEST(StopFilter, ShowsWhatCannotBelongToAStopTextAtOnce) {
  cli::StopFilter filter({"END"});
  EXPECT_EQ(filter.push("some E"), "some ");
  EXPECT_EQ(filter.push("NGLISH"), "ENGLISH");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.push("xEND of it"), "x");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("more"), "");
  EXPECT_EQ(filter.finish(), "");
}

TEST(ReplaceInvalidUtf8, PutsOneReplacementForEachMaximalPart) {
  // Source: the examples of The Unicode Standard 16.0, tables 3-8 to 3-11.
  const std::string r = "\xEF\xBF\xBD";
  const auto replaced = [](std::string_view bytes) { return cli::replace_invalid_utf8(bytes); };
  EXPECT_EQ(replaced("h\xC3\xA9 \xF0\x9F\x99\x82"), "h\xC3\xA9 \xF0\x9F\x99\x82");
  EXPECT_EQ(replaced("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(replaced("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(replaced("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(replaced("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

class TokenWriters : public testing::Test {
 protected:
  TokenWriters() : tokenizer_(make()) {}

  text::Tokenizer make() const {
    model_testing::write_tokenizer(folder_.path());
    return text::Tokenizer::load(folder_.path());
  }
  std::vector<std::int32_t> ids_of(const std::string& bytes) const {
    const auto ids = text::encode(tokenizer_, bytes);
    return {ids.begin(), ids.end()};
  }
  cli::Output output() {
    return [this](std::string_view bytes) { pieces_.emplace_back(bytes); };
  }
  std::string shown() const {
    std::string all;
    for (const std::string& piece : pieces_) all += piece;
    return all;
  }

  model_testing::TemporaryFolder folder_;
  text::Tokenizer tokenizer_;
  std::vector<std::string> pieces_;
};

TEST_F(TokenWriters, TextNeverHoldsABrokenCharacterAtAnyTime) {
  const std::string text = "caf\xC3\xA9 \xF0\x9F\x99\x82\xE2\x82\xAC!";
  const auto ids = ids_of(text);
  ASSERT_GT(ids.size(), 8U) << "the characters must be split over tokens";
  const auto writer = cli::make_text_writer(tokenizer_, {}, output());
  for (const std::int32_t id : ids) EXPECT_TRUE(writer->push(id));
  writer->finish();
  EXPECT_EQ(shown(), text + "\n");
  EXPECT_GT(pieces_.size(), 5U) << "the text must stream";
  for (const std::string& piece : pieces_) EXPECT_TRUE(text::is_valid_utf8(piece)) << piece;
}

TEST_F(TokenWriters, AnUnfinishedCharacterAtTheEndIsAReplacement) {
  auto ids = ids_of("a\xF0\x9F\x99\x82");
  ids.pop_back();
  const auto writer = cli::make_text_writer(tokenizer_, {}, output());
  for (const std::int32_t id : ids) writer->push(id);
  writer->finish();
  EXPECT_EQ(shown(), "a\xEF\xBF\xBD\n");
}

TEST_F(TokenWriters, APromptMayEndInsideACharacter) {
  const auto ids = ids_of("a\xF0\x9F\x99\x82");
  const auto writer = cli::make_text_writer(tokenizer_, {}, output());
  writer->prompt(std::span(ids).first(ids.size() - 1));
  writer->push(ids.back());
  writer->finish();
  EXPECT_EQ(shown(), "a\xF0\x9F\x99\x82\n");
}

TEST_F(TokenWriters, AStopTextInThePromptDoesNotStop) {
  const auto writer = cli::make_text_writer(tokenizer_, {"stop"}, output());
  writer->prompt(ids_of("a stop and"));
  bool going = true;
  for (const std::int32_t id : ids_of(" another stop here")) going = going && writer->push(id);
  writer->finish();
  EXPECT_FALSE(going);
  EXPECT_EQ(shown(), "a stop and another \n");
}

TEST_F(TokenWriters, IdsStreamWithSpacesBetween) {
  const auto writer = cli::make_id_writer(nullptr, {}, output());
  writer->prompt(std::vector<std::int32_t>{7});
  EXPECT_TRUE(writer->push(5));
  EXPECT_TRUE(writer->push(60000));
  EXPECT_THAT(pieces_, ElementsAre("5", " 60000"));
  writer->finish();
  EXPECT_EQ(shown(), "5 60000\n");
}

TEST_F(TokenWriters, IdsThatReachIntoAStopTextAreDropped) {
  const auto ids = ids_of("x.y.z");
  ASSERT_EQ(ids.size(), 5U);
  const auto writer = cli::make_id_writer(&tokenizer_, {".z"}, output());
  bool going = true;
  for (const std::int32_t id : ids) going = going && writer->push(id);
  writer->finish();
  EXPECT_FALSE(going);
  EXPECT_EQ(shown(), model_testing::join({ids[0], ids[1], ids[2]}) + "\n");
}

TEST_F(TokenWriters, IdsHeldBackForAStopTextComeOutAtTheEnd) {
  const auto ids = ids_of("x.y.");
  const auto writer = cli::make_id_writer(&tokenizer_, {".z"}, output());
  for (const std::int32_t id : ids) EXPECT_TRUE(writer->push(id));
  writer->finish();
  EXPECT_EQ(shown(), model_testing::join(ids) + "\n");
}

TEST_F(TokenWriters, ATokenTheTokenizerLacksIsNamed) {
  const auto writer = cli::make_text_writer(tokenizer_, {}, output());
  try {
    writer->push(1009);
    FAIL() << "no error";
  } catch (const base::Error& error) {
    EXPECT_STREQ(
        error.what(),
        "token 1009 is in the model's vocabulary but not in the tokenizer's, which has ids "
        "0 to 1008; use --output-ids");
  }
}

}  // namespace
