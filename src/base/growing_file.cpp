// One buffer, one checksum a flush; writing to the disk begins long before anyone waits for it.

#include "base/growing_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace base {
namespace {

constexpr std::size_t kGrowingBytes = std::size_t{1} << 18;  // stays in a core's cache
/// The kernel is asked to begin writing at every so many bytes, so that a sync has little to do.
constexpr std::uint64_t kStartBytes = std::uint64_t{1} << 23;

[[noreturn]] void fail_write(const Path& path) {
  const int code = errno;
  fail("cannot write {}: {}{}", path.string(), std::strerror(code),
       code == ENOSPC ? "; free some space and try again" : "");
}

}  // namespace

GrowingFile::GrowingFile(Path path, std::uint64_t keep_bytes)
    : path_(std::move(path)), size_(keep_bytes), started_(keep_bytes) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_write(path_);
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || static_cast<std::uint64_t>(status.st_size) < keep_bytes) {
    close();
    fail("{}: expected at least {} bytes, file has {}", path_.string(), keep_bytes,
         known ? status.st_size : 0);
  }
  const auto length = static_cast<off_t>(keep_bytes);
  if (::ftruncate(descriptor_, length) != 0 || ::lseek(descriptor_, length, SEEK_SET) != length) {
    const int code = errno;
    close();
    errno = code;
    fail_write(path_);
  }
  buffer_.reserve(kGrowingBytes);
}

GrowingFile::~GrowingFile() { close(); }

GrowingFile::GrowingFile(GrowingFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      started_(other.started_),
      crc_(other.crc_),
      buffer_(std::move(other.buffer_)) {}

GrowingFile& GrowingFile::operator=(GrowingFile&& other) noexcept {
  if (this != &other) {
    close();
    path_ = std::move(other.path_);
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = other.size_;
    started_ = other.started_;
    crc_ = other.crc_;
    buffer_ = std::move(other.buffer_);
  }
  return *this;
}

void GrowingFile::close() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

void GrowingFile::flush() {
  crc_ = crc32c(as_bytes(buffer_), crc_);
  const char* data = buffer_.data();
  for (std::size_t left = buffer_.size(); left > 0;) {
    const ssize_t written = ::write(descriptor_, data, left);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_write(path_);
    data += written;
    left -= static_cast<std::size_t>(written);
  }
  buffer_.clear();
  if (size_ - started_ < kStartBytes) return;
  // Only a hint: where it is not supported, sync() does all of the work.
  (void)::sync_file_range(descriptor_, static_cast<off_t>(started_),
                          static_cast<off_t>(size_ - started_), SYNC_FILE_RANGE_WRITE);
  started_ = size_;
}

void GrowingFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (buffer_.size() == kGrowingBytes) flush();
    const auto part = bytes.first(std::min(bytes.size(), kGrowingBytes - buffer_.size()));
    buffer_.append(as_text(part));
    size_ += part.size();
    bytes = bytes.subspan(part.size());
  }
}

void GrowingFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  flush();
  const auto place = static_cast<off_t>(offset);
  if (::pwrite(descriptor_, bytes.data(), bytes.size(), place) !=
      static_cast<ssize_t>(bytes.size())) {
    fail_write(path_);
  }
}

std::uint32_t GrowingFile::crc() {
  flush();
  return crc_;
}

void GrowingFile::sync() {
  flush();
  if (::fdatasync(descriptor_) != 0) fail_write(path_);
}

void GrowingFile::commit(const Path& final_path) {
  flush();
  if (::fsync(descriptor_) != 0) fail_write(path_);
  close();
  if (::rename(path_.c_str(), final_path.c_str()) != 0) fail_write(final_path);
  sync_folder(final_path.has_parent_path() ? final_path.parent_path() : Path("."));
}

}  // namespace base
