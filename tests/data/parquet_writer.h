#pragma once
/// Parquet files byte by byte, right or wrong as a test wants them.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace data_test {

inline std::string little_endian(std::uint32_t value) {
  return {reinterpret_cast<const char*>(&value), 4};
}

/// A string as a plain page holds it.
inline std::string plain(std::string_view text) {
  return little_endian(static_cast<std::uint32_t>(text.size())) + std::string(text);
}

/// A v1 page's content of a column that may hold null: definition levels, then the strings that are
/// there, plain. `values`: a multiple of 8 of them.
inline std::string optional_page(const std::vector<std::optional<std::string>>& values) {
  std::string levels(1, static_cast<char>(values.size() / 8 << 1 | 1));  // one packed run, below 64
  std::string strings;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % 8 == 0) levels += '\0';
    if (!values[i]) continue;
    levels.back() = static_cast<char>(levels.back() | 1 << i % 8);
    strings += plain(*values[i]);
  }
  return little_endian(static_cast<std::uint32_t>(levels.size())) + levels + strings;
}

/// A struct of Thrift's compact protocol, field after field in ascending order of ids.
class Thrift {
 public:
  static std::string varint(std::uint64_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
    return bytes + static_cast<char>(value);
  }
  static std::string zigzag(std::int64_t value) {
    return varint((static_cast<std::uint64_t>(value) << 1) ^
                  static_cast<std::uint64_t>(value >> 63));
  }

  Thrift& raw(int id, int type, const std::string& bytes) {
    bytes_ += static_cast<char>((id - last_) << 4 | type);
    bytes_ += bytes;
    last_ = id;
    return *this;
  }
  Thrift& i32(int id, std::int64_t value) { return raw(id, 5, zigzag(value)); }
  Thrift& i64(int id, std::int64_t value) { return raw(id, 6, zigzag(value)); }
  Thrift& boolean(int id, bool value) { return raw(id, value ? 1 : 2, ""); }
  Thrift& text(int id, std::string_view value) {
    return raw(id, 8, varint(value.size()) + std::string(value));
  }
  Thrift& structure(int id, const Thrift& value) { return raw(id, 12, value.bytes()); }
  Thrift& structures(int id, const std::vector<Thrift>& values) {
    std::string bytes = values.size() < 15
                            ? std::string(1, static_cast<char>(values.size() << 4 | 12))
                            : "\xfc" + varint(values.size());
    for (const Thrift& value : values) bytes += value.bytes();
    return raw(id, 9, bytes);
  }
  std::string bytes() const { return bytes_ + '\0'; }

 private:
  std::string bytes_;
  int last_ = 0;
};

/// A node of the schema. `type` 6 is BYTE_ARRAY, -1 a group; `repetition` 0 required, 1 optional,
/// 2 repeated.
inline Thrift schema_node(std::string_view name, int type, int repetition, int children = 0) {
  Thrift node;
  if (type >= 0) node.i32(1, type);
  node.i32(3, repetition).text(4, name);
  if (type < 0) node.i32(5, children);
  return node;
}

/// A file of one column "text", page by page.
class ParquetWriter {
 public:
  /// `encoding` as in parquet.thrift: 0 plain, 5 to 7 deltas, 8 dictionary.
  void data_page(std::int64_t count, const std::string& payload, int encoding = 0,
                 std::optional<std::int64_t> uncompressed = {}) {
    page(0, payload, uncompressed, 5,
         Thrift().i32(1, count).i32(2, encoding).i32(3, 3).i32(4, 3).structure(5, statistics_));
  }
  void dictionary_page(std::int64_t count, const std::string& payload) {
    page(2, payload, {}, 7, Thrift().i32(1, count).i32(2, 0));
  }
  /// Any header and payload.
  void append(const std::string& more) { pages_ += more; }
  void page(int page_type, const std::string& payload, std::optional<std::int64_t> uncompressed,
            int kind, const Thrift& header) {
    const auto size = static_cast<std::int64_t>(payload.size());
    append(Thrift()
               .i32(1, page_type)
               .i32(2, uncompressed.value_or(size))
               .i32(3, size)
               .structure(kind, header)
               .bytes() +
           payload);
  }
  /// Ends a row group with the pages since the last one.
  void end_group(std::int64_t rows) {
    const auto size = static_cast<std::int64_t>(pages_.size());
    Thrift metadata;
    metadata.i32(1, type).i32(4, codec).i64(5, values.value_or(rows));
    metadata.i64(6, content_bytes.value_or(size)).i64(7, bytes.value_or(size));
    metadata.i64(9, offset.value_or(position()));
    Thrift chunk;
    if (!chunk_file.empty()) chunk.text(1, chunk_file);
    chunk.i64(2, 0).structure(3, metadata);
    if (encrypted) chunk.structure(8, Thrift());
    groups_.push_back(
        Thrift().structures(1, std::vector<Thrift>(columns_in_group, chunk)).i64(3, rows));
    rows_ += rows;
    content_ += pages_;
    pages_.clear();
  }
  /// What follows the pages.
  std::string footer() const {
    const std::string metadata = Thrift()
                                     .i32(1, 2)
                                     .structures(2, schema)
                                     .i64(3, total_rows.value_or(rows_))
                                     .structures(4, groups_)
                                     .bytes();
    return metadata + little_endian(static_cast<std::uint32_t>(metadata.size())) + "PAR1";
  }
  std::string file() const { return "PAR1" + content_ + footer(); }
  /// The pages so far, without the file's magic.
  const std::string& content() const { return content_; }

  std::vector<Thrift> schema = {schema_node("root", -1, 0, 1), schema_node("text", 6, 0)};
  std::int64_t base = 4;  ///< where content() begins in the file
  std::int32_t codec = 0;
  std::int32_t type = 6;
  bool encrypted = false;
  std::string chunk_file;
  std::size_t columns_in_group = 1;
  std::optional<std::int64_t> values, bytes, content_bytes, offset, total_rows;
  void set_statistics(const std::string& largest) { statistics_ = Thrift().text(1, largest); }

 private:
  std::int64_t position() const { return base + static_cast<std::int64_t>(content_.size()); }

  std::string content_;
  std::string pages_;
  std::vector<Thrift> groups_;
  std::int64_t rows_ = 0;
  Thrift statistics_;
};

}  // namespace data_test
