#pragma once
/// A random order that needs no memory. Private to the room.

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/rng.h"

namespace data {

/// Where index goes in the permutation of [0, size) that (seed, epoch) names. 0 <= index < size.
///
/// A Feistel network on the next even power of two, walked until it lands inside [0, size): fewer
/// than four steps on average, since that power is below 4 * size (from size 17 on).
/// Source: Luby, Rackoff 1988 (a Feistel network of random functions is a random permutation);
/// Black, Rogaway 2002, "Ciphers with arbitrary finite domains" (cycle walking).
inline std::int64_t shuffled_index(std::uint64_t seed, std::int64_t epoch, std::int64_t index,
                                   std::int64_t size) {
  // Measured on the orders of 3 to 6 windows: halves of 1 or 2 bits reach some orders more often
  // than others whatever the rounds; from 3 bits and 6 rounds on no difference is seen.
  constexpr std::uint64_t kRounds = 8;
  constexpr int kLeastBits = 3;
  const auto bound = static_cast<std::uint64_t>(size);
  const int bits = std::max(kLeastBits, (static_cast<int>(std::bit_width(bound - 1)) + 1) / 2);
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  auto place = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t left = place >> bits;
    std::uint64_t right = place & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const std::uint64_t bits64 =
          base::random_bits(seed, static_cast<std::uint64_t>(epoch), right * kRounds + round);
      const std::uint64_t mixed = left ^ (bits64 & mask);
      left = right;
      right = mixed;
    }
    place = left << bits | right;
  } while (place >= bound);
  return static_cast<std::int64_t>(place);
}

}  // namespace data
