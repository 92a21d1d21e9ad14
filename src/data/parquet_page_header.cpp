// Page headers, and the names of what they mention.

#include <array>
#include <optional>

#include "base/error.h"
#include "data/compact.h"
#include "data/parquet_format.h"

namespace data::parquet {
namespace {

using compact::Field;
using compact::Reader;

/// Fields that a page's three kinds of header share, by their ids; 0: it has no such field.
struct PageFields {
  int encoding = 2;
  int level_encoding = 0;
  int definition_bytes = 0;
  int repetition_bytes = 0;
  int compressed = 0;
};

/// A page header with the sizes as they stand in the file.
struct RawPage {
  std::int32_t type = -1;
  std::int32_t uncompressed_bytes = -1;
  std::int32_t compressed_bytes = -1;
  std::optional<std::int32_t> crc;
  std::int32_t values = -1;
  std::int32_t encoding = -1;
  std::int32_t level_encoding = static_cast<std::int32_t>(Encoding::kRle);
  std::int32_t definition_bytes = 0;
  std::int32_t repetition_bytes = 0;
  bool compressed = true;
};

bool take_kind(Reader& in, const Field& outer, const PageFields& ids, RawPage& page) {
  return in.take_struct(outer, [&](const Field& field) {
    if (field.id == 1) return in.take(field, page.values);
    if (field.id == ids.encoding) return in.take(field, page.encoding);
    if (field.id == ids.level_encoding) return in.take(field, page.level_encoding);
    if (field.id == ids.definition_bytes) return in.take(field, page.definition_bytes);
    if (field.id == ids.repetition_bytes) return in.take(field, page.repetition_bytes);
    if (field.id == ids.compressed) return in.take(field, page.compressed);
    return false;
  });
}

RawPage read_raw_page(Reader& in) {
  RawPage page;
  in.read_struct([&](const Field& field) {
    switch (field.id) {
      case 1:
        return in.take(field, page.type);
      case 2:
        return in.take(field, page.uncompressed_bytes);
      case 3:
        return in.take(field, page.compressed_bytes);
      case 4: {
        std::int32_t crc = 0;
        const bool taken = in.take(field, crc);
        if (taken) page.crc = crc;
        return taken;
      }
      case 5:
        return take_kind(in, field, {.level_encoding = 3}, page);
      case 7:
        return take_kind(in, field, {}, page);
      case 8:
        return take_kind(
            in, field,
            {.encoding = 4, .definition_bytes = 5, .repetition_bytes = 6, .compressed = 7}, page);
      default:
        return false;
    }
  });
  return page;
}

}  // namespace

std::string name_of(Codec codec) {
  constexpr std::array kNames = {"no compression", "snappy", "gzip", "lzo",
                                 "brotli",         "lz4",    "zstd", "lz4 raw"};
  const auto index = static_cast<std::size_t>(codec);
  return index < kNames.size() ? kNames[index] : fmt::format("codec {}", index);
}

std::string name_of(Encoding encoding) {
  constexpr std::array kNames = {
      "plain",      "encoding 1",          "plain dictionary",        "run lengths",
      "bit packed", "delta binary packed", "delta length byte array", "delta byte array",
      "dictionary", "byte stream split"};
  const auto index = static_cast<std::size_t>(encoding);
  return index < kNames.size() ? kNames[index] : fmt::format("encoding {}", index);
}

std::size_t read_page_header(std::span<const std::byte> bytes, PageHeader& header) {
  Reader in(bytes);
  const RawPage raw = read_raw_page(in);
  if (in.truncated()) return 0;
  if (!in.ok()) base::fail("corrupt page header: {}", in.fault());
  if (raw.type < 0 || raw.type > 3) base::fail("corrupt page header: page type {}", raw.type);
  if (raw.uncompressed_bytes < 0 || raw.compressed_bytes < 0 || raw.definition_bytes < 0 ||
      raw.repetition_bytes < 0) {
    base::fail("corrupt page header: a size is negative or missing");
  }
  header.type = static_cast<PageType>(raw.type);
  const bool index = header.type == PageType::kIndex;
  const auto is_byte = [](std::int32_t value) { return value >= 0 && value <= 255; };
  if (!index && (raw.values < 0 || !is_byte(raw.encoding) || !is_byte(raw.level_encoding))) {
    base::fail("corrupt page header: the number of values or their encoding is missing");
  }
  header.uncompressed_bytes = static_cast<std::uint32_t>(raw.uncompressed_bytes);
  header.compressed_bytes = static_cast<std::uint32_t>(raw.compressed_bytes);
  header.has_crc = raw.crc.has_value();
  header.crc = static_cast<std::uint32_t>(raw.crc.value_or(0));
  header.values = static_cast<std::uint32_t>(raw.values);
  header.encoding = static_cast<Encoding>(raw.encoding);
  header.level_encoding = static_cast<Encoding>(raw.level_encoding);
  header.definition_bytes = static_cast<std::uint32_t>(raw.definition_bytes);
  header.repetition_bytes = static_cast<std::uint32_t>(raw.repetition_bytes);
  header.compressed = raw.compressed;
  return in.position();
}

}  // namespace data::parquet
