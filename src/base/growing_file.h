#pragma once
/// A file that grows under a name of its own and can be taken up again where it was last synced.

#include <cstdint>
#include <span>
#include <string>

#include "base/file.h"

namespace base {

/// Appends to a file. What was written up to a sync() survives a kill and a power failure; a later
/// process opens the same file at that length. Throws Error with the path and the system's reason.
class GrowingFile {
 public:
  /// Opens `path`, makes it when it is absent, and cuts it to `keep_bytes`. Throws Error when it
  /// is shorter than that.
  explicit GrowingFile(Path path, std::uint64_t keep_bytes = 0);
  ~GrowingFile();
  GrowingFile(GrowingFile&&) noexcept;
  GrowingFile& operator=(GrowingFile&&) noexcept;

  /// Appends (buffered).
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(as_bytes(text)); }
  /// Overwrites `bytes` at `offset`, which must lie inside what was already written.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Bytes so far, those kept included.
  std::uint64_t size() const { return size_; }
  /// CRC-32C of what was appended since the beginning, or since set_crc(). Flushes.
  std::uint32_t crc();
  /// Continues the checksum from `crc`.
  void set_crc(std::uint32_t crc) { crc_ = crc; }
  const Path& path() const { return path_; }

  /// Makes everything written so far durable.
  void sync();
  /// Makes the file durable and gives it its final name.
  void commit(const Path& final_path);

 private:
  void flush();
  void close() noexcept;

  Path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::uint64_t started_ = 0;  // bytes whose way to the disk has begun
  std::uint32_t crc_ = 0;
  std::string buffer_;
};

}  // namespace base
