#pragma once
/// A file that is being written beside others and may be taken up again. Private to the room.

#include <filesystem>

#include "base/error.h"
#include "data/data.h"

namespace data {

inline base::Path part_of(const base::Path& path) {
  return path.string() + std::string(kPartSuffix);
}

/// Gives a file that may since have been committed its unfinished name again, and checks that bytes
/// [from, to) of it have the checksum `crc32c`.
inline void take_up_part(const base::Path& path, std::uint64_t from, std::uint64_t to,
                         std::uint32_t crc32c) {
  const base::Path part = part_of(path);
  if (!std::filesystem::exists(part) && std::filesystem::exists(path)) {
    std::filesystem::rename(path, part);
  }
  const base::MappedFile file(part);
  if (file.bytes().size() < to || base::crc32c(file.bytes().subspan(from, to - from)) != crc32c) {
    base::fail(
        "{} is damaged: it is not what an earlier run left there; begin again with --restart",
        part.string());
  }
}

}  // namespace data
