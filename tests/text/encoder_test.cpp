// The encoder's memory: caches that grow, forget and are shared by no one; texts cut for threads;
// and the choice of the instruction set.

#include <gtest/gtest.h>

#include <cstdlib>

#include "text/cpu/isa.h"
#include "text/slow_tokenizer.h"
#include "text/text.h"
#include "text/text_testing.h"

namespace {

using text::Encoder;
using text::TokenId;
using text::Tokenizer;
using text_testing::SlowTokenizer;
using Ids = std::vector<TokenId>;

/// Words of 1 to 24 letters, most of them seen once, some with more ids than an entry holds.
std::string random_words(text_testing::Random& random, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    const std::size_t letters = 1 + random.below(24);
    for (std::size_t i = 0; i < letters; ++i) {
      text += random.below(5) == 0 ? "\u4e2d"
                                   : std::string(1, static_cast<char>('a' + random.below(26)));
    }
    text += random.below(9) == 0 ? "\n" : " ";
  }
  return text;
}

Ids ids_of(Encoder& encoder, std::string_view bytes) {
  Ids ids;
  encoder.encode(bytes, ids);
  return ids;
}

/// Piece by piece with encoders that never saw another text.
Ids ids_without_memory(std::string_view bytes) {
  Ids ids;
  for (const std::string_view piece : text_testing::slow_pieces(bytes)) {
    const Ids more = text::encode(Tokenizer::gpt2(), piece);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

TEST(Encoder, GivesTheSameIdsWhateverItRemembers) {
  text_testing::Random random(1);
  const std::string text = random_words(random, std::size_t{3} << 20);  // more than a small table
  const std::string_view sample = std::string_view(text).substr(0, 40'000);
  const std::string_view whole = sample.substr(0, sample.rfind('\n'));
  const Ids expected = ids_without_memory(whole);
  Encoder large(Tokenizer::gpt2());
  Encoder small(Tokenizer::gpt2(), /*cache_bytes=*/0);
  EXPECT_EQ(ids_of(large, whole), expected);
  EXPECT_EQ(ids_of(small, whole), expected);
  const Ids all = ids_of(large, text);  // grows, and is filled with the vocabulary
  EXPECT_EQ(ids_of(small, text), all);  // forgets
  EXPECT_EQ(ids_of(large, text), all);
  EXPECT_EQ(ids_of(large, whole), expected);
  EXPECT_EQ(Tokenizer::gpt2().decode(all), text);
}

TEST(Encoder, RemembersTheVocabularyAsItIs) {
  // Every token as a word of its own, before and after the table was filled with the vocabulary.
  const Tokenizer& gpt2 = Tokenizer::gpt2();
  Encoder fresh(gpt2);
  Encoder filled(gpt2);
  Ids ignored;
  filled.encode(std::string(std::size_t{1} << 20, '\n'), ignored);
  for (std::size_t id = 0; id < 50256; id += 7) {
    const std::string_view bytes = gpt2.token_bytes(static_cast<TokenId>(id));
    ASSERT_EQ(ids_of(filled, bytes), SlowTokenizer::gpt2().encode(bytes)) << id;
    ASSERT_EQ(ids_of(fresh, bytes), ids_of(filled, bytes)) << id;
  }
}

TEST(Encoder, TellsPiecesApartThatDifferInZeros) {
  Encoder encoder(Tokenizer::gpt2());
  for (int round = 0; round < 2; ++round) {
    for (std::size_t zeros = 1; zeros < 70; ++zeros) {
      const std::string bytes(zeros, '\0');
      ASSERT_EQ(ids_of(encoder, bytes), SlowTokenizer::gpt2().encode(bytes)) << zeros;
    }
  }
}

TEST(Encoder, ReadsNothingBehindTheText) {
  // The sanitizers watch the end of the vector; elsewhere, what follows must not matter.
  for (std::size_t size = 1; size < 200; ++size) {
    for (const char* const unit : {"a", " b", "\u4e2d", "1 ", "\xff", "don't "}) {
      std::string text;
      while (text.size() < size) text += unit;
      text.resize(size);
      const std::vector<char> exact(text.begin(), text.end());
      const Ids expected = SlowTokenizer::gpt2().encode(text);
      ASSERT_EQ(text::encode(Tokenizer::gpt2(), {exact.data(), exact.size()}), expected);
      const std::string longer = text + "'s longer\x80";
      ASSERT_EQ(text::encode(Tokenizer::gpt2(), std::string_view(longer).substr(0, size)),
                expected);
    }
  }
}

TEST(CutForThreads, GivesTheSameIds) {
  text_testing::Random random(2);
  const std::string text = random_words(random, 100'000) + "  \n don't  ";
  Encoder encoder(Tokenizer::gpt2());
  const Ids expected = ids_of(encoder, text);
  for (const std::size_t count : {1U, 2U, 3U, 16U}) {
    const auto parts = text::cut_for_threads(text, count);
    EXPECT_EQ(parts.size(), count);
    Ids ids;
    std::string joined;
    for (const std::string_view part : parts) {
      encoder.encode(part, ids);
      joined += part;
    }
    EXPECT_EQ(joined, text);
    EXPECT_EQ(ids, expected) << count << " parts";
  }
}

TEST(CutForThreads, KeepsTogetherWhatItCannotCut) {
  const std::string one_word(5000, 'a');
  EXPECT_EQ(text::cut_for_threads(one_word, 4), std::vector<std::string_view>{one_word});
  EXPECT_TRUE(text::cut_for_threads("", 4).empty());
  EXPECT_EQ(text::cut_for_threads("ab", 4).size(), 1U);
}

/// Sets GPT2_CPU_ISA for as long as it lives.
class ForcedInstructionSet {
 public:
  explicit ForcedInstructionSet(const char* name) {
    if (const char* const before = std::getenv(kName)) before_ = before;
    ::setenv(kName, name, 1);
  }
  ~ForcedInstructionSet() {
    if (before_.empty()) {
      ::unsetenv(kName);
    } else {
      ::setenv(kName, before_.c_str(), 1);
    }
  }
  ForcedInstructionSet(const ForcedInstructionSet&) = delete;
  ForcedInstructionSet& operator=(const ForcedInstructionSet&) = delete;

 private:
  static constexpr const char* kName = "GPT2_CPU_ISA";
  std::string before_;
};

TEST(InstructionSet, IsTheOneAskedFor) {
  text_testing::Random random(3);
  const std::string text = random_words(random, 200'000);
  Encoder strongest(Tokenizer::gpt2());
  const Ids expected = ids_of(strongest, text);
  for (const text::cpu::Kernels* const kernels : text::cpu::available_kernels()) {
    const ForcedInstructionSet forced(kernels->name);
    Encoder encoder(Tokenizer::gpt2());
    EXPECT_EQ(encoder.instruction_set(), kernels->name);
    EXPECT_EQ(ids_of(encoder, text), expected) << kernels->name;
  }
}

TEST(InstructionSet, IsRefusedWhereNobodyKnowsIt) {
  const ForcedInstructionSet forced("avx1024");
  text_testing::expect_error(
      "GPT2_CPU_ISA: unknown instruction set 'avx1024'; choose one of generic, avx2, avx512, "
      "avx512_bf16, amx, or unset it",
      [] { Encoder encoder(Tokenizer::gpt2()); });
}

}  // namespace
