// Encoding and decoding against golden cases and against the slow tokenizer.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "text/slow_tokenizer.h"
#include "text/text.h"
#include "text/text_testing.h"

namespace {

using text::Encoder;
using text::SpecialTokens;
using text::TokenId;
using text::Tokenizer;
using text_testing::expect_error;
using text_testing::from_base64;
using text_testing::SlowTokenizer;
using Ids = std::vector<TokenId>;

std::vector<nlohmann::json> golden(const std::string& name) {
  std::ifstream file(GPT2_SOURCE_DIR "/tests/golden/" + name);
  std::vector<nlohmann::json> cases;
  for (std::string line; std::getline(file, line);) cases.push_back(nlohmann::json::parse(line));
  return cases;
}

std::string bytes_of(const nlohmann::json& item) {
  return item.contains("text") ? item["text"].get<std::string>()
                               : from_base64(item["b64"].get<std::string>());
}

Ids encode(std::string_view bytes) { return text::encode(Tokenizer::gpt2(), bytes); }

// Source: tiktoken's gpt2 encoding, Unicode 16.0.
TEST(Tokenizer, EncodesTheGoldenCases) {
  const auto cases = golden("tokenizer_cases.jsonl");
  ASSERT_EQ(cases.size(), 4077U);
  Encoder encoder(Tokenizer::gpt2());
  for (const auto& item : cases) {
    const bool special = item.value("special", false);
    Ids ids;
    encoder.encode(bytes_of(item), ids, special ? SpecialTokens::kAllowed : SpecialTokens::kAsText);
    EXPECT_EQ(ids, item["ids"].get<Ids>()) << item["id"];
    EXPECT_EQ(Tokenizer::gpt2().decode(ids), bytes_of(item)) << item["id"];
  }
}

TEST(Tokenizer, DecodesTheGoldenCases) {
  const auto cases = golden("tokenizer_decode_cases.jsonl");
  ASSERT_EQ(cases.size(), 415U);
  for (const auto& item : cases) {
    EXPECT_EQ(Tokenizer::gpt2().decode(item["ids"].get<Ids>()), bytes_of(item)) << item.dump();
  }
}

TEST(Tokenizer, AppendsToTheIdsItIsGiven) {
  Ids ids = {7};
  Encoder(Tokenizer::gpt2()).encode("Hello world", ids);
  EXPECT_EQ(ids, (Ids{7, 15496, 995}));
}

TEST(Tokenizer, SpecialTokensAreTextUnlessAllowed) {
  const auto& gpt2 = Tokenizer::gpt2();
  const std::string document = "a<|endoftext|><|endoftext|>b<|endoftext|";
  const Ids as_text = text::encode(gpt2, document);
  EXPECT_EQ(std::count(as_text.begin(), as_text.end(), 50256), 0);
  const Ids allowed = text::encode(gpt2, document, SpecialTokens::kAllowed);
  EXPECT_EQ(std::count(allowed.begin(), allowed.end(), 50256), 2);
  EXPECT_EQ(allowed.front(), encode("a").front());
  EXPECT_EQ(gpt2.decode(as_text), document);
  EXPECT_EQ(gpt2.decode(allowed), document);
  EXPECT_EQ(text::encode(gpt2, "<|endoftext|>", SpecialTokens::kAllowed), Ids{50256});
}

TEST(Tokenizer, KnowsItsSizeAndItsEnd) {
  EXPECT_EQ(Tokenizer::gpt2().vocab_size(), 50257U);
  EXPECT_EQ(Tokenizer::gpt2().end_of_text(), TokenId{50256});
  EXPECT_EQ(Tokenizer::gpt2().token_bytes(50256), "<|endoftext|>");
  EXPECT_EQ(Tokenizer::gpt2().token_bytes(995), " world");
}

TEST(Tokenizer, NamesAnIdOutOfRange) {
  expect_error("token id 50257 is out of range: the vocabulary has ids 0 to 50256",
               [] { Tokenizer::gpt2().token_bytes(50257); });
  expect_error(
      "token id 65535 at position 2 (from 0) is out of range: the vocabulary has ids 0 to 50256",
      [] {
        Tokenizer::gpt2().decode(Ids{1, 2, 65535, 3});
      });
}

// ---- random texts ---------------------------------------------------------------------------

/// Text whose every few bytes are of another kind: scripts, spaces, contractions, broken bytes.
std::string random_text(text_testing::Random& random, std::size_t parts) {
  static const std::vector<std::string> kParts = {" ",
                                                  " ",
                                                  " ",
                                                  "  ",
                                                  "\n",
                                                  "\r\n",
                                                  "\t",
                                                  "\u00a0",
                                                  "\u3000",
                                                  "\u2028",
                                                  "\x1c",
                                                  "\x85",
                                                  "'",
                                                  "'s",
                                                  "'S",
                                                  "'re",
                                                  "'ll",
                                                  "'r",
                                                  "'l",
                                                  "'ve",
                                                  "'t",
                                                  "don't",
                                                  "''",
                                                  "the",
                                                  "The",
                                                  "ing",
                                                  "a",
                                                  "Z",
                                                  "7",
                                                  "2024",
                                                  "\u00bd",
                                                  "\u0663",
                                                  "\u4e09",
                                                  ".",
                                                  "...",
                                                  "!?",
                                                  "_",
                                                  "-",
                                                  "==",
                                                  "\u00e9",
                                                  "e\u0301",
                                                  "\u0416\u0443\u043a",
                                                  "\u4e2d\u6587",
                                                  "\u306e",
                                                  "\ud55c",
                                                  "\u0e01\u0e33",
                                                  "\u0928\u093f",
                                                  "\u05d0",
                                                  "\u0627",
                                                  "\U0001f600",
                                                  "\U0001f468\u200d\U0001f469",
                                                  "\u200b",
                                                  "\x80",
                                                  "\xc3",
                                                  "\xe2\x82",
                                                  "\xf0\x9f\x98",
                                                  "\xff",
                                                  "\xed\xa0\x80",
                                                  "\xc0\xaf",
                                                  "\xf4\x90\x80\x80",
                                                  std::string(1, '\0'),
                                                  "<|endoftext|>",
                                                  "\ufffd",
                                                  "\U0010ffff"};
  std::string text;
  for (std::size_t i = 0; i < parts; ++i) {
    const std::size_t repeat = random.below(8) == 0 ? 1 + random.below(40) : 1;
    const std::string& part = kParts[random.below(kParts.size())];
    for (std::size_t k = 0; k < repeat; ++k) text += part;
  }
  return text;
}

TEST(RandomTexts, EncodeAsTheSlowTokenizerDoesAndComeBack) {
  const Tokenizer& gpt2 = Tokenizer::gpt2();
  text_testing::Random random(1);
  Encoder encoder(gpt2);
  for (int i = 0; i < 4000; ++i) {
    const std::string bytes = random_text(random, 1 + random.below(30));
    Ids ids;
    encoder.encode(bytes, ids);
    ASSERT_EQ(ids, SlowTokenizer::gpt2().encode(bytes)) << "case " << i << ": " << bytes;
    ASSERT_EQ(gpt2.decode(ids), bytes);
  }
}

TEST(RandomTexts, OfAnyBytesEncodeAsTheSlowTokenizerDoesAndComeBack) {
  text_testing::Random random(2);
  Encoder encoder(Tokenizer::gpt2());
  for (int i = 0; i < 4000; ++i) {
    std::string bytes(random.below(60), '\0');
    // Half of them only of bytes that form many characters and nearly as many broken ones.
    for (char& c : bytes) {
      c = static_cast<char>(i % 2 == 0 ? random.below(256) : 0x80 + random.below(0x80));
    }
    Ids ids;
    encoder.encode(bytes, ids);
    ASSERT_EQ(ids, SlowTokenizer::gpt2().encode(bytes)) << "case " << i;
    ASSERT_EQ(Tokenizer::gpt2().decode(ids), bytes);
  }
}

/// Every pair and, around the borders of table 3-7, every triple of bytes.
TEST(RandomTexts, ShortByteStringsComeBack) {
  const std::string borders(
      "\x00 a\x7f\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xed\xef\xf0\xf4\xf5", 19);
  Encoder encoder(Tokenizer::gpt2());
  const auto check = [&](const std::string& bytes) {
    Ids ids;
    encoder.encode(bytes, ids);
    ASSERT_EQ(ids, SlowTokenizer::gpt2().encode(bytes));
    ASSERT_EQ(Tokenizer::gpt2().decode(ids), bytes);
  };
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) check({static_cast<char>(a), static_cast<char>(b)});
  }
  for (const char a : borders) {
    for (const char b : borders) {
      for (const char c : borders) check({a, b, c});
    }
  }
}

TEST(InvalidBytes, AreTokensOfTheirOwn) {
  const std::string broken = "\xe2\x80\xff\xed\xa0\x80";
  const Ids ids = encode("a" + broken + " b");
  ASSERT_EQ(ids.size(), broken.size() + 2);
  for (std::size_t i = 0; i < broken.size(); ++i) {
    EXPECT_EQ(Tokenizer::gpt2().token_bytes(ids[i + 1]), broken.substr(i, 1));
  }
}

TEST(InvalidBytes, TakeNoSpaceInFrontOfThem) {
  EXPECT_EQ(encode(" \xff"), (Ids{220, encode("\xff").front()}));
}

// ---- long texts: the limit is ctest's --------------------------------------------------------

class LinearTime : public ::testing::TestWithParam<const char*> {};

TEST_P(LinearTime, FourMegabytesComeBack) {
  const std::string_view unit = GetParam();
  std::string bytes;
  while (bytes.size() < (std::size_t{4} << 20)) bytes += unit;
  const Ids ids = encode(bytes);
  EXPECT_EQ(Tokenizer::gpt2().decode(ids), bytes);
  EXPECT_LE(ids.size(), bytes.size());
}

INSTANTIATE_TEST_SUITE_P(Inputs, LinearTime,
                         ::testing::Values("a", "A", " ", "\n", "\r\n", "\t", ".", "!", "=", "0",
                                           "the", "'", "'s", " \n", "\u3000", "\U0001f600",
                                           "\u4e2d", "\u0e01\u0e33", "\xff", "\xf0\x9f", "e\u0301",
                                           "abcdefghijklmnopqrstuvwxyz", "<|endoftext|>"));

TEST(LinearTimeRandom, MegabytesOfRandomBytesAndLettersComeBack) {
  text_testing::Random random(3);
  std::string bytes(std::size_t{4} << 20, '\0');
  for (char& c : bytes) c = static_cast<char>(random.below(256));
  EXPECT_EQ(Tokenizer::gpt2().decode(encode(bytes)), bytes);
  for (char& c : bytes) c = static_cast<char>('a' + random.below(26));
  EXPECT_EQ(Tokenizer::gpt2().decode(encode(bytes)), bytes);
}

}  // namespace
