// One function for each codec; each gives the size it made, or fails with the library's reason.

#include "data/page_codec.h"

#include <brotli/decode.h>
#include <lz4.h>
#include <snappy.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdint>
#include <cstring>
#include <optional>

#include "base/error.h"

namespace data::parquet {
namespace {

using Bytes = std::span<const std::byte>;

const char* chars(Bytes bytes) { return reinterpret_cast<const char*>(bytes.data()); }
char* chars(std::span<std::byte> bytes) { return reinterpret_cast<char*>(bytes.data()); }
std::uint8_t* octets(std::span<std::byte> bytes) {
  return reinterpret_cast<std::uint8_t*>(bytes.data());
}
const std::uint8_t* octets(Bytes bytes) {
  return reinterpret_cast<const std::uint8_t*>(bytes.data());
}

std::size_t run_snappy(Bytes from, std::span<std::byte> to) {
  std::size_t size = 0;
  if (!snappy::GetUncompressedLength(chars(from), from.size(), &size)) {
    base::fail("corrupt snappy data: no length at its start");
  }
  if (size != to.size()) return size;  // the caller says which size was expected
  if (!snappy::RawUncompress(chars(from), from.size(), chars(to))) {
    base::fail("corrupt snappy data");
  }
  return size;
}

std::size_t run_zstd(ZSTD_DCtx* context, Bytes from, std::span<std::byte> to) {
  const std::size_t size =
      ::ZSTD_decompressDCtx(context, to.data(), to.size(), from.data(), from.size());
  if (::ZSTD_isError(size) != 0) base::fail("corrupt zstd data: {}", ::ZSTD_getErrorName(size));
  return size;
}

/// Members one after another, as some writers split a page.
std::size_t run_gzip(z_stream& stream, Bytes from, std::span<std::byte> to) {
  stream.next_in = const_cast<Bytef*>(octets(from));
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = octets(to);
  stream.avail_out = static_cast<uInt>(to.size());
  do {
    ::inflateReset(&stream);
    const int code = ::inflate(&stream, Z_FINISH);
    if (code != Z_STREAM_END) {
      base::fail("corrupt gzip data: {}", stream.msg != nullptr ? stream.msg
                                          : stream.avail_out == 0
                                              ? "it holds more than the page header says"
                                              : "it ends too soon");
    }
  } while (stream.avail_in > 0);
  return to.size() - stream.avail_out;
}

std::size_t run_brotli(Bytes from, std::span<std::byte> to) {
  std::size_t size = to.size();
  if (::BrotliDecoderDecompress(from.size(), octets(from), &size, octets(to)) !=
      BROTLI_DECODER_RESULT_SUCCESS) {
    base::fail("corrupt brotli data");
  }
  return size;
}

std::optional<std::size_t> lz4_block(Bytes from, std::span<std::byte> to) {
  constexpr std::size_t kMost = LZ4_MAX_INPUT_SIZE;
  if (from.size() > kMost || to.size() > INT32_MAX) return std::nullopt;
  const int size = ::LZ4_decompress_safe(chars(from), chars(to), static_cast<int>(from.size()),
                                         static_cast<int>(to.size()));
  if (size < 0) return std::nullopt;
  return static_cast<std::size_t>(size);
}

std::uint32_t big_endian(Bytes bytes) {
  std::uint32_t value = 0;
  for (const std::byte b : bytes.first(4)) value = value << 8 | std::to_integer<std::uint32_t>(b);
  return value;
}

/// Hadoop's frames: decompressed and compressed size of each block, big-endian, before it. Nothing
/// where `from` does not hold such frames that fill `to`.
std::optional<std::size_t> hadoop_lz4(Bytes from, std::span<std::byte> to) {
  std::size_t done = 0;
  while (!from.empty()) {
    if (from.size() < 8) return std::nullopt;
    const std::uint32_t size = big_endian(from);
    const std::uint32_t compressed = big_endian(from.subspan(4));
    from = from.subspan(8);
    if (compressed > from.size() || size > to.size() - done) return std::nullopt;
    if (lz4_block(from.first(compressed), to.subspan(done, size)) != size) return std::nullopt;
    from = from.subspan(compressed);
    done += size;
  }
  return done;
}

std::size_t run_lz4(Codec codec, Bytes from, std::span<std::byte> to) {
  std::optional<std::size_t> size;
  if (codec == Codec::kLz4) size = hadoop_lz4(from, to);
  if (!size) size = lz4_block(from, to);
  if (!size) base::fail("corrupt lz4 data");
  return *size;
}

std::size_t copy(Bytes from, std::span<std::byte> to) {
  if (from.size() == to.size() && !to.empty()) std::memcpy(to.data(), from.data(), to.size());
  return from.size();
}

}  // namespace

struct Decompressor::Contexts {
  Contexts() = default;
  ~Contexts() {
    ::ZSTD_freeDCtx(zstd);
    if (gzip_open) ::inflateEnd(&gzip);
  }
  Contexts(const Contexts&) = delete;
  Contexts& operator=(const Contexts&) = delete;

  ZSTD_DCtx* zstd = nullptr;
  z_stream gzip{};
  bool gzip_open = false;
};

Decompressor::Decompressor(Codec codec) : codec_(codec), contexts_(std::make_unique<Contexts>()) {
  if (codec == Codec::kLzo || codec > Codec::kLz4Raw) {
    base::fail("expected a codec of none, snappy, gzip, brotli, zstd or lz4, got {}",
               name_of(codec));
  }
  if (codec == Codec::kZstd) contexts_->zstd = ::ZSTD_createDCtx();
  if (codec == Codec::kGzip) {
    constexpr int kGzipOrZlib = 15 + 32;  // some writers leave gzip's header out
    contexts_->gzip_open = ::inflateInit2(&contexts_->gzip, kGzipOrZlib) == Z_OK;
  }
  if ((codec == Codec::kZstd && contexts_->zstd == nullptr) ||
      (codec == Codec::kGzip && !contexts_->gzip_open)) {
    base::fail("not enough memory to decompress");
  }
}

Decompressor::~Decompressor() = default;
Decompressor::Decompressor(Decompressor&&) noexcept = default;
Decompressor& Decompressor::operator=(Decompressor&&) noexcept = default;

void Decompressor::run(std::span<const std::byte> from, std::span<std::byte> to) {
  std::size_t size = 0;
  switch (codec_) {
    case Codec::kUncompressed:
      size = copy(from, to);
      break;
    case Codec::kSnappy:
      size = run_snappy(from, to);
      break;
    case Codec::kGzip:
      size = run_gzip(contexts_->gzip, from, to);
      break;
    case Codec::kBrotli:
      size = run_brotli(from, to);
      break;
    case Codec::kZstd:
      size = run_zstd(contexts_->zstd, from, to);
      break;
    case Codec::kLz4:
    case Codec::kLz4Raw:
      size = run_lz4(codec_, from, to);
      break;
    case Codec::kLzo:
      break;  // refused by the constructor
  }
  if (size != to.size()) {
    base::fail("{}: expected a page of {} bytes as its header says, got {}", name_of(codec_),
               to.size(), size);
  }
}

}  // namespace data::parquet
