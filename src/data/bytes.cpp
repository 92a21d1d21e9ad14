// Byte streams of files, decompressed on the way by zlib and libzstd.

#include "data/bytes.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"

namespace data {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 17;  // of compressed bytes; zstd's own block
constexpr std::size_t kMostHeaderBytes = 18;               // of a zstd frame

/// The file as it is.
class FileReader final : public ByteReader {
 public:
  explicit FileReader(const base::Path& path)
      : name_(path == "-" ? "the standard input" : path.string()) {
    if (path == "-") {
      descriptor_ = STDIN_FILENO;
      return;
    }
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) base::fail("cannot open {}: {}", name_, std::strerror(errno));
  }
  ~FileReader() override {
    if (descriptor_ != STDIN_FILENO) ::close(descriptor_);
  }
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  std::size_t read(std::span<std::byte> to) override {
    std::size_t filled = 0;
    while (filled < to.size()) {  // a pipe gives less than it is asked for
      const ssize_t got = ::read(descriptor_, to.data() + filled, to.size() - filled);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        base::fail("cannot read {} at byte {}: {}", name_, taken_ + filled, std::strerror(errno));
      }
      if (got == 0) break;
      filled += static_cast<std::size_t>(got);
    }
    taken_ += filled;
    return filled;
  }
  std::uint64_t source_bytes() const override { return taken_; }

 private:
  std::string name_;
  int descriptor_ = -1;
  std::uint64_t taken_ = 0;
};

/// What a decompressor reads from: a block of the source, refilled when it is used up.
class Compressed {
 public:
  Compressed(std::unique_ptr<ByteReader> source, std::string name)
      : source_(std::move(source)), name_(std::move(name)), block_(kBlockBytes) {}

  /// The bytes not yet taken, at least `least` (below a block) unless the file ends before; empty
  /// at the end.
  std::span<const std::byte> bytes(std::size_t least = 1) {
    while (end_ - begin_ < least) {
      std::memmove(block_.data(), block_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
      const std::size_t got = source_->read(std::span(block_).subspan(end_));
      if (got == 0) break;
      end_ += got;
      total_ += got;
    }
    return std::span<const std::byte>(block_).subspan(begin_, end_ - begin_);
  }
  void take(std::size_t count) { begin_ += count; }
  /// Position of the next byte to be taken.
  std::uint64_t position() const { return total_ - (end_ - begin_); }
  const std::string& name() const { return name_; }

  [[noreturn]] void fail_truncated(std::string_view what) const {
    base::fail("{}: the file ends at byte {} inside {}; it is not complete", name_, total_, what);
  }
  [[noreturn]] void fail_corrupt(std::string_view format, std::string_view reason) const {
    base::fail("{}: corrupt {} data near byte {}: {}", name_, format, position(), reason);
  }

 private:
  std::unique_ptr<ByteReader> source_;
  std::string name_;
  std::vector<std::byte> block_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t total_ = 0;  // read from the source
};

class GzipReader final : public ByteReader {
 public:
  GzipReader(std::unique_ptr<ByteReader> source, std::string name)
      : in_(std::move(source), std::move(name)) {
    constexpr int kGzipOnly = 15 + 16;  // the largest window, a gzip header and its checksum
    if (::inflateInit2(&stream_, kGzipOnly) != Z_OK) {
      base::fail("{}: not enough memory to decompress", in_.name());
    }
  }
  ~GzipReader() override { ::inflateEnd(&stream_); }
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  std::size_t read(std::span<std::byte> to) override {
    to = to.first(std::min(to.size(), std::size_t{1} << 30));  // zlib counts in 32 bits
    std::size_t filled = 0;
    while (filled < to.size() && begin_member()) filled += inflate_some(to.subspan(filled));
    return filled;
  }
  std::uint64_t source_bytes() const override { return in_.position(); }

 private:
  /// True inside a member; false at the end of the file.
  bool begin_member() {
    while (!inside_) {
      const auto bytes = in_.bytes();
      if (bytes.empty() && members_ > 0) return false;
      if (bytes.empty()) in_.fail_truncated("the gzip header");
      const auto zeros = static_cast<std::size_t>(
          std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; }) -
          bytes.begin());
      padded_ = padded_ || zeros > 0;
      if (zeros > 0 && members_ > 0) {
        in_.take(zeros);
        continue;
      }
      if (padded_ || std::to_integer<int>(bytes[0]) != 0x1f) {
        in_.fail_corrupt("gzip", members_ == 0 ? "expected a gzip header (1f 8b)"
                                               : "expected another gzip header or the end");
      }
      ::inflateReset(&stream_);
      inside_ = true;
      ++members_;
    }
    return true;
  }

  /// One call of inflate: bytes written to `to`.
  std::size_t inflate_some(std::span<std::byte> to) {
    const auto bytes = in_.bytes();
    if (bytes.empty()) in_.fail_truncated("a gzip member");
    stream_.next_in =
        const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
    stream_.avail_in = static_cast<unsigned>(bytes.size());
    stream_.next_out = reinterpret_cast<unsigned char*>(to.data());
    stream_.avail_out = static_cast<unsigned>(to.size());
    const int code = ::inflate(&stream_, Z_NO_FLUSH);
    in_.take(bytes.size() - stream_.avail_in);
    if (code == Z_STREAM_END) {
      inside_ = false;
    } else if (code != Z_OK) {
      in_.fail_corrupt("gzip", stream_.msg != nullptr ? stream_.msg : "it needs a dictionary");
    }
    return to.size() - stream_.avail_out;
  }

  Compressed in_;
  z_stream stream_{};
  bool inside_ = false;
  bool padded_ = false;  // zeros came after a member
  std::uint64_t members_ = 0;
};

class ZstdReader final : public ByteReader {
 public:
  ZstdReader(std::unique_ptr<ByteReader> source, std::string name, int max_window_log)
      : in_(std::move(source), std::move(name)), context_(::ZSTD_createDCtx()) {
    if (context_ == nullptr) base::fail("{}: not enough memory to decompress", in_.name());
    ::ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, max_window_log);
  }

  std::size_t read(std::span<std::byte> to) override {
    ZSTD_outBuffer out{to.data(), to.size(), 0};
    while (out.pos < out.size) {
      const auto bytes = in_.bytes(inside_ ? 1 : kMostHeaderBytes);
      if (bytes.empty() && !inside_ && frames_ > 0) break;
      if (!inside_) begin_frame(bytes);
      const std::size_t before = out.pos;
      ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
      const std::size_t code = ::ZSTD_decompressStream(context_.get(), &out, &in);
      in_.take(in.pos);
      if (::ZSTD_isError(code) != 0) in_.fail_corrupt("zstd", ::ZSTD_getErrorName(code));
      content_ += out.pos - before;
      // At the end of the file the context may still hold content that found no room before.
      if (bytes.empty() && code != 0 && out.pos == before) in_.fail_truncated("a zstd frame");
      inside_ = code != 0;
      if (!inside_) end_frame();
    }
    return out.pos;
  }
  std::uint64_t source_bytes() const override { return in_.position(); }

 private:
  /// Looks at a frame's header (or less, where the file ends).
  void begin_frame(std::span<const std::byte> bytes) {
    std::uint32_t magic = 0;
    if (bytes.size() < sizeof magic) in_.fail_truncated("a zstd frame");
    std::memcpy(&magic, bytes.data(), sizeof magic);
    const bool skippable = (magic & 0xfffffff0U) == ZSTD_MAGIC_SKIPPABLE_START;
    if (magic != ZSTD_MAGICNUMBER && !skippable) {  // formats before zstd 0.8 included
      in_.fail_corrupt("zstd", "expected a zstd frame (28 b5 2f fd)");
    }
    const auto size = ::ZSTD_getFrameContentSize(bytes.data(), bytes.size());
    known_ = !skippable && size != ZSTD_CONTENTSIZE_UNKNOWN && size != ZSTD_CONTENTSIZE_ERROR;
    promised_ = known_ ? size : 0;
    content_ = 0;
    ++frames_;
  }

  /// libzstd lets an empty last block end a frame before all of it came.
  void end_frame() const {
    if (known_ && content_ != promised_) {
      in_.fail_corrupt("zstd", fmt::format("expected {} bytes in a frame as it says, got {}",
                                           promised_, content_));
    }
  }

  struct Free {
    void operator()(ZSTD_DCtx* context) const { ::ZSTD_freeDCtx(context); }
  };
  Compressed in_;
  std::unique_ptr<ZSTD_DCtx, Free> context_;
  bool inside_ = false;
  std::uint64_t frames_ = 0;
  bool known_ = false;          // the frame says how long its content is
  std::uint64_t promised_ = 0;  // so long
  std::uint64_t content_ = 0;   // given of the frame so far
};

}  // namespace

std::unique_ptr<ByteReader> gunzip(std::unique_ptr<ByteReader> source, std::string name) {
  return std::make_unique<GzipReader>(std::move(source), std::move(name));
}

std::unique_ptr<ByteReader> unzstd(std::unique_ptr<ByteReader> source, std::string name,
                                   int max_window_log) {
  return std::make_unique<ZstdReader>(std::move(source), std::move(name), max_window_log);
}

std::unique_ptr<ByteReader> open_bytes(const base::Path& path) {
  auto file = std::make_unique<FileReader>(path);
  if (path.extension() == ".gz") return gunzip(std::move(file), path.string());
  if (path.extension() == ".zst") return unzstd(std::move(file), path.string());
  return file;
}

}  // namespace data
