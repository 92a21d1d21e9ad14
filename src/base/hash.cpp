// Two lanes of multiply-and-fold, with different keys, so that 128 bits are independent enough.

#include "base/hash.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/rng.h"

namespace base {
namespace {

// Odd numbers with bits without pattern: the fractions of sqrt(2), sqrt(3), sqrt(5), sqrt(7).
constexpr std::uint64_t kKeys[4] = {0x6a09e667f3bcc909ULL, 0xbb67ae8584caa73bULL,
                                    0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL};

/// Both halves of the 128-bit product, folded.
std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  const auto wide = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(wide) ^ static_cast<std::uint64_t>(wide >> 64);
}

struct Lanes {
  std::uint64_t low, high;
  void mix(std::uint64_t first, std::uint64_t second) {
    // A product of 0 would forget what came before: adding keeps it.
    low = fold(first ^ kKeys[0], second ^ low) + (low ^ first);
    high = fold(first ^ high, second ^ kKeys[1]) + (high ^ second);
  }
};

}  // namespace

Hash128 hash128(std::string_view bytes, Hash128 seed) {
  Lanes lanes{seed.low ^ kKeys[2], seed.high ^ kKeys[3]};
  Lanes others{kKeys[3] + seed.high, kKeys[2] + seed.low};  // a second chain hides latency
  const char* data = bytes.data();
  std::size_t left = bytes.size();
  std::uint64_t words[4];
  for (; left >= 32; data += 32, left -= 32) {
    std::memcpy(words, data, 32);
    lanes.mix(words[0], words[1]);
    others.mix(words[2], words[3]);
  }
  std::memset(words, 0, sizeof words);
  if (left > 0) std::memcpy(words, data, left);
  lanes.mix(words[0], words[1]);
  others.mix(words[2], words[3]);
  lanes.mix(others.low, bytes.size());
  lanes.mix(others.high, seed.low);
  return {mix64(lanes.low), mix64(lanes.high)};
}

Hash128 chain_hash(std::string_view bytes) {
  Hash128 hash;
  do {
    hash = hash128(bytes.substr(0, kHashBlockBytes), hash);
    bytes.remove_prefix(std::min(bytes.size(), kHashBlockBytes));
  } while (!bytes.empty());
  return hash;
}

std::string to_hex(const Hash128& hash) {
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

}  // namespace base
