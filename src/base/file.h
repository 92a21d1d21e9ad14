#pragma once
/// Files: read, map, write under a temporary name and rename, checksum.
///
/// Everything throws Error with the path and the system's reason. What is written appears under
/// its name complete or not at all.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace base {

using Path = std::filesystem::path;

/// Whole content of a file. "-" is not special here.
std::string read_file(const Path& path);

/// A file mapped read-only into memory; pages are loaded as they are touched.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const Path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  /// The file's bytes; valid while this object lives. Empty for an empty file.
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const Path& path() const { return path_; }

 private:
  void release() noexcept;
  Path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A file written under a temporary name beside its final one. commit() flushes, fsyncs, renames
/// and fsyncs the folder; destruction without commit() removes the temporary.
class AtomicFile {
 public:
  /// Creates `path`.tmp.<pid> in the same folder.
  explicit AtomicFile(Path path);
  ~AtomicFile();
  AtomicFile(AtomicFile&&) noexcept;
  AtomicFile& operator=(AtomicFile&&) noexcept;

  /// Appends (buffered).
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Overwrites `bytes` at `offset`, which must lie inside what was already written.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Bytes appended so far.
  std::uint64_t size() const { return size_; }
  const Path& path() const { return path_; }
  /// Makes the file appear under its name.
  void commit();

 private:
  void flush();
  void discard() noexcept;
  Path path_;
  Path temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::string buffer_;
};

/// Writes a whole small file through AtomicFile.
void write_file(const Path& path, std::string_view content);

/// A folder filled under a temporary name and renamed when complete; removed if not committed.
class AtomicFolder {
 public:
  /// Creates `path`.tmp.<pid>. `path` itself must not exist at commit().
  explicit AtomicFolder(Path path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Where to write the content.
  const Path& temporary() const { return temporary_; }
  /// fsyncs the folder, renames it into place and fsyncs its parent. An existing folder at the
  /// final name is replaced (swapped in one step where the file system can, else moved aside, then
  /// removed) when `replace` is true, an error otherwise.
  void commit(bool replace = false);

 private:
  Path path_;
  Path temporary_;
  bool committed_ = false;
};

/// Creates a folder and its parents; no error when it exists.
void create_folders(const Path& path);

/// Keeps other processes that ask for the same lock out of a folder while it lives. The lock ends
/// with the process, however that ends.
class FolderLock {
 public:
  /// Throws Error at once when another process holds the lock.
  explicit FolderLock(const Path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

/// Makes a rename inside `folder` durable.
void sync_folder(const Path& folder);

/// Makes what was appended to a file durable.
void sync_file(const Path& path);

/// Appends one line (a newline is added) to a file opened in append mode with a single write call.
void append_line(const Path& path, std::string_view line);

/// CRC-32C (Castagnoli, iSCSI polynomial 0x1EDC6F41, RFC 3720 appendix B.4) of `bytes`, continuing
/// from `crc` (0 at the start).
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc = 0);

/// The same from tables alone, as on a processor without the instruction.
std::uint32_t crc32c_by_tables(std::span<const std::byte> bytes, std::uint32_t crc = 0);

/// 64-bit FNV-1a of `bytes`, continuing from `hash`. For identity, not for safety.
/// Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm" (IETF draft).
std::uint64_t fnv1a64(std::span<const std::byte> bytes, std::uint64_t hash = 0xcbf29ce484222325ULL);
inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Free bytes for this user on the file system of `path`.
std::uint64_t free_disk_bytes(const Path& path);

/// Memory that can still be taken without swapping: MemAvailable of /proc/meminfo, lowered to the
/// cgroup's limit where there is one.
std::uint64_t free_memory_bytes();

/// Largest resident memory of this process so far, in bytes (VmHWM).
std::uint64_t peak_memory_bytes();

}  // namespace base
