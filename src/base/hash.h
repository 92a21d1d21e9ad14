#pragma once
/// A fast 128-bit hash of bytes: for telling equal from different, not for safety.
///
/// The values are a promise: they are kept in files. A test holds them fixed.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace base {

struct Hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  bool operator==(const Hash128&) const = default;
};

/// Bytes of a step of chain_hash() on a long text.
inline constexpr std::size_t kHashBlockBytes = std::size_t{1} << 18;

/// Hash of `bytes`, different for different `seed`.
Hash128 hash128(std::string_view bytes, Hash128 seed = {});

/// Hash of a text of any length that need not lie in memory whole: hash128 of each block of
/// kHashBlockBytes (the last may be shorter), seeded with the hash of those before it.
Hash128 chain_hash(std::string_view bytes);

/// 32 hexadecimal digits.
std::string to_hex(const Hash128& hash);

}  // namespace base
