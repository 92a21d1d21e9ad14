// Decoders of a page's encodings.

#include "data/parquet_values.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"

namespace data::parquet {
namespace {

std::uint64_t read_varint(Bytes bytes, std::size_t& position) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (position == bytes.size()) base::fail("the page ends inside a number");
    const auto next = std::to_integer<std::uint64_t>(bytes[position++]);
    value |= (next & 0x7f) << shift;
    if (next < 0x80) return value;
  }
  base::fail("a number takes more than 10 bytes");
}

/// `width` (0 to 32) bits from bit `bit` on, the lowest first.
std::uint32_t read_bits(Bytes bytes, std::uint64_t bit, int width) {
  const std::uint64_t end = bit + static_cast<std::uint64_t>(width);
  if (end > std::uint64_t{bytes.size()} * 8) base::fail("the page ends inside packed numbers");
  const auto from = static_cast<std::size_t>(bit / 8);
  std::uint64_t word = 0;
  if (from < bytes.size()) {
    std::memcpy(&word, bytes.data() + from, std::min<std::size_t>(8, bytes.size() - from));
  }
  const std::uint64_t mask = (std::uint64_t{1} << width) - 1;
  return static_cast<std::uint32_t>((word >> (bit % 8)) & mask);
}

std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The next `size` bytes of `bytes` from `position` on.
std::string_view take_text(Bytes bytes, std::size_t& position, std::uint64_t size) {
  if (size > kMaxValueBytes) {
    base::fail("a value of {} bytes; {} are the most", size, kMaxValueBytes);
  }
  if (size > bytes.size() - position) {
    base::fail("a value of {} bytes where the page has {} left", size, bytes.size() - position);
  }
  const std::string_view text = text_of(bytes.subspan(position, static_cast<std::size_t>(size)));
  position += text.size();
  return text;
}

std::string_view take_plain(Bytes bytes, std::size_t& position) {
  if (bytes.size() - position < 4) base::fail("the page ends before its values do");
  std::uint32_t size = 0;
  std::memcpy(&size, bytes.data() + position, 4);
  position += 4;
  return take_text(bytes, position, size);
}

/// Each value after its length.
class PlainValues final : public Values {
 public:
  explicit PlainValues(Bytes bytes) : bytes_(bytes) {}
  std::string_view next() override { return take_plain(bytes_, position_); }

 private:
  Bytes bytes_;
  std::size_t position_ = 0;
};

/// Indices into the dictionary; the first byte is their width.
class DictionaryValues final : public Values {
 public:
  DictionaryValues(Bytes bytes, const Dictionary& dictionary) : dictionary_(dictionary) {
    const int width = std::to_integer<int>(bytes[0]);
    if (width > 32) base::fail("dictionary indices of {} bits; 32 are the most", width);
    indices_ = RunReader(bytes.subspan(1), width);
  }
  std::string_view next() override {
    const std::uint32_t index = indices_.next();
    if (index >= dictionary_.size()) {
      base::fail("dictionary index {}, the dictionary has {} values", index, dictionary_.size());
    }
    return dictionary_[index];
  }

 private:
  const Dictionary& dictionary_;
  RunReader indices_;
};

/// A length that the page's count of values still covers.
std::uint64_t take_length(DeltaReader& lengths, std::uint64_t& given) {
  if (given == lengths.count()) base::fail("the page holds {} values, it needs more", given);
  ++given;
  const std::int32_t length = lengths.next();
  if (length < 0) base::fail("a value of {} bytes", length);
  return static_cast<std::uint64_t>(length);
}

/// All lengths, then all bytes.
class DeltaLengthValues final : public Values {
 public:
  DeltaLengthValues(Bytes bytes, std::uint32_t count)
      : lengths_(bytes, count), bytes_(bytes.subspan(lengths_.encoded_bytes())) {}
  std::string_view next() override {
    return take_text(bytes_, position_, take_length(lengths_, given_));
  }

 private:
  DeltaReader lengths_;
  Bytes bytes_;
  std::size_t position_ = 0;
  std::uint64_t given_ = 0;
};

/// How much of the value before each one begins with, then the rests as delta lengths.
class DeltaByteArrayValues final : public Values {
 public:
  DeltaByteArrayValues(Bytes bytes, std::uint32_t count)
      : prefixes_(bytes, count), suffixes_(bytes.subspan(prefixes_.encoded_bytes()), count) {}
  std::string_view next() override {
    const std::uint64_t prefix = take_length(prefixes_, given_);
    const std::string_view suffix = suffixes_.next();
    if (prefix > value_.size()) {
      base::fail("a value repeats {} bytes of one of {}", prefix, value_.size());
    }
    if (prefix + suffix.size() > kMaxValueBytes) {
      base::fail("a value of {} bytes; {} are the most", prefix + suffix.size(), kMaxValueBytes);
    }
    value_.resize(static_cast<std::size_t>(prefix));
    value_ += suffix;
    return value_;
  }

 private:
  DeltaReader prefixes_;
  DeltaLengthValues suffixes_;
  std::string value_;
  std::uint64_t given_ = 0;
};

/// Of a page of nothing but nulls, whose encoding then has no bytes.
class NoValues final : public Values {
 public:
  std::string_view next() override { base::fail("the page holds no values, it needs some"); }
};

}  // namespace

void RunReader::begin_run() {
  std::size_t position = 0;
  const std::uint64_t header = read_varint(bytes_, position);
  if (header > UINT32_MAX) base::fail("a run of {} values", header >> 1);
  packed_ = (header & 1) != 0;
  const auto width = static_cast<std::uint64_t>(width_);
  // Old writers left out bytes at the end of the last packed run that no value needs; read_bits
  // sees to those that one does.
  const std::uint64_t wanted = packed_ ? (header >> 1) * width : (width + 7) / 8;
  const auto size =
      static_cast<std::size_t>(std::min<std::uint64_t>(wanted, bytes_.size() - position));
  const Bytes payload = bytes_.subspan(position, size);
  if (packed_) {
    left_ = (header >> 1) * 8;
    packed_bytes_ = payload;
    bit_ = 0;
  } else {
    if (size < wanted) base::fail("the page ends inside a run");
    left_ = header >> 1;
    value_ = 0;
    if (size > 0) std::memcpy(&value_, payload.data(), size);
  }
  bytes_ = bytes_.subspan(position + size);
}

std::uint32_t RunReader::next() {
  while (left_ == 0) begin_run();  // an empty run takes bytes, so this ends
  --left_;
  if (!packed_) return value_;
  const std::uint32_t value = read_bits(packed_bytes_, bit_, width_);
  bit_ += static_cast<std::uint64_t>(width_);
  return value;
}

DeltaReader::DeltaReader(Bytes bytes, std::uint64_t most) : bytes_(bytes) {
  const std::uint64_t block_values = read_varint(bytes_, position_);
  parts_ = read_varint(bytes_, position_);
  count_ = read_varint(bytes_, position_);
  const std::uint64_t first = read_varint(bytes_, position_);
  value_ = static_cast<std::uint32_t>((first >> 1) ^ (~(first & 1) + 1));  // zigzag
  if (block_values == 0 || block_values % 128 != 0 || block_values > INT32_MAX || parts_ == 0 ||
      block_values % parts_ != 0 || block_values / parts_ % 32 != 0) {
    base::fail("delta blocks of {} values in {} parts", block_values, parts_);
  }
  if (count_ > most) base::fail("{} lengths in a page of {} values", count_, most);
  part_values_ = block_values / parts_;
  part_ = parts_;  // the first block's header is still to be read
}

void DeltaReader::begin_part() {
  if (part_ == parts_) {
    const std::uint64_t delta = read_varint(bytes_, position_);
    min_delta_ = static_cast<std::uint32_t>((delta >> 1) ^ (~(delta & 1) + 1));
    if (parts_ > bytes_.size() - position_) base::fail("the page ends inside a delta block");
    widths_ = bytes_.subspan(position_, static_cast<std::size_t>(parts_));
    position_ += widths_.size();
    part_ = 0;
  }
  width_ = std::to_integer<int>(widths_[static_cast<std::size_t>(part_++)]);
  if (width_ > 32) base::fail("deltas of {} bits; 32 are the most", width_);
  const std::uint64_t size = static_cast<std::uint64_t>(width_) * part_values_ / 8;
  if (size > bytes_.size() - position_) base::fail("the page ends inside a delta block");
  part_bytes_ = bytes_.subspan(position_, static_cast<std::size_t>(size));
  position_ += part_bytes_.size();
  bit_ = 0;
  left_ = part_values_;
}

std::int32_t DeltaReader::next() {
  if (given_++ > 0) {
    if (left_ == 0) begin_part();
    --left_;
    value_ += min_delta_ + read_bits(part_bytes_, bit_, width_);
    bit_ += static_cast<std::uint64_t>(width_);
  }
  return static_cast<std::int32_t>(value_);
}

std::size_t DeltaReader::encoded_bytes() const {
  DeltaReader ahead = *this;
  for (std::uint64_t given = 1; given < count_; given += part_values_) ahead.begin_part();
  return ahead.position_;
}

Dictionary::Dictionary(Bytes page, std::uint32_t count) : page_(page) {
  if (count > page.size() / 4) {
    base::fail("a dictionary of {} values in {} bytes", count, page.size());
  }
  places_.reserve(count);
  std::size_t position = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    places_.push_back(static_cast<std::uint32_t>(position));
    take_plain(page, position);
  }
}

std::string_view Dictionary::operator[](std::size_t index) const {
  std::size_t position = places_[index];
  return take_plain(page_, position);
}

std::unique_ptr<Values> read_values(Encoding encoding, Bytes bytes, std::uint32_t count,
                                    const Dictionary* dictionary) {
  const bool indices =
      encoding == Encoding::kPlainDictionary || encoding == Encoding::kRleDictionary;
  const bool lengths =
      encoding == Encoding::kDeltaLengthByteArray || encoding == Encoding::kDeltaByteArray;
  if (encoding != Encoding::kPlain && !indices && !lengths) {
    base::fail("expected values plain, by dictionary or as delta (length) byte arrays, got {}",
               name_of(encoding));
  }
  if (bytes.empty()) return std::make_unique<NoValues>();
  if (encoding == Encoding::kPlain) return std::make_unique<PlainValues>(bytes);
  if (encoding == Encoding::kDeltaByteArray) {
    return std::make_unique<DeltaByteArrayValues>(bytes, count);
  }
  if (lengths) return std::make_unique<DeltaLengthValues>(bytes, count);
  if (dictionary == nullptr) base::fail("values by dictionary before the dictionary");
  return std::make_unique<DictionaryValues>(bytes, *dictionary);
}

}  // namespace data::parquet
