#pragma once
/// Thrift's compact protocol, as far as Parquet's headers need it: structs of numbers, strings,
/// lists and structs, read from bytes that nobody vouches for.
///
/// Law: the first fault sticks and nothing is read after it, so that callers check ok() once, at
/// the end. Loops end with the bytes: whatever a count says, an element takes at least one byte.
/// Source: Apache Thrift, doc/specs/thrift-compact-protocol.md.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace data::compact {

enum Type : std::uint8_t {
  kStop = 0,
  kTrue = 1,
  kFalse = 2,
  kI8 = 3,
  kI16 = 4,
  kI32 = 5,
  kI64 = 6,
  kDouble = 7,
  kBinary = 8,
  kList = 9,
  kSet = 10,
  kMap = 11,
  kStruct = 12,
  kUuid = 13,
};

/// What precedes a field's value. A bool is its type and has no value.
struct Field {
  int id = 0;
  int type = kStop;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool ok() const { return fault_ == nullptr; }
  /// What is wrong; nullptr where nothing is.
  const char* fault() const { return fault_; }
  /// The fault is that the bytes end: with more of them it may be well.
  bool truncated() const { return truncated_; }
  /// Bytes read so far.
  std::size_t position() const { return position_; }

  /// Reads a struct: visit(field) consumes the field's value and gives true, or gives false and the
  /// value is skipped.
  template <class F>
  void read_struct(F&& visit) {
    int id = 0;
    for (Field field = next_field(id); field.type != kStop; field = next_field(id)) {
      if (!visit(field)) skip(field.type, 0);
    }
  }

  /// Each of these reads the field's value if it has the type wanted, and gives whether it had.
  bool take(const Field& field, std::int32_t& to);
  bool take(const Field& field, std::int64_t& to);
  bool take(const Field& field, bool& to);
  bool take(const Field& field, std::string& to);

  /// The same for a struct inside, read by `visit` as by read_struct.
  template <class F>
  bool take_struct(const Field& field, F&& visit) {
    if (field.type != kStruct) return false;
    read_struct(visit);
    return true;
  }

  /// The same for a list of structs: read_element() reads each, with read_struct.
  template <class F>
  bool take_structs(const Field& field, F&& read_element) {
    if (field.type != kList) return false;
    const List list = list_header();
    if (ok() && list.type != kStruct && list.size > 0) fail("a list is not one of structs");
    for (std::uint64_t i = 0; ok() && i < list.size; ++i) read_element();
    return true;
  }

 private:
  struct List {
    int type = kStop;
    std::uint64_t size = 0;
  };

  void fail(const char* fault);
  std::uint8_t byte();
  std::uint64_t varint();
  std::int64_t zigzag();
  void advance(std::uint64_t count);
  Field next_field(int& id);
  List list_header();
  void skip(int type, int depth);
  void skip_elements(const List& list, int depth);

  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
  const char* fault_ = nullptr;
  bool truncated_ = false;
};

}  // namespace data::compact
