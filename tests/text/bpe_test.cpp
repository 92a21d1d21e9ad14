// Merging, short and long, also where merges are in an order no training gives.

#include "text/bpe.h"

#include <gtest/gtest.h>

#include "text/cpu/isa.h"
#include "text/slow_tokenizer.h"
#include "text/text_testing.h"

namespace {

using text::Merger;
using text::TokenId;
using text::Tokenizer;
using text_testing::SlowTokenizer;
using Ids = std::vector<TokenId>;

std::string random_word(text_testing::Random& random, std::string_view letters, std::size_t size) {
  std::string word;
  for (std::size_t i = 0; i < size; ++i) word += letters[random.below(letters.size())];
  return word;
}

TEST(Merger, AgreesWithTheSlowSearchAroundItsThreshold) {
  Merger merger(text::Tokenizer::gpt2().tables(), text::cpu::chosen_kernels());
  text_testing::Random random(1);
  for (std::size_t size :
       {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{50}, Merger::kShortBytes - 1,
        Merger::kShortBytes, Merger::kShortBytes + 1, std::size_t{600}}) {
    for (const std::string_view letters : {"a", "etaoinshrdlu", "aab", " \n", "0123456789"}) {
      const std::string word = random_word(random, letters, size);
      Ids ids;
      merger.merge(word, ids);
      EXPECT_EQ(ids, SlowTokenizer::gpt2().encode_piece(word)) << word;
    }
  }
}

/// A vocabulary of the 256 bytes and every string of 2 to 4 of the letters a, b, c; its merges,
/// all the ways to join them, in random order. Results then appear in merges before their own.
struct ShuffledMerges {
  std::vector<std::string> tokens;
  std::vector<std::pair<std::string, std::string>> merges;

  explicit ShuffledMerges(std::uint64_t seed) {
    for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
    std::vector<std::string> words = {"a", "b", "c"};
    for (std::size_t begin = 0, length = 2; length <= 4; ++length) {
      const std::size_t end = words.size();
      for (std::size_t i = begin; i < end; ++i) {
        for (const char c : {'a', 'b', 'c'}) words.push_back(words[i] + c);
      }
      begin = end;
    }
    for (const std::string& word : words) {
      if (word.size() > 1) tokens.push_back(word);
      for (std::size_t cut = 1; cut < word.size(); ++cut) {
        merges.emplace_back(word.substr(0, cut), word.substr(cut));
      }
    }
    text_testing::Random random(seed);
    for (std::size_t i = merges.size(); i > 1; --i)
      std::swap(merges[i - 1], merges[random.below(i)]);
    merges.resize(merges.size() * 2 / 3);  // with gaps
  }

  text::Tokenizer load() const {
    const text_testing::ScratchFolder folder;
    std::string vocab = "{";
    for (std::size_t id = 0; id < tokens.size(); ++id) {
      std::string spelling;
      text::append_spelling(spelling, tokens[id]);
      if (spelling == "\"" || spelling == "\\") spelling = fmt::format("\\{}", spelling);
      vocab += fmt::format("{}\"{}\": {}", id == 0 ? "" : ", ", spelling, id);
    }
    std::string lines;
    for (const auto& [left, right] : merges) lines += left + " " + right + "\n";
    base::write_file(folder.path() / "vocab.json", vocab + "}");
    base::write_file(folder.path() / "merges.txt", lines);
    return text::Tokenizer::load(folder.path());
  }
};

TEST(Merger, FollowsRanksInAnyOrder) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const ShuffledMerges shuffled(seed);
    const text::Tokenizer tokenizer = shuffled.load();
    const SlowTokenizer slow(shuffled.tokens, shuffled.merges);
    Merger merger(tokenizer.tables(), text::cpu::chosen_kernels());
    text_testing::Random random(seed);
    for (std::size_t size : {std::size_t{9}, Merger::kShortBytes, std::size_t{700}}) {
      for (const std::string_view letters : {"abc", "ab", "aab", "c", "abca"}) {
        const std::string word = random_word(random, letters, size);
        Ids ids;
        merger.merge(word, ids);
        EXPECT_EQ(ids, slow.encode_piece(word)) << "seed " << seed << ": " << word;
      }
    }
    text::Encoder encoder(tokenizer);
    for (std::size_t size = 1; size < 100; ++size) {
      const std::string word = random_word(random, "abc", size);
      Ids ids;
      encoder.encode(word, ids);
      EXPECT_EQ(ids, slow.encode_piece(word)) << "seed " << seed << ": " << word;
    }
  }
}

/// Every instruction set's two ways to merge, over all of the lengths they take.
TEST(Merger, LoopsAgreeWithTheSlowSearch) {
  const Tokenizer& gpt2 = Tokenizer::gpt2();
  text_testing::Random random(4);
  for (const text::cpu::Kernels* const kernels : text::cpu::available_kernels()) {
    for (std::size_t size = 1; size <= 70; ++size) {
      for (const std::string_view letters : {"a", "etaoinshrdlu", "aab", " \n", "\xe4\xb8\xad"}) {
        const std::string word = random_word(random, letters, size);
        const Ids expected = SlowTokenizer::gpt2().encode_piece(word);
        Ids ids(text::cpu::kMediumBytes);
        ids.resize(kernels->merge_medium(gpt2.tables().merges, word.data(), size, ids.data()));
        EXPECT_EQ(ids, expected) << kernels->name << ": " << word;
        if (size > text::cpu::kMostMergedBytes) continue;
        ids.resize(text::cpu::kMostMergedBytes);
        ids.resize(kernels->merge(gpt2.tables().merges, word.data(), size, ids.data()));
        EXPECT_EQ(ids, expected) << kernels->name << ": " << word;
      }
    }
  }
}

TEST(Merger, TakesTheSameWayWithWidePositions) {
  Merger merger(Tokenizer::gpt2().tables(), text::cpu::chosen_kernels());
  text_testing::Random random(5);
  for (const std::string_view letters : {"a", "etaoinshrdlu", "0123456789"}) {
    const std::string word = random_word(random, letters, 3000);
    Ids ids;
    merger.merge_huge(word, ids);
    EXPECT_EQ(ids, SlowTokenizer::gpt2().encode_piece(word));
  }
}

/// The long way and the short way on the same bytes: long pieces of many short repetitions.
TEST(Merger, GoesBackToScratchAfterAMonster) {
  Merger merger(text::Tokenizer::gpt2().tables(), text::cpu::chosen_kernels());
  Ids first;
  merger.merge(std::string(100'000, 'a'), first);
  Ids second;
  merger.merge(std::string(100'000, 'a'), second);
  EXPECT_EQ(first, second);
  Ids small;
  merger.merge(std::string(300, 'a'), small);
  EXPECT_EQ(small, SlowTokenizer::gpt2().encode_piece(std::string(300, 'a')));
}

}  // namespace
