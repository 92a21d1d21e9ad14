#pragma once
/// Parquet's compression codecs, one page at a time.
///
/// Law: a page's decompressed size is known beforehand and must come out exactly; no byte outside
/// the two spans is touched, whatever the input.

#include <cstddef>
#include <memory>
#include <span>

#include "data/parquet_format.h"

namespace data::parquet {

/// Decompresses pages of one codec, keeping what the library needs between them.
class Decompressor {
 public:
  /// Throws Error for a codec that is not read (LZO).
  explicit Decompressor(Codec codec);
  ~Decompressor();
  Decompressor(Decompressor&&) noexcept;
  Decompressor& operator=(Decompressor&&) noexcept;

  /// Fills `to` with the content of `from`. Throws Error where that is corrupt or has another size.
  void run(std::span<const std::byte> from, std::span<std::byte> to);

 private:
  struct Contexts;
  Codec codec_;
  std::unique_ptr<Contexts> contexts_;
};

}  // namespace data::parquet
