#pragma once
/// Bytes of a file front to back: plain, or out of gzip (.gz) and zstd (.zst) streams.
///
/// Law: memory does not grow with the file, and nothing in a stream is believed before it is there.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/file.h"

namespace data {

/// A stream of bytes.
class ByteReader {
 public:
  virtual ~ByteReader() = default;
  /// Fills `to` from its front and gives how many bytes it wrote; 0 only at the end (or for an
  /// empty `to`). Throws Error naming the file and the position where it cannot be read, where a
  /// compressed stream is corrupt, and where one ends too soon.
  virtual std::size_t read(std::span<std::byte> to) = 0;
  /// Bytes of the file itself taken so far, for progress; at the end the size of the file.
  virtual std::uint64_t source_bytes() const = 0;
};

/// Opens a file, "-" being the standard input. What ends in ".gz" or ".zst" is decompressed: gzip
/// members and zstd frames one after another are one stream, skippable frames hold nothing.
std::unique_ptr<ByteReader> open_bytes(const base::Path& path);

/// The content of the gzip members that `source` holds. `name` stands in messages. Zeros after the
/// last member are padding, anything else is an error.
std::unique_ptr<ByteReader> gunzip(std::unique_ptr<ByteReader> source, std::string name);

/// The largest window of a zstd frame that is accepted, as a power of two: `zstd --long=31`.
inline constexpr int kMaxZstdWindowLog = 31;

/// The content of the zstd frames that `source` holds. A frame's window is memory that is touched
/// only as far as the content reaches.
std::unique_ptr<ByteReader> unzstd(std::unique_ptr<ByteReader> source, std::string name,
                                   int max_window_log = kMaxZstdWindowLog);

}  // namespace data
