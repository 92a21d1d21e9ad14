#pragma once
/// The encodings of a page: levels and indices in runs, integers as deltas, strings.
///
/// Law: one value at a time out of bytes that are there; nothing is allocated by a count, and every
/// access is checked. All throw Error where bytes end too soon or contradict themselves.
/// Source: the Apache Parquet format, Encodings.md.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "data/parquet_format.h"

namespace data::parquet {

using Bytes = std::span<const std::byte>;

/// A longer value is an error.
inline constexpr std::size_t kMaxValueBytes = std::size_t{1} << 30;

/// Runs of one value and runs of bit-packed values ("RLE/bit-packing hybrid").
class RunReader {
 public:
  RunReader() = default;
  /// `bit_width` in [0, 32].
  RunReader(Bytes bytes, int bit_width) : bytes_(bytes), width_(bit_width) {}
  std::uint32_t next();

 private:
  void begin_run();

  Bytes bytes_;
  int width_ = 0;
  std::uint64_t left_ = 0;  // of the run
  bool packed_ = false;
  std::uint32_t value_ = 0;  // of a run of one value
  Bytes packed_bytes_;       // of a packed run
  std::uint64_t bit_ = 0;    // of the next value in them
};

/// Integers of 32 bits as differences ("DELTA_BINARY_PACKED").
class DeltaReader {
 public:
  /// `most`: the largest count of values that makes sense.
  DeltaReader(Bytes bytes, std::uint64_t most);
  /// Values in all.
  std::uint64_t count() const { return count_; }
  /// The next value. Must not be called more than count() times.
  std::int32_t next();
  /// Bytes that all values take, found without decoding them.
  std::size_t encoded_bytes() const;

 private:
  void begin_part();

  Bytes bytes_;
  std::size_t position_ = 0;
  std::uint64_t parts_ = 0;        // in a block ("miniblocks")
  std::uint64_t part_values_ = 0;  // in a part
  std::uint64_t count_ = 0;
  std::uint64_t given_ = 0;
  std::uint32_t value_ = 0;      // the last one, modulo 2^32 as the format defines sums
  std::uint32_t min_delta_ = 0;  // of the block
  Bytes widths_;                 // of the block's parts
  std::uint64_t part_ = 0;       // the next one in the block
  std::uint64_t left_ = 0;       // values of the current part
  int width_ = 0;
  Bytes part_bytes_;
  std::uint64_t bit_ = 0;
};

/// A dictionary page's values, which stay in the page: it must outlive them.
class Dictionary {
 public:
  /// Throws Error where `page` does not hold `count` strings.
  Dictionary(Bytes page, std::uint32_t count);
  std::size_t size() const { return places_.size(); }
  std::string_view operator[](std::size_t index) const;

 private:
  Bytes page_;
  std::vector<std::uint32_t> places_;  // four bytes a value: a page may hold very many empty ones
};

/// The strings of a data page, one after another.
class Values {
 public:
  virtual ~Values() = default;
  /// The next string, valid until the next call.
  virtual std::string_view next() = 0;
};

/// `count`: values of the page, nulls included. `dictionary`: nullptr where the column has none so
/// far. Both spans must outlive what is returned. Throws Error for an encoding strings do not have.
std::unique_ptr<Values> read_values(Encoding encoding, Bytes bytes, std::uint32_t count,
                                    const Dictionary* dictionary);

}  // namespace data::parquet
