#pragma once
/// A file read at any place by any thread.
///
/// Law: read, not mapped: a file that shrinks or a disk that fails is an error, not a signal, and
/// pages that were read do not count as this process's memory.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/file.h"
#include "data/buffer.h"

namespace data {

class RandomAccessFile {
 public:
  /// Throws Error where `path` cannot be opened or is no regular file.
  explicit RandomAccessFile(const base::Path& path);
  ~RandomAccessFile();
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;

  const std::string& name() const { return name_; }
  std::uint64_t bytes() const { return bytes_; }
  /// Fills `to` from `offset` on. Throws Error, without the file's name, where that fails.
  void read(std::uint64_t offset, std::span<std::byte> to) const;

 private:
  std::string name_;
  int descriptor_ = -1;
  std::uint64_t bytes_ = 0;
};

/// Front to back through one range of a file, with large reads.
class RangeReader {
 public:
  /// `file` must outlive the reader, the range must lie inside it.
  RangeReader(const RandomAccessFile& file, std::uint64_t offset, std::uint64_t bytes)
      : file_(&file), offset_(offset), unread_(bytes) {}

  /// Bytes of the range not yet taken.
  std::uint64_t left() const { return unread_ + (end_ - begin_); }
  /// Position in the file of the next byte to take.
  std::uint64_t position() const { return offset_ - (end_ - begin_); }
  /// The next `count` bytes, fewer where fewer are left; valid until the next call.
  std::span<const std::byte> peek(std::size_t count);
  /// Moves past bytes that peek() gave.
  void take(std::size_t count) { begin_ += count; }

 private:
  const RandomAccessFile* file_;
  std::uint64_t offset_;  // of the next byte to read
  std::uint64_t unread_;
  Buffer buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace data
