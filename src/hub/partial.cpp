// Partial files and locks through POSIX calls, so that every failure has its errno.

#include "hub/partial.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"

namespace hub {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

[[noreturn]] void fail_errno(std::string_view action, const base::Path& path) {
  const int code = errno;
  std::string_view advice;
  if (code == ENOSPC || code == EDQUOT) {
    advice = "; free some space, or set HF_HOME to a folder on another disk, and run it again";
  }
  if (code == EACCES || code == EROFS || code == EPERM) {
    advice = "; check the permissions, or set HF_HOME to another folder";
  }
  base::fail("cannot {} {}: {}{}", action, path.string(), std::strerror(code), advice);
}

/// False where the name leads to another file by now, or to none.
bool still_named(int descriptor, const base::Path& path) {
  struct stat open_file {};
  struct stat named {};
  return ::fstat(descriptor, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev;
}

}  // namespace

PartialFile::PartialFile(base::Path path, const std::string& hash, std::uint64_t size)
    : path_(std::move(path)), digest_(hash, size) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_errno("create", path_);
  std::string block(kBlockBytes, '\0');
  for (;;) {
    const ssize_t got = ::read(descriptor_, block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno("read", path_);
    if (got == 0) break;
    digest_.update(
        base::as_bytes(std::string_view(block).substr(0, static_cast<std::size_t>(got))));
    size_ += static_cast<std::uint64_t>(got);
  }
  if (size_ > size) restart();
}

PartialFile::~PartialFile() { ::close(descriptor_); }

void PartialFile::append(std::string_view bytes) {
  digest_.update(base::as_bytes(bytes));
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail_errno("write", path_);
    }
    size_ += static_cast<std::uint64_t>(written);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void PartialFile::restart() {
  if (::ftruncate(descriptor_, 0) != 0) fail_errno("write", path_);
  size_ = 0;
  digest_.restart();
}

bool PartialFile::verify() { return digest_.finish() == digest_.expected(); }

void PartialFile::commit(const base::Path& final_name) {
  if (::fsync(descriptor_) != 0) fail_errno("write", path_);
  if (::rename(path_.c_str(), final_name.c_str()) != 0) fail_errno("write", final_name);
  base::sync_folder(final_name.parent_path());
}

void PartialFile::discard() { ::unlink(path_.c_str()); }

bool ContentLock::acquire(bool wait) {
  for (;;) {
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664);
    if (descriptor_ < 0) fail_errno("create", path_);
    int locked = 0;
    do {
      locked = ::flock(descriptor_, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
    } while (locked != 0 && errno == EINTR);
    // Some file systems lock nothing; what is fetched twice is renamed into place twice.
    const bool busy = locked != 0 && errno == EWOULDBLOCK;
    // Who held it may have removed the file: then a third process locks a new one of that name.
    if (!busy && (locked != 0 || still_named(descriptor_, path_))) return true;
    ::close(descriptor_);
    descriptor_ = -1;
    if (busy) return false;
  }
}

ContentLock::~ContentLock() { ::close(descriptor_); }

}  // namespace hub
