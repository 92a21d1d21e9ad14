// CRC-32C: the processor's instruction where there is one, else eight bytes a step from tables.

#include <array>
#include <cstring>

#include "base/file.h"

namespace base {
namespace {

std::uint32_t update_by_tables(std::uint32_t crc, const std::byte* data, std::size_t left) {
  static const auto tables = [] {
    constexpr std::uint32_t kReversed = 0x82f63b78;  // 0x1EDC6F41 bit-reversed
    std::array<std::array<std::uint32_t, 256>, 8> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? kReversed : 0);
      t[0][i] = value;
    }
    for (std::size_t k = 1; k < 8; ++k) {
      for (std::size_t i = 0; i < 256; ++i) t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 0xff];
    }
    return t;
  }();
  for (; left >= 8; data += 8, left -= 8) {  // eight bytes a step ("slicing by 8", Intel 2006)
    std::uint64_t word = 0;
    std::memcpy(&word, data, 8);
    word ^= crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= tables[7 - k][(word >> (8 * k)) & 0xff];
  }
  for (; left > 0; ++data, --left) {
    crc = (crc >> 8) ^ tables[0][(crc ^ std::to_integer<std::uint32_t>(*data)) & 0xff];
  }
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t update_by_instruction(std::uint32_t crc,
                                                                      const std::byte* data,
                                                                      std::size_t left) {
  std::uint64_t wide = crc;
  for (; left >= 8; data += 8, left -= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, 8);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  crc = static_cast<std::uint32_t>(wide);
  for (; left > 0; ++data, --left) {
    crc = __builtin_ia32_crc32qi(crc, std::to_integer<std::uint8_t>(*data));
  }
  return crc;
}
#endif

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc) {
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
  if (has_instruction) return ~update_by_instruction(~crc, bytes.data(), bytes.size());
#endif
  return ~update_by_tables(~crc, bytes.data(), bytes.size());
}

std::uint32_t crc32c_by_tables(std::span<const std::byte> bytes, std::uint32_t crc) {
  return ~update_by_tables(~crc, bytes.data(), bytes.size());
}

}  // namespace base
