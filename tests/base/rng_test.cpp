// Random numbers: fixed for all time, and fair.

#include "base/rng.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <set>
#include <vector>

namespace base {
namespace {

TEST(Mix64, IsSplitMix64sFinalizer) {
  // Source: the first outputs of SplitMix64 seeded with 0, as published with xoshiro256**'s code
  // (Blackman, Vigna): its n-th output is the finalizer of n times the golden step.
  EXPECT_EQ(mix64(0x9e3779b97f4a7c15ULL), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(mix64(2 * 0x9e3779b97f4a7c15ULL), 0x6e789e6aa1b965f4ULL);
  EXPECT_EQ(mix64(3 * 0x9e3779b97f4a7c15ULL), 0x06c45d188009454fULL);
}

TEST(RandomBits, NeverChange) {
  // Runs already made must be repeatable by every later version: these values are a promise.
  EXPECT_EQ(random_bits(0, 0, 0), 0x85c61a300ec70fa1ULL);
  EXPECT_EQ(random_bits(1, 0, 0), 0x21a5715431dc4cc7ULL);
  EXPECT_EQ(random_bits(0, 1, 0), 0xb65fb670a97a935eULL);
  EXPECT_EQ(random_bits(0, 0, 1), 0x4952c2a6e1ef0b78ULL);
  EXPECT_EQ(random_bits(UINT64_MAX, UINT64_MAX, UINT64_MAX), 0x63213539cc2c76bbULL);
  EXPECT_EQ(random_below(50257, 42, 7, 3), 4517U);
  EXPECT_DOUBLE_EQ(random_uniform(42, 7, 3), 0.089893503206506908);
  EXPECT_NEAR(random_normal(42, 7, 3), -0.060693765459583097, 1e-14);
}

TEST(RandomBits32, NeverChange) {
  EXPECT_EQ(random_bits32(0, 0), 0x00000000U);
  EXPECT_EQ(random_bits32(0, 1), 0x688990c0U);
  EXPECT_EQ(random_bits32(0x0123456789abcdefULL, 0), 0x7010adf1U);
  EXPECT_EQ(random_bits32(UINT64_MAX, UINT32_MAX), 0x1334f844U);
}

TEST(RandomBits32, FlipHalfOfTheirBitsForOneBitOfTheIndexOrOfTheKey) {
  for (int bit = 0; bit < 64; ++bit) {
    int by_key = 0, by_index = 0;
    for (std::uint32_t i = 0; i < 1000; ++i) {
      const std::uint64_t key = random_bits(1, 2, i);
      by_key +=
          std::popcount(random_bits32(key, i) ^ random_bits32(key ^ (std::uint64_t{1} << bit), i));
      by_index += std::popcount(random_bits32(key, i) ^
                                random_bits32(key, i ^ (std::uint32_t{1} << (bit % 32))));
    }
    // 0.09 is a standard deviation of the mean of 1,000. Few steps follow the key.
    EXPECT_NEAR(by_index / 1000.0, 16, 0.7) << "index bit " << bit % 32;
    EXPECT_NEAR(by_key / 1000.0, 16, 4) << "key bit " << bit;
  }
}

TEST(RandomBits, DifferInEveryArgument) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (std::uint64_t stream = 0; stream < 20; ++stream) {
      for (std::uint64_t index = 0; index < 20; ++index)
        seen.insert(random_bits(seed, stream, index));
    }
  }
  EXPECT_EQ(seen.size(), 8000U);
}

TEST(RandomBits, FlipHalfOfTheirBitsForOneBitOfInput) {
  double flipped = 0;
  int draws = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    for (int bit = 0; bit < 64; bit += 7) {
      const std::uint64_t one = std::uint64_t{1} << bit;
      flipped += std::popcount(random_bits(i, 5, 9) ^ random_bits(i ^ one, 5, 9));
      flipped += std::popcount(random_bits(5, i, 9) ^ random_bits(5, i ^ one, 9));
      flipped += std::popcount(random_bits(5, 9, i) ^ random_bits(5, 9, i ^ one));
      draws += 3;
    }
  }
  EXPECT_NEAR(flipped / draws, 32, 0.3);
}

TEST(RandomUniform, IsUniform) {
  constexpr int kDraws = 200'000;
  constexpr int kBins = 20;
  std::array<int, kBins> bins{};
  double sum = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double u = random_uniform(3, 1, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++bins[static_cast<std::size_t>(u * kBins)];
    sum += u;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 4 / std::sqrt(12.0 * kDraws));
  double chi_squared = 0;
  for (const int bin : bins) chi_squared += std::pow(bin - kDraws / kBins, 2) / (kDraws / kBins);
  EXPECT_LT(chi_squared, 43.8);  // 19 degrees of freedom, one in a thousand
}

TEST(RandomUniform, DoesNotRememberItsNeighbour) {
  constexpr int kDraws = 200'000;
  double by_index = 0;
  double by_stream = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double u = random_uniform(1, 1, i) - 0.5;
    by_index += u * (random_uniform(1, 1, i + 1) - 0.5);
    by_stream += u * (random_uniform(1, 2, i) - 0.5);
  }
  EXPECT_NEAR(by_index * 12 / kDraws, 0, 4 / std::sqrt(kDraws));
  EXPECT_NEAR(by_stream * 12 / kDraws, 0, 4 / std::sqrt(kDraws));
}

TEST(RandomBelow, ReachesEveryValueAndNoOther) {
  std::array<int, 7> hits{};
  for (std::uint64_t i = 0; i < 7000; ++i) {
    const std::uint64_t value = random_below(7, 11, 0, i);
    ASSERT_LT(value, 7U);
    ++hits[value];
  }
  for (const int hit : hits) EXPECT_NEAR(hit, 1000, 150);
  EXPECT_EQ(random_below(1, 1, 2, 3), 0U);
  EXPECT_LT(random_below(UINT64_MAX, 1, 2, 3), UINT64_MAX);
}

TEST(RandomNormal, HasTheMomentsOfANormal) {
  constexpr int kDraws = 400'000;
  std::array<double, 5> moments{};
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double z = random_normal(17, 4, i);
    ASSERT_TRUE(std::isfinite(z));
    double power = 1;
    for (double& moment : moments) {
      moment += power / kDraws;
      power *= z;
    }
  }
  const double error = 5 / std::sqrt(kDraws);  // five standard errors of the mean
  EXPECT_NEAR(moments[1], 0, error);
  EXPECT_NEAR(moments[2], 1, error * std::sqrt(2));
  EXPECT_NEAR(moments[3], 0, error * std::sqrt(15));
  EXPECT_NEAR(moments[4], 3, error * std::sqrt(96));
}

TEST(RandomNormal, DrawsIndependentNeighbours) {
  constexpr int kDraws = 200'000;
  double product = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    product += random_normal(1, 1, i) * random_normal(1, 1, i + 1);
  }
  EXPECT_NEAR(product / kDraws, 0, 4 / std::sqrt(kDraws));
}

}  // namespace
}  // namespace base
