// The set of documents seen: exact, bounded, and taken up again.

#include "prepare/dedup.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "data/helpers.h"

namespace prepare {
namespace {

base::Hash128 hash_of(std::uint64_t i) {
  return {base::random_bits(1, 2, i), base::random_bits(3, 4, i)};
}

TEST(HashSet, KnowsWhatItTook) {
  HashSet set;
  for (int round = 0; round < 2; ++round) {
    for (std::uint64_t i = 0; i < 100'000; ++i) {
      ASSERT_EQ(set.insert(hash_of(i)),
                round == 0 ? HashSet::Outcome::kNew : HashSet::Outcome::kKnown);
    }
  }
  EXPECT_EQ(set.insert({}), HashSet::Outcome::kNew);  // the mark of a free slot is a hash like any
  EXPECT_EQ(set.insert({}), HashSet::Outcome::kKnown);
  EXPECT_EQ(set.size(), 100'001U);
}

TEST(HashSet, WhenFullStillKnowsWhatIsInIt) {
  HashSet set(std::size_t{1} << 20);  // 65,536 slots
  std::uint64_t refused = 0;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    if (set.insert(hash_of(i)) == HashSet::Outcome::kFull) ++refused;
  }
  EXPECT_EQ(set.size() + refused, 100'000U);
  EXPECT_GT(set.size(), 50'000U);
  EXPECT_LE(set.size(), 65'536U);
  EXPECT_EQ(set.insert(hash_of(0)), HashSet::Outcome::kKnown);
}

TEST(SeenDocuments, GoesOnWithTheFirstHashes) {
  const data_test::Folder folder;
  std::int64_t count = 0;
  {
    SeenDocuments seen(folder / "seen", 0);
    for (std::uint64_t i = 0; i < 1000; ++i) EXPECT_TRUE(seen.is_new(hash_of(i)));
    count = seen.sync();
    EXPECT_TRUE(seen.is_new(hash_of(1000)));  // after the state: not to be known again
  }
  EXPECT_EQ(count, 1000);
  SeenDocuments seen(folder / "seen", count);
  EXPECT_FALSE(seen.is_new(hash_of(999)));
  EXPECT_TRUE(seen.is_new(hash_of(1000)));
  EXPECT_EQ(seen.sync(), 1001);
}

}  // namespace
}  // namespace prepare
