// The shuffle is a permutation for every size, differs between epochs, and favours no order.

#include "data/shuffle.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

namespace data {
namespace {

std::vector<std::int64_t> order_of(std::uint64_t seed, std::int64_t epoch, std::int64_t size) {
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < size; ++i) order.push_back(shuffled_index(seed, epoch, i, size));
  return order;
}

void expect_permutation(const std::vector<std::int64_t>& order) {
  std::vector<int> seen(order.size(), 0);
  for (const std::int64_t value : order) {
    ASSERT_GE(value, 0);
    ASSERT_LT(value, std::ssize(order));
    ++seen[static_cast<std::size_t>(value)];
  }
  for (const int count : seen) ASSERT_EQ(count, 1) << "size " << order.size();
}

TEST(Shuffle, IsAPermutationOfEverySize) {
  for (std::int64_t size = 1; size <= 300; ++size) expect_permutation(order_of(7, 3, size));
  for (const std::int64_t size : {1021, 1024, 1025, 4096, 4097, 65'537, 99'991}) {
    expect_permutation(order_of(1, 0, size));
  }
}

TEST(Shuffle, ReachesFarIntoHugeSizes) {
  constexpr std::int64_t kSize = (std::int64_t{1} << 40) + 12'345;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const std::int64_t place = shuffled_index(5, 9, kSize - 1 - i, kSize);
    EXPECT_GE(place, 0);
    EXPECT_LT(place, kSize);
  }
}

TEST(Shuffle, EpochsAndSeedsDiffer) {
  EXPECT_EQ(order_of(1, 0, 100), order_of(1, 0, 100));
  EXPECT_NE(order_of(1, 0, 100), order_of(1, 1, 100));
  EXPECT_NE(order_of(1, 0, 100), order_of(2, 0, 100));
}

// Chi-square of counts that should be equal, in standard deviations from its mean.
double deviation(const std::vector<double>& counts, double expected) {
  double chi = 0;
  for (const double count : counts) chi += (count - expected) * (count - expected) / expected;
  const auto freedom = static_cast<double>(counts.size() - 1);
  return (chi - freedom) / std::sqrt(2 * freedom);
}

TEST(Shuffle, EveryPlaceIsEquallyLikelyForEveryWindow) {
  constexpr int kEpochs = 20'000;
  for (const std::int64_t size : {2, 3, 4, 5, 7, 8, 13, 16, 17, 31}) {
    const auto cells = static_cast<std::size_t>(size);
    for (const std::int64_t index : {std::int64_t{0}, size - 1}) {
      std::vector<double> counts(cells, 0);
      for (int epoch = 0; epoch < kEpochs; ++epoch) {
        ++counts[static_cast<std::size_t>(shuffled_index(11, epoch, index, size))];
      }
      EXPECT_LT(deviation(counts, kEpochs / static_cast<double>(size)), 5) << size << " " << index;
    }
  }
}

TEST(Shuffle, EveryOrderOfAFewWindowsIsEquallyLikely) {
  constexpr int kEpochs = 60'000;
  for (const auto& [size, orders] : {std::pair{3, 6}, std::pair{4, 24}, std::pair{5, 120}}) {
    std::map<std::vector<std::int64_t>, double> seen;
    for (int epoch = 0; epoch < kEpochs; ++epoch) ++seen[order_of(3, epoch, size)];
    std::vector<double> counts;
    for (const auto& [order, count] : seen) counts.push_back(count);
    counts.resize(static_cast<std::size_t>(orders), 0);
    EXPECT_LT(deviation(counts, kEpochs / static_cast<double>(orders)), 6) << size;
  }
}

TEST(Shuffle, NeighboursAreFarApart) {
  constexpr std::int64_t kSize = 10'000;
  double distance = 0;
  const auto order = order_of(4, 2, kSize);
  for (std::size_t i = 1; i < order.size(); ++i) {
    distance += std::abs(static_cast<double>(order[i] - order[i - 1]));
  }
  // The mean distance of two random places is a third of the length.
  EXPECT_NEAR(distance / kSize, kSize / 3.0, kSize / 3.0 * 0.03);
}

}  // namespace
}  // namespace data
