#pragma once
/// Damage to files in place: thousands of writes of whole files would wait for the disk.

#include <filesystem>
#include <fstream>

#include "base/file.h"

namespace data_test {

/// Turns bits of one byte of a file; the same call turns them back.
inline void flip_bits(const base::Path& path, std::size_t position, int bits) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(position));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(position));
  file.put(static_cast<char>(byte ^ bits));
}

/// Cuts a file shorter one byte after another and calls check(size) at each size.
template <class F>
void for_each_truncation(const base::Path& path, F&& check) {
  for (std::size_t size = std::filesystem::file_size(path); size-- > 0;) {
    std::filesystem::resize_file(path, size);
    check(size);
  }
}

}  // namespace data_test
