// UTF-8 validity and the stream decoder.

#include "base/utf8.h"

#include <gtest/gtest.h>

#include "text/slow_tokenizer.h"
#include "text/text.h"
#include "text/text_testing.h"

namespace {

using text::StreamDecoder;
using text::TokenId;
using text::Tokenizer;

TEST(Utf8, AcceptsEveryCharacterAndOnlyThose) {
  for (char32_t code = 0; code < 0x200000; ++code) {
    const bool character = code < 0x110000 && (code < 0xD800 || code > 0xDFFF);
    const std::string bytes = text_testing::utf8_of(code);
    ASSERT_EQ(text::is_valid_utf8(bytes), character) << static_cast<std::uint32_t>(code);
    if (!character) continue;
    std::string written;
    base::append_utf8(written, code);
    ASSERT_EQ(written, bytes);
    ASSERT_EQ(base::utf8_step(bytes.data(), bytes.data() + bytes.size()).code, code);
  }
}

TEST(Utf8, RefusesOverlongAndCutForms) {
  EXPECT_TRUE(text::is_valid_utf8(""));
  for (const char* bytes :
       {"\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "a\xe2\x82", "\xe2\x28\xa1", "\xff"}) {
    EXPECT_FALSE(text::is_valid_utf8(bytes)) << bytes;
  }
}

/// The ids of single bytes, one a byte.
std::vector<TokenId> byte_ids(std::string_view bytes) {
  std::vector<TokenId> ids;
  for (const char c : bytes) {
    // A lone invalid byte, or an ASCII character, is one token.
    const auto found = text::encode(Tokenizer::gpt2(), std::string(1, c));
    EXPECT_EQ(found.size(), 1U);
    ids.push_back(found[0]);
  }
  return ids;
}

/// What comes out at each push, '|' between, and what finish() adds after "||".
std::string streamed(std::string_view bytes) {
  StreamDecoder decoder(Tokenizer::gpt2());
  std::string log;
  for (const TokenId id : byte_ids(bytes)) log += decoder.push(id) + "|";
  return log + "|" + decoder.finish();
}

TEST(StreamDecoder, HoldsACharacterBackUntilItIsWhole) {
  EXPECT_EQ(streamed("a\u00e9\U0001f600b"), "a||\u00e9||||\U0001f600|b||");
}

TEST(StreamDecoder, PassesInvalidBytesOnceTheyAreKnown) {
  EXPECT_EQ(streamed("\xff"
                     "a\xe2\x82"
                     "b"),
            "\xff|a|||\xe2\x82"
            "b||");
  EXPECT_EQ(streamed("\xf0\x9f\xe2\x82\xac"), "||\xf0\x9f||\u20ac||");
}

TEST(StreamDecoder, GivesTheRestAtTheEnd) {
  EXPECT_EQ(streamed("x\xf0\x9f\x98"), "x|||||\xf0\x9f\x98");
  StreamDecoder decoder(Tokenizer::gpt2());
  EXPECT_EQ(decoder.finish(), "");
  decoder.push(byte_ids("\xe2")[0]);
  EXPECT_EQ(decoder.finish(), "\xe2");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, GivesAllBytesOfRandomIdsInOrder) {
  text_testing::Random random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<TokenId> ids(50);
    for (TokenId& id : ids) id = static_cast<TokenId>(random.below(round % 2 == 0 ? 50257 : 256));
    StreamDecoder decoder(Tokenizer::gpt2());
    std::string bytes;
    for (const TokenId id : ids) bytes += decoder.push(id);
    bytes += decoder.finish();
    EXPECT_EQ(bytes, Tokenizer::gpt2().decode(ids));
  }
}

TEST(StreamDecoder, NamesAnIdOutOfRange) {
  text_testing::expect_error("token id 50257 is out of range: the vocabulary has ids 0 to 50256",
                             [] { StreamDecoder(Tokenizer::gpt2()).push(50257); });
}

}  // namespace
