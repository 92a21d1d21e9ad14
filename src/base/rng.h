#pragma once
/// Counter-based random numbers: a pure function of (seed, stream, index).
///
/// There is no generator state to save: whoever knows the three numbers can draw the same value
/// again, in any order and on any thread. `stream` separates uses (one per parameter, sample, ...).

#include <cmath>
#include <cstdint>
#include <numbers>

namespace base {

/// A bijective 64-bit mixer with full avalanche.
/// Source: the finalizer of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom
/// number generators"; constants are David Stafford's variant 13).
constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// 64 uniform random bits for (seed, stream, index).
constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  constexpr std::uint64_t kGolden =
      0x9e3779b97f4a7c15ULL;  // 2^64 / golden ratio: SplitMix64's step
  const std::uint64_t key = mix64(mix64(seed + kGolden) ^ (stream * kGolden + 1));
  return mix64(key + (index + 1) * kGolden);
}

/// 32 uniform random bits for (key, index), where `key` is itself random (random_bits()): cheap
/// enough to draw one for each element of a tensor, in lanes of 32 bits.
/// Source: the rounds of Chris Wellons' "lowbias32" (nullprogram.com/blog/2018/07/31), with the
/// key's low half added before the first and its high half before the second, so that indices under
/// two keys do not run through the same values in another order.
constexpr std::uint32_t random_bits32(std::uint64_t key, std::uint32_t index) {
  std::uint32_t x = static_cast<std::uint32_t>(key) + index;
  x = (x ^ (x >> 16)) * 0x7feb352dU;
  x += static_cast<std::uint32_t>(key >> 32);
  x = (x ^ (x >> 15)) * 0x846ca68bU;
  return x ^ (x >> 16);
}

/// Uniform in [0, 1), 53 bits.
inline double random_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return static_cast<double>(random_bits(seed, stream, index) >> 11) * 0x1.0p-53;
}

/// Uniform in [0, bound), bound > 0, without modulo bias beyond 2^-64 (multiply-shift).
inline std::uint64_t random_below(std::uint64_t bound, std::uint64_t seed, std::uint64_t stream,
                                  std::uint64_t index) {
  const auto wide = static_cast<unsigned __int128>(random_bits(seed, stream, index)) * bound;
  return static_cast<std::uint64_t>(wide >> 64);
}

/// Standard normal (Box-Muller 1958; one of the pair, so that each index stands alone).
inline double random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const double u = 1.0 - random_uniform(seed, stream, 2 * index);  // (0, 1]: log stays finite
  const double v = random_uniform(seed, stream, 2 * index + 1);
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

}  // namespace base
