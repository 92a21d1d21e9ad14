// Parquet files: footer, then for each row group page after page, then value after value.

#include "data/parquet.h"

#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.h"
#include "data/file_ranges.h"
#include "data/page_codec.h"
#include "data/parquet_format.h"
#include "data/parquet_values.h"

namespace data {
namespace {

using parquet::Bytes;
using parquet::Codec;
using parquet::PageHeader;
using parquet::PageType;

constexpr std::size_t kMagicBytes = 4;
constexpr std::size_t kTailBytes = 8;  // the footer's length and the magic
// A header holds a page's smallest and largest value, which seldom are long.
constexpr std::size_t kHeaderBytes = std::size_t{1} << 14;
constexpr std::size_t kMaxHeaderBytes = std::size_t{1} << 26;

/// The most bytes that `compressed` bytes can stand for, so that a page cannot ask for memory that
/// it does not fill: lengths of repeats in each format, rounded up.
std::uint64_t most_content(Codec codec, std::uint64_t compressed) {
  constexpr std::uint64_t kSlack = 1024;
  switch (codec) {
    case Codec::kUncompressed:
      return compressed;
    case Codec::kSnappy:  // 64 bytes from 3
      return compressed * 22 + kSlack;
    case Codec::kLz4:  // 255 from 1
    case Codec::kLz4Raw:
      return compressed * 256 + kSlack;
    case Codec::kGzip:  // 258 from 2 bits
      return compressed * 1040 + kSlack;
    case Codec::kZstd:  // a block of 128 KiB from 4
      return compressed * 32768 + kSlack;
    default:  // brotli: 16 MiB from a few
      return std::numeric_limits<std::uint64_t>::max();
  }
}

std::string bounded_text(Bytes bytes) {
  std::string text;
  for (const std::byte b : bytes) {
    const char c = static_cast<char>(b);
    text += c >= ' ' && c <= '~' ? c : '.';
  }
  return text;
}

/// Finds and reads the footer; gives where it begins.
std::uint64_t read_footer_bytes(const RandomAccessFile& file, Buffer& buffer, Bytes& footer) {
  if (file.bytes() < kMagicBytes + kTailBytes) {
    base::fail("{}: {} bytes are too few for a Parquet file", file.name(), file.bytes());
  }
  std::byte head[kMagicBytes];
  std::byte tail[kTailBytes];
  file.read(0, head);
  file.read(file.bytes() - kTailBytes, tail);
  const std::string first = bounded_text(head);
  const std::string last = bounded_text(Bytes(tail).subspan(4));
  if (first == "PARE" || last == "PARE") {
    base::fail("{}: the file is encrypted; only plain Parquet files are read", file.name());
  }
  if (first != "PAR1" || last != "PAR1") {
    base::fail(
        "{}: not a complete Parquet file: expected 'PAR1' at its start and end, got '{}' and '{}'",
        file.name(), first, last);
  }
  std::uint32_t size = 0;
  std::memcpy(&size, tail, sizeof size);
  if (size > file.bytes() - kMagicBytes - kTailBytes) {
    base::fail("{}: expected a footer of {} bytes as its end says, the file has {}", file.name(),
               size, file.bytes());
  }
  const std::uint64_t begin = file.bytes() - kTailBytes - size;
  const auto bytes = buffer.resize(size);
  file.read(begin, bytes);
  footer = bytes;
  return begin;
}

}  // namespace

struct ParquetFile::State {
  State(const base::Path& path, const std::string& name) : file(path) {
    Buffer buffer;
    Bytes footer;
    try {
      const std::uint64_t data_end = read_footer_bytes(file, buffer, footer);
      column = parquet::read_footer(footer, data_end, file.name(), name);
    } catch (const base::Error& error) {
      const std::string what = error.what();
      if (what.starts_with(file.name())) throw;
      base::fail("{}: {}", file.name(), what);
    }
  }
  RandomAccessFile file;
  parquet::Column column;
};

/// Where reading a row group stands.
struct ParquetValues::State {
  State(std::shared_ptr<const ParquetFile::State> opened, std::size_t index, std::uint64_t most)
      : file(std::move(opened)),
        group(index),
        most_bytes(most),
        chunk(file->column.chunks.at(index)),
        max_definition(static_cast<std::uint32_t>(file->column.max_definition)),
        pages(file->file, chunk.offset, chunk.rows > 0 ? chunk.bytes : 0) {}

  std::optional<std::string_view> next_value();
  void next_page();
  PageHeader next_header();
  void check_crc(const PageHeader& header, Bytes bytes) const;
  Bytes decompress(Bytes bytes, std::size_t size, Buffer& to);
  void open_dictionary(const PageHeader& header, Bytes bytes);
  void open_v1(const PageHeader& header, Bytes bytes);
  void open_v2(const PageHeader& header, Bytes bytes);
  void open_values(const PageHeader& header, Bytes bytes);
  int level_bits() const { return std::bit_width(max_definition); }

  std::shared_ptr<const ParquetFile::State> file;
  std::size_t group;
  std::uint64_t most_bytes;  // of the dictionary and a page
  parquet::Chunk chunk;
  std::uint32_t max_definition;
  RangeReader pages;
  std::optional<parquet::Decompressor> decompressor;
  Buffer dictionary_page;
  std::optional<parquet::Dictionary> dictionary;
  std::uint64_t dictionary_bytes = 0;
  Buffer page;
  parquet::RunReader levels;
  std::unique_ptr<parquet::Values> values;
  std::uint64_t left_in_page = 0;  // rows
  std::int64_t row = 0;            // in the row group
  std::string fault;               // thrown once, thrown for ever
};

std::optional<std::string_view> ParquetValues::State::next_value() {
  while (left_in_page == 0) next_page();
  --left_in_page;
  if (max_definition > 0) {
    const std::uint32_t level = levels.next();
    if (level > max_definition) {
      base::fail("definition level {}, {} is the most", level, max_definition);
    }
    if (level < max_definition) return std::nullopt;
  }
  return values->next();
}

PageHeader ParquetValues::State::next_header() {
  PageHeader header;
  for (std::size_t most = kHeaderBytes;; most *= 4) {
    const Bytes bytes = pages.peek(most);
    const std::size_t size = parquet::read_page_header(bytes, header);
    if (size > 0) {
      pages.take(size);
      return header;
    }
    if (bytes.size() < most || most >= kMaxHeaderBytes) {
      base::fail("its pages end at byte {} before row {} of {}", pages.position() + bytes.size(),
                 row, chunk.rows);
    }
  }
}

void ParquetValues::State::next_page() {
  const PageHeader header = next_header();
  if (header.compressed_bytes > pages.left()) {
    base::fail("a page of {} bytes at byte {}; the row group's pages have {} left",
               header.compressed_bytes, pages.position(), pages.left());
  }
  if (header.uncompressed_bytes > most_bytes - dictionary_bytes) {
    base::fail("a page of {} bytes; the footer says that all of its pages have {}",
               header.uncompressed_bytes, chunk.content_bytes);
  }
  const Bytes bytes = pages.peek(header.compressed_bytes);
  pages.take(bytes.size());
  check_crc(header, bytes);
  if (header.type == PageType::kIndex) return;
  if (header.type == PageType::kDictionary) return open_dictionary(header, bytes);
  if (header.values > static_cast<std::uint64_t>(chunk.rows - row)) {
    base::fail("a page of {} rows where {} are left", header.values, chunk.rows - row);
  }
  if (header.values == 0) return;
  header.type == PageType::kData ? open_v1(header, bytes) : open_v2(header, bytes);
  left_in_page = header.values;
}

void ParquetValues::State::check_crc(const PageHeader& header, Bytes bytes) const {
  if (!header.has_crc) return;
  const auto crc = static_cast<std::uint32_t>(
      ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
  if (crc != header.crc) {
    base::fail("a page is corrupt: expected checksum {:08x}, got {:08x}", header.crc, crc);
  }
}

Bytes ParquetValues::State::decompress(Bytes bytes, std::size_t size, Buffer& to) {
  if (size > most_content(chunk.codec, bytes.size())) {
    base::fail("a page of {} bytes cannot hold the {} that its header says ({})", bytes.size(),
               size, name_of(chunk.codec));
  }
  if (!decompressor) decompressor.emplace(chunk.codec);
  const auto content = to.resize(size);
  decompressor->run(bytes, content);
  return content;
}

void ParquetValues::State::open_dictionary(const PageHeader& header, Bytes bytes) {
  if (dictionary) base::fail("a second dictionary page");
  if (header.encoding != parquet::Encoding::kPlain &&
      header.encoding != parquet::Encoding::kPlainDictionary) {
    base::fail("expected a plain dictionary, got {}", name_of(header.encoding));
  }
  const Bytes content = decompress(bytes, header.uncompressed_bytes, dictionary_page);
  dictionary.emplace(content, header.values);
  dictionary_bytes = content.size();
}

void ParquetValues::State::open_v1(const PageHeader& header, Bytes bytes) {
  Bytes content = chunk.codec == Codec::kUncompressed && bytes.size() == header.uncompressed_bytes
                      ? bytes
                      : decompress(bytes, header.uncompressed_bytes, page);
  if (max_definition > 0) {
    if (header.level_encoding != parquet::Encoding::kRle) {
      base::fail("expected definition levels in run lengths, got {}",
                 name_of(header.level_encoding));
    }
    std::uint32_t size = 0;
    if (content.size() >= sizeof size) std::memcpy(&size, content.data(), sizeof size);
    if (content.size() < sizeof size || size > content.size() - sizeof size) {
      base::fail("definition levels of {} bytes in a page of {}", size, content.size());
    }
    levels = parquet::RunReader(content.subspan(sizeof size, size), level_bits());
    content = content.subspan(sizeof size + size);
  }
  open_values(header, content);
}

void ParquetValues::State::open_v2(const PageHeader& header, Bytes bytes) {
  const std::uint64_t level_bytes =
      std::uint64_t{header.definition_bytes} + header.repetition_bytes;
  if (level_bytes > bytes.size() || level_bytes > header.uncompressed_bytes) {
    base::fail("levels of {} bytes in a page of {}", level_bytes, bytes.size());
  }
  levels = parquet::RunReader(bytes.subspan(header.repetition_bytes, header.definition_bytes),
                              level_bits());
  const Bytes packed = bytes.subspan(static_cast<std::size_t>(level_bytes));
  const std::size_t size = header.uncompressed_bytes - static_cast<std::size_t>(level_bytes);
  const bool plain = !header.compressed || chunk.codec == Codec::kUncompressed;
  if (plain && packed.size() != size) {
    base::fail("expected values of {} bytes as the page header says, got {}", size, packed.size());
  }
  // A page of nulls compresses to no bytes at all.
  open_values(header,
              plain || (size == 0 && packed.empty()) ? packed : decompress(packed, size, page));
}

void ParquetValues::State::open_values(const PageHeader& header, Bytes bytes) {
  values = parquet::read_values(header.encoding, bytes, header.values,
                                dictionary ? &*dictionary : nullptr);
}

ParquetValues::ParquetValues(std::unique_ptr<State> state) : state_(std::move(state)) {}
ParquetValues::~ParquetValues() = default;
ParquetValues::ParquetValues(ParquetValues&&) noexcept = default;
ParquetValues& ParquetValues::operator=(ParquetValues&&) noexcept = default;

bool ParquetValues::next(std::optional<std::string_view>& value) {
  State& s = *state_;
  if (s.fault.empty()) {
    if (s.row == s.chunk.rows) return false;
    try {
      value = s.next_value();
      ++s.row;
      return true;
    } catch (const base::Error& error) {
      s.fault = fmt::format("{}: row group {}, row {}: {}", s.file->file.name(), s.group, row(),
                            error.what());
    }
  }
  throw base::Error(s.fault);
}

std::int64_t ParquetValues::row() const { return state_->chunk.first_row + state_->row; }

ParquetFile::ParquetFile(const base::Path& path, const std::string& column)
    : state_(std::make_shared<const State>(path, column)) {}
ParquetFile::~ParquetFile() = default;
ParquetFile::ParquetFile(ParquetFile&&) noexcept = default;
ParquetFile& ParquetFile::operator=(ParquetFile&&) noexcept = default;

std::uint64_t ParquetFile::file_bytes() const { return state_->file.bytes(); }
std::int64_t ParquetFile::rows() const { return state_->column.rows; }
std::size_t ParquetFile::row_groups() const { return state_->column.chunks.size(); }
std::int64_t ParquetFile::rows_in(std::size_t row_group) const {
  return state_->column.chunks.at(row_group).rows;
}
std::int64_t ParquetFile::first_row(std::size_t row_group) const {
  return state_->column.chunks.at(row_group).first_row;
}
std::uint64_t ParquetFile::bytes_in(std::size_t row_group) const {
  return state_->column.chunks.at(row_group).bytes;
}
std::uint64_t ParquetFile::content_bytes_in(std::size_t row_group) const {
  return state_->column.chunks.at(row_group).content_bytes;
}
ParquetValues ParquetFile::read(std::size_t row_group, std::uint64_t most_bytes) const {
  return ParquetValues(std::make_unique<ParquetValues::State>(state_, row_group, most_bytes));
}

}  // namespace data
