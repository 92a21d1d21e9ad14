// Files through POSIX calls, so that every failure has its errno and every write its fsync.

#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/error.h"

namespace base {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;  // one write call a mebibyte

[[noreturn]] void fail_errno(std::string_view action, const Path& path) {
  const int code = errno;
  std::string_view advice;
  if (code == ENOSPC) advice = "; free some space and try again";
  if (code == EACCES || code == EROFS || code == EPERM) advice = "; check the permissions";
  fail("cannot {} {}: {}{}", action, path.string(), std::strerror(code), advice);
}

/// An open descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const Path& path, int flags, std::string_view action)
      : value_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (value_ < 0) fail_errno(action, path);
  }
  ~Descriptor() { ::close(value_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

struct stat status_of(int descriptor, const Path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail_errno("read", path);
  if (S_ISDIR(status.st_mode)) {
    fail("cannot read {}: it is a folder, expected a file", path.string());
  }
  return status;
}

void write_fully(int descriptor, const char* data, std::size_t size, const Path& path) {
  while (size > 0) {
    const ssize_t written = ::write(descriptor, data, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      fail_errno("write", path);
    }
    data += written;
    size -= static_cast<std::size_t>(written);
  }
}

/// "folder/" names the folder: a suffix must not end up inside it.
Path without_trailing_slash(Path path) {
  while (!path.has_filename() && path.has_parent_path() && path != path.root_path()) {
    path = path.parent_path();
  }
  return path;
}

Path temporary_name(const Path& path) {
  return path.string() + ".tmp." + std::to_string(::getpid());
}

Path folder_of(const Path& path) { return path.has_parent_path() ? path.parent_path() : Path("."); }

/// Swaps two names in one step, so that neither is ever absent; false where the system cannot.
bool exchange(const Path& a, const Path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

/// The number behind `key` in a /proc file of "Key:   123 kB" lines, in bytes; 0 if absent.
std::uint64_t proc_kilobytes(const char* file, std::string_view key) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size())) * 1024;
  }
  return 0;
}

/// A cgroup's number file; `otherwise` where it says "max" or is absent.
std::uint64_t cgroup_number(const char* file, std::uint64_t otherwise) {
  std::ifstream stream(file);
  std::uint64_t value = 0;
  return stream >> value ? value : otherwise;
}

/// Bytes of a cgroup's memory that only cache files: the kernel drops them when memory is asked
/// for.
std::uint64_t cgroup_cache_bytes() {
  std::ifstream stream("/sys/fs/cgroup/memory.stat");
  std::uint64_t sum = 0;
  std::uint64_t value = 0;
  for (std::string key; stream >> key >> value;) {
    if (key == "inactive_file" || key == "active_file") sum += value;
  }
  return sum;
}

}  // namespace

std::string read_file(const Path& path) {
  const Descriptor file(path, O_RDONLY, "open");
  const auto status = status_of(file.get(), path);
  std::string content;
  content.reserve(static_cast<std::size_t>(std::max<off_t>(status.st_size, 0)));
  std::string block(kBufferBytes, '\0');
  for (;;) {
    const ssize_t got = ::read(file.get(), block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno("read", path);
    if (got == 0) return content;
    content.append(block.data(), static_cast<std::size_t>(got));
  }
}

MappedFile::MappedFile(const Path& path) : path_(path) {
  const Descriptor file(path, O_RDONLY, "open");
  const auto status = status_of(file.get(), path);
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) fail_errno("map", path);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() { release(); }

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    release();
    path_ = std::move(other.path_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void MappedFile::release() noexcept {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  data_ = nullptr;
}

AtomicFile::AtomicFile(Path path) : path_(std::move(path)), temporary_(temporary_name(path_)) {
  descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_errno("create", path_);
  buffer_.reserve(kBufferBytes);
}

AtomicFile::~AtomicFile() { discard(); }

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      buffer_(std::move(other.buffer_)) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this != &other) {
    discard();
    path_ = std::move(other.path_);
    temporary_ = std::move(other.temporary_);
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = other.size_;
    buffer_ = std::move(other.buffer_);
  }
  return *this;
}

void AtomicFile::discard() noexcept {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
  descriptor_ = -1;
}

void AtomicFile::flush() {
  write_fully(descriptor_, buffer_.data(), buffer_.size(), path_);
  buffer_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() > kBufferBytes) {
    write_fully(descriptor_, reinterpret_cast<const char*>(bytes.data()), bytes.size(), path_);
  } else {
    buffer_.append(as_text(bytes));
  }
}

void AtomicFile::write(std::string_view text) { write(as_bytes(text)); }

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  flush();
  if (bytes.size() > size_ || offset > size_ - bytes.size()) {
    fail("cannot write {}: {} bytes at offset {} lie past its {}", path_.string(), bytes.size(),
         offset, size_);
  }
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail_errno("write", path_);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

void AtomicFile::commit() {
  flush();
  if (::fsync(descriptor_) != 0) fail_errno("write", path_);
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary_.c_str());
    errno = code;
    fail_errno("write", path_);
  }
  sync_folder(folder_of(path_));
}

void write_file(const Path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

AtomicFolder::AtomicFolder(Path path)
    : path_(without_trailing_slash(std::move(path))), temporary_(temporary_name(path_)) {
  std::error_code ignored;
  std::filesystem::remove_all(temporary_, ignored);
  create_folders(temporary_);
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!committed_) std::filesystem::remove_all(temporary_, ignored);
}

void AtomicFolder::commit(bool replace) {
  sync_folder(temporary_);
  std::error_code ignored;
  const bool exists = std::filesystem::exists(std::filesystem::symlink_status(path_, ignored));
  if (exists && !replace) fail("cannot write {}: it exists already", path_.string());
  if (exists && exchange(temporary_, path_)) {
    committed_ = true;
    sync_folder(folder_of(path_));
    std::filesystem::remove_all(temporary_, ignored);  // now the old content
    return;
  }
  const Path aside = path_.string() + ".old." + std::to_string(::getpid());
  if (exists && ::rename(path_.c_str(), aside.c_str()) != 0) fail_errno("replace", path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int code = errno;
    if (exists) (void)::rename(aside.c_str(), path_.c_str());
    errno = code;
    fail_errno("write", path_);
  }
  committed_ = true;
  sync_folder(folder_of(path_));
  if (exists) std::filesystem::remove_all(aside, ignored);
}

void create_folders(const Path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail("cannot create folder {}: {}", path.string(), error.message());
}

FolderLock::FolderLock(const Path& folder)
    : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0) fail_errno("open", folder);
  // Some file systems lock no folders; there is nothing to keep out by then.
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor_);
    fail("{} is being written by another process; wait for its end or choose another folder",
         folder.string());
  }
}

FolderLock::~FolderLock() { ::close(descriptor_); }

void sync_folder(const Path& folder) {
  const Descriptor file(folder, O_RDONLY | O_DIRECTORY, "open");
  // Some file systems refuse to fsync a folder (EINVAL); there the rename is all there is.
  if (::fsync(file.get()) != 0 && errno != EINVAL) fail_errno("write", folder);
}

void sync_file(const Path& path) {
  const Descriptor file(path, O_WRONLY, "open");
  if (::fsync(file.get()) != 0) fail_errno("write", path);
}

void append_line(const Path& path, std::string_view line) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_APPEND, "open");
  std::string text(line);
  text += '\n';
  write_fully(file.get(), text.data(), text.size(), path);
}

std::uint64_t fnv1a64(std::span<const std::byte> bytes, std::uint64_t hash) {
  for (const std::byte b : bytes) {
    hash = (hash ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3ULL;
  }
  return hash;
}

std::uint64_t free_disk_bytes(const Path& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) fail_errno("ask for the free space of", path);
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

std::uint64_t free_memory_bytes() {
  std::uint64_t available = proc_kilobytes("/proc/meminfo", "MemAvailable:");
  const std::uint64_t limit = cgroup_number("/sys/fs/cgroup/memory.max", UINT64_MAX);
  if (limit != UINT64_MAX) {
    const std::uint64_t charged = cgroup_number("/sys/fs/cgroup/memory.current", 0);
    const std::uint64_t used = charged - std::min(charged, cgroup_cache_bytes());
    available = std::min(available, limit > used ? limit - used : 0);
  }
  return available;
}

std::uint64_t peak_memory_bytes() { return proc_kilobytes("/proc/self/status", "VmHWM:"); }

}  // namespace base
