// The bytes of compressed files.

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "data/bytes.h"
#include "data/source.h"

namespace data {
namespace {

class DecompressedStream : public ByteStream {
 public:
  explicit DecompressedStream(const std::string& path) : path_(path), bytes_(open_bytes(path)) {}

  std::size_t read(std::span<char> to) override {
    std::size_t got = 0;
    while (got < to.size()) {
      const std::size_t count = read_some(to.subspan(got));
      if (count == 0) break;
      got += count;
    }
    return got;
  }
  /// Reads what it passes over: nothing says where it lies.
  void skip(std::uint64_t bytes) override {
    std::vector<char> passed(std::size_t{1} << 20);
    while (bytes > 0) {
      const std::size_t count =
          read_some(std::span(passed).first(std::min<std::uint64_t>(bytes, passed.size())));
      if (count == 0) base::fail("{}: ends before the place to go on from", display_name(path_));
      bytes -= count;
    }
  }
  std::uint64_t source_bytes() const override { return bytes_->source_bytes(); }

 private:
  /// What is corrupt ends the input; so does the rest of the block before it.
  std::size_t read_some(std::span<char> to) {
    try {
      return bytes_->read(std::as_writable_bytes(to));
    } catch (const base::Error& error) {
      throw BrokenRecord(display_name(path_), 0, error.what());
    }
  }

  std::string path_;
  std::unique_ptr<ByteReader> bytes_;
};

}  // namespace

std::unique_ptr<ByteStream> open_decompressed(const std::string& path) {
  return std::make_unique<DecompressedStream>(path);
}

}  // namespace data
