// pread, in blocks.

#include "data/file_ranges.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace data {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 18;  // a read call, at least

}  // namespace

RandomAccessFile::RandomAccessFile(const base::Path& path) : name_(path.string()) {
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) base::fail("cannot open {}: {}", name_, std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    base::fail("cannot read {}: expected a regular file", name_);
  }
  bytes_ = static_cast<std::uint64_t>(status.st_size);
}

RandomAccessFile::~RandomAccessFile() { ::close(descriptor_); }

void RandomAccessFile::read(std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t got = ::pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) base::fail("cannot read at byte {}: {}", offset, std::strerror(errno));
    if (got == 0) base::fail("the file became shorter while it was read: no byte {}", offset);
    to = to.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

std::span<const std::byte> RangeReader::peek(std::size_t count) {
  const std::size_t there = end_ - begin_;
  if (there < count && unread_ > 0) {
    if (there > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, there);
    begin_ = 0;
    end_ = there;
    const auto more = static_cast<std::size_t>(
        std::min<std::uint64_t>(std::max(count - there, kReadBytes), unread_));
    const auto bytes = buffer_.resize(there + more, there);
    file_->read(offset_, bytes.subspan(there));
    end_ += more;
    offset_ += more;
    unread_ -= more;
  }
  return {buffer_.data() + begin_, std::min(count, end_ - begin_)};
}

}  // namespace data
