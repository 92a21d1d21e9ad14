// Thrift's compact protocol: varints, zigzag, field and list headers, and skipping what is unknown.

#include "data/compact.h"

#include <algorithm>
#include <limits>

namespace data::compact {
namespace {

constexpr int kMaxDepth = 32;  // of structs in structs; Parquet's headers go to five

}  // namespace

void Reader::fail(const char* fault) {
  if (fault_ == nullptr) fault_ = fault;
}

std::uint8_t Reader::byte() {
  if (!ok()) return 0;
  if (position_ == bytes_.size()) {
    truncated_ = true;
    fail("it ends too soon");
    return 0;
  }
  return std::to_integer<std::uint8_t>(bytes_[position_++]);
}

std::uint64_t Reader::varint() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const std::uint8_t next = byte();
    value |= std::uint64_t{next & 0x7fU} << shift;
    if (next < 0x80) return value;
  }
  fail("a number takes more than 10 bytes");
  return 0;
}

std::int64_t Reader::zigzag() {
  const std::uint64_t value = varint();
  return static_cast<std::int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

void Reader::advance(std::uint64_t count) {
  if (!ok()) return;
  if (count > bytes_.size() - position_) {
    truncated_ = true;
    fail("it ends too soon");
    return;
  }
  position_ += static_cast<std::size_t>(count);
}

Field Reader::next_field(int& id) {
  const std::uint8_t header = byte();
  Field field{0, header & 0x0f};
  if (field.type == kStop) return {};  // after a fault, too
  const int delta = header >> 4;
  const std::int64_t next = delta != 0 ? id + delta : zigzag();
  if (next < 0 || next > std::numeric_limits<std::int16_t>::max()) fail("a field's id is wrong");
  if (!ok()) return {};
  field.id = id = static_cast<int>(next);
  return field;
}

Reader::List Reader::list_header() {
  const std::uint8_t header = byte();
  List list{header & 0x0f, std::uint64_t{header} >> 4};
  if (list.size == 15) list.size = varint();
  if (!ok()) return {};
  if (list.size > bytes_.size() - position_) {
    truncated_ = true;
    fail("a list is longer than what is there");
    return {};
  }
  return list;
}

void Reader::skip_elements(const List& list, int depth) {
  for (std::uint64_t i = 0; ok() && i < list.size; ++i) {
    // A bool in a list takes a byte, unlike one in a struct.
    if (list.type == kTrue || list.type == kFalse) {
      advance(1);
    } else {
      skip(list.type, depth);
    }
  }
}

void Reader::skip(int type, int depth) {
  if (depth > kMaxDepth) fail("structs are nested too deeply");
  if (!ok()) return;
  switch (type) {
    case kTrue:
    case kFalse:
      return;
    case kI8:
      return advance(1);
    case kI16:
    case kI32:
    case kI64:
      varint();
      return;
    case kDouble:
      return advance(8);
    case kBinary:
      return advance(varint());
    case kList:
    case kSet:
      return skip_elements(list_header(), depth + 1);
    case kMap: {
      const std::uint64_t size = varint();
      if (size == 0) return;
      const std::uint8_t types = byte();
      for (std::uint64_t i = 0; ok() && i < size; ++i) {
        skip_elements({types >> 4, 1}, depth + 1);
        skip_elements({types & 0x0f, 1}, depth + 1);
      }
      return;
    }
    case kStruct: {
      int id = 0;
      for (Field field = next_field(id); field.type != kStop; field = next_field(id)) {
        skip(field.type, depth + 1);
      }
      return;
    }
    case kUuid:
      return advance(16);
    default:
      return fail("a field has an unknown type");
  }
}

bool Reader::take(const Field& field, std::int32_t& to) {
  if (field.type != kI32) return false;
  const std::int64_t value = zigzag();
  if (value < std::numeric_limits<std::int32_t>::min() ||
      value > std::numeric_limits<std::int32_t>::max()) {
    fail("a number has more than 32 bits");
    return true;
  }
  to = static_cast<std::int32_t>(value);
  return true;
}

bool Reader::take(const Field& field, std::int64_t& to) {
  if (field.type != kI64) return false;
  to = zigzag();
  return true;
}

bool Reader::take(const Field& field, bool& to) {
  if (field.type != kTrue && field.type != kFalse) return false;
  to = field.type == kTrue;
  return true;
}

bool Reader::take(const Field& field, std::string& to) {
  if (field.type != kBinary) return false;
  const std::uint64_t size = varint();
  const std::size_t begin = position_;
  advance(size);
  if (ok()) to.assign(reinterpret_cast<const char*>(bytes_.data()) + begin, position_ - begin);
  return true;
}

}  // namespace data::compact
