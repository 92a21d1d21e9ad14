// Learnt vocabularies against a learner that counts everything anew for each merge.

#include "text/learn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "temporary_folder.h"
#include "text/slow_tokenizer.h"
#include "text/text.h"
#include "text/text_testing.h"

namespace {

using text::LearnOptions;
using text::PieceCounts;
using text::Tokenizer;

using Spelled = std::vector<std::string>;  // a word as the bytes of its tokens

/// The texts of the merges that algorithm 1 of arXiv:1508.07909 makes, with ties to the pair whose
/// tokens are older.
std::vector<std::pair<std::string, std::string>> slow_merges(
    const std::map<std::string, std::uint64_t>& pieces, std::size_t wanted,
    std::uint64_t min_frequency, const Tokenizer& ids) {
  std::map<std::string, std::size_t> age;
  for (std::size_t id = 0; id < 256; ++id) {
    age[std::string(ids.token_bytes(static_cast<text::TokenId>(id)))] = id;
  }
  std::vector<std::pair<Spelled, std::uint64_t>> words;
  for (const auto& [piece, count] : pieces) {
    Spelled word;
    for (const char c : piece) word.emplace_back(1, c);
    words.emplace_back(word, count);
  }
  std::vector<std::pair<std::string, std::string>> merges;
  while (merges.size() < wanted) {
    std::map<std::pair<std::size_t, std::size_t>, std::uint64_t> counts;
    std::map<std::size_t, std::string> spelling;
    for (const auto& [bytes, id] : age) spelling[id] = bytes;
    for (const auto& [word, count] : words) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        counts[{age.at(word[i]), age.at(word[i + 1])}] += count;
      }
    }
    std::pair<std::size_t, std::size_t> best;
    std::uint64_t most = 0;
    for (const auto& [pair, count] : counts) {  // in order of age
      if (count > most) {
        most = count;
        best = pair;
      }
    }
    if (most < min_frequency) break;
    const std::string left = spelling.at(best.first);
    const std::string right = spelling.at(best.second);
    merges.emplace_back(left, right);
    age.try_emplace(left + right, age.size());
    for (auto& [word, count] : words) {
      Spelled joined;
      for (std::size_t i = 0; i < word.size(); ++i) {
        if (i + 1 < word.size() && word[i] == left && word[i + 1] == right) {
          joined.push_back(left + right);
          ++i;
        } else {
          joined.push_back(word[i]);
        }
      }
      word = joined;
    }
  }
  return merges;
}

Tokenizer learn(const std::vector<std::string>& texts, std::size_t vocab_size,
                std::uint64_t min_frequency = 2) {
  PieceCounts counts;
  for (const std::string& each : texts) counts.add(each);
  return text::learn_tokenizer(counts, {vocab_size, min_frequency}, {});
}

/// Words of few letters, so that pairs overlap themselves and counts tie.
std::string random_words(std::uint64_t seed, std::size_t words) {
  std::mt19937_64 next(seed);
  std::string result;
  for (std::size_t i = 0; i < words; ++i) {
    const std::size_t letters = 1 + next() % 9;
    for (std::size_t j = 0; j < letters; ++j) result += static_cast<char>('a' + next() % 3);
    result += ' ';
  }
  return result;
}

TEST(Learn, MakesTheMergesOfTheAlgorithm) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const std::string words = random_words(seed, 300);
    std::map<std::string, std::uint64_t> pieces;
    for (const auto piece : text_testing::slow_pieces(words)) ++pieces[std::string(piece)];
    const Tokenizer learnt = learn({words}, 400);
    const auto expected = slow_merges(pieces, 143, 2, learnt);
    // A token of two spellings has two merges and one entry, so that entries may be fewer.
    std::vector<std::string> tokens;
    for (const auto& [left, right] : expected) {
      if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) {
        tokens.push_back(left + right);
      }
    }
    ASSERT_EQ(learnt.vocab_size(), 256 + tokens.size() + 1) << "seed " << seed;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      EXPECT_EQ(learnt.token_bytes(static_cast<text::TokenId>(256 + i)), tokens[i])
          << "seed " << seed << ", entry " << i;
    }
  }
}

TEST(Learn, DoesNotDependOnTheOrderOfTextsNorOnHowTheyAreAddedUp) {
  const std::string a = random_words(1, 500) + "é 日本 ";
  const std::string b = random_words(2, 500);
  PieceCounts second;
  second.add(b);
  PieceCounts sum;
  sum.add(second);
  PieceCounts first;
  first.add(a);
  sum.add(first);
  const Tokenizer other = text::learn_tokenizer(sum, {350, 2}, {});
  EXPECT_EQ(learn({a, b}, 350).hash(), other.hash());
}

TEST(Learn, CountsPreTokensAsTheTokenizerCutsThem) {
  const std::string words = "It's 1999, isn't it?  \n\tYes\xff yes.";
  PieceCounts counts;
  counts.add(words);
  EXPECT_EQ(counts.total(), text_testing::slow_pieces(words).size());
  counts.add(words);
  EXPECT_EQ(counts.total(), 2 * text_testing::slow_pieces(words).size());
  PieceCounts nothing;
  nothing.add("");
  EXPECT_EQ(nothing.total(), 0U);
}

TEST(Learn, CountsTextsLongerThanABlockOfTheCutter) {
  std::string words;
  for (int i = 0; i < 5000; ++i) words += "word" + std::to_string(i % 7) + " ";
  PieceCounts counts;
  counts.add(words);
  EXPECT_EQ(counts.total(), text_testing::slow_pieces(words).size());
}

TEST(Learn, KeepsTheCommonestPieces) {
  PieceCounts counts;
  counts.add("a a a a bb bb bb cc cc dd");  // "a", " dd" once, " cc" twice, " a", " bb" three times
  counts.keep_commonest(3);
  EXPECT_EQ(counts.size(), 3U);
  counts.keep_commonest(2);
  EXPECT_EQ(counts.size(), 2U);
  counts.keep_commonest(1);  // both or none: neither is commoner
  EXPECT_EQ(counts.size(), 0U);
}

TEST(Learn, StopsWhereNothingIsLeftToJoin) {
  const Tokenizer learnt = learn({"ab ab ab"}, 1000);
  // " ab" three times less the first, "ab" three times: ab, then the space before it.
  EXPECT_EQ(learnt.vocab_size(), 256U + 2 + 1);
  EXPECT_EQ(learnt.token_bytes(256), "ab");
  EXPECT_EQ(learnt.token_bytes(257), " ab");
  EXPECT_EQ(learnt.end_of_text(), 258);
}

TEST(Learn, RefusesSizesThatCannotBe) {
  PieceCounts counts;
  counts.add("some text");
  EXPECT_THROW(text::learn_tokenizer(counts, {256, 2}, {}), base::Error);
  EXPECT_THROW(text::learn_tokenizer(counts, {65537, 2}, {}), base::Error);
}

TEST(Learn, WritesFilesThatLoadAsTheSameTokenizer) {
  const std::string words = random_words(3, 400) + "naïve “quotes” 日本語 ";
  const Tokenizer learnt = learn({words, words}, 330);
  const TemporaryFolder folder;
  learnt.write_files(folder.path());
  learnt.write_tokenizer_json(folder.path());
  EXPECT_EQ(Tokenizer::load(folder.path()).hash(), learnt.hash());
  const auto file = nlohmann::json::parse(base::read_file(folder / "tokenizer.json"));
  EXPECT_EQ(file.at("model").at("vocab").size(), learnt.vocab_size());
  EXPECT_EQ(file.at("added_tokens").at(0).at("id"), *learnt.end_of_text());
  const auto ids = text::encode(learnt, words);
  EXPECT_LT(ids.size(), words.size() / 2);
  EXPECT_EQ(learnt.decode(ids), words);
}

}  // namespace
