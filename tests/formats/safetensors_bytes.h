#pragma once
/// safetensors files put together by hand, right or wrong.

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

namespace formats_test {

/// The header's length, the header, then `data_bytes` bytes counting 0, 1, 2, ...
inline std::string file_bytes(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  bytes += header;
  for (std::size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

inline void put(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace formats_test
