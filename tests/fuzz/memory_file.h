#pragma once
/// A fuzzer's bytes as a file or a stream.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>

#include "base/file.h"
#include "data/bytes.h"

namespace fuzz {

/// A file that lives in memory, under a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::byte> bytes)
      : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    const auto wanted = static_cast<ssize_t>(bytes.size());
    if (descriptor_ < 0 || ::write(descriptor_, bytes.data(), bytes.size()) != wanted) std::abort();
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  base::Path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// A stream of the bytes that gives `step` of them at a time.
class MemoryReader final : public data::ByteReader {
 public:
  MemoryReader(std::span<const std::byte> bytes, std::size_t step) : bytes_(bytes), step_(step) {}
  std::size_t read(std::span<std::byte> to) override {
    const std::size_t count = std::min({to.size(), step_, bytes_.size() - taken_});
    if (count > 0) std::memcpy(to.data(), bytes_.data() + taken_, count);
    taken_ += count;
    return count;
  }
  std::uint64_t source_bytes() const override { return taken_; }

 private:
  std::span<const std::byte> bytes_;
  std::size_t step_;
  std::size_t taken_ = 0;
};

}  // namespace fuzz
