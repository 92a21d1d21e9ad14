// Sources over compressed files and over Parquet.

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "data/bytes.h"
#include "data/parquet.h"
#include "data/source.h"

namespace data {
namespace {

class DecompressedStream : public ByteStream {
 public:
  explicit DecompressedStream(const std::string& path) : path_(path), bytes_(open_bytes(path)) {}

  std::size_t read(std::span<char> to) override {
    std::size_t got = 0;
    while (got < to.size()) {
      const std::size_t count = read_some(to.subspan(got));
      if (count == 0) break;
      got += count;
    }
    return got;
  }
  /// Reads what it passes over: nothing says where it lies.
  void skip(std::uint64_t bytes) override {
    std::vector<char> passed(std::size_t{1} << 20);
    while (bytes > 0) {
      const std::size_t count =
          read_some(std::span(passed).first(std::min<std::uint64_t>(bytes, passed.size())));
      if (count == 0) base::fail("{}: ends before the place to go on from", display_name(path_));
      bytes -= count;
    }
  }
  std::uint64_t source_bytes() const override { return bytes_->source_bytes(); }

 private:
  /// What is corrupt ends the input; so does the rest of the block before it.
  std::size_t read_some(std::span<char> to) {
    try {
      return bytes_->read(std::as_writable_bytes(to));
    } catch (const base::Error& error) {
      throw BrokenRecord(display_name(path_), 0, error.what());
    }
  }

  std::string path_;
  std::unique_ptr<ByteReader> bytes_;
};

/// The rows of a Parquet file's column; a null is no document, as an empty line of JSONL is none.
class ParquetRows : public RecordSource {
 public:
  ParquetRows(const std::string& path, const std::string& column)
      : name_(display_name(path)), file_(path, column) {}

  std::optional<std::string_view> next() override {
    while (reach_row()) {
      if (const auto value = take_row()) return value;
    }
    return std::nullopt;
  }

  /// Reads what it passes over: which rows hold null is known only then.
  void skip(std::int64_t count) override {
    for (; count > 0; --count) {
      try {
        if (!next()) return;
      } catch (const BrokenRecord&) {  // rejected when it was read the first time
      }
    }
  }
  std::uint64_t source_bytes() const override {
    if (group_ == file_.row_groups()) return file_.file_bytes();
    const std::int64_t rows = std::max<std::int64_t>(file_.rows_in(group_), 1);
    const std::int64_t done = begun_ ? rows - left_ : 0;
    return done_bytes_ + file_.bytes_in(group_) * static_cast<std::uint64_t>(done) /
                             static_cast<std::uint64_t>(rows);
  }

 private:
  /// Goes to the row group of the next row; false behind the last.
  bool reach_row() {
    while (left_ == 0) {
      if (begun_) done_bytes_ += file_.bytes_in(group_++);
      begun_ = false;
      values_.reset();
      corrupt_.clear();
      if (group_ == file_.row_groups()) return false;
      begun_ = true;
      left_ = file_.rows_in(group_);
      try {
        values_.emplace(file_.read(group_));
      } catch (const base::Error& error) {
        corrupt_ = error.what();
      }
    }
    return true;
  }

  /// The next row's text; nothing for a null.
  std::optional<std::string_view> take_row() {
    --left_;
    const std::int64_t row = ++row_;
    if (!corrupt_.empty()) throw BrokenRecord(name_, row, corrupt_);
    std::optional<std::string_view> value;
    try {
      if (!values_->next(value)) base::fail("the row group ends before its rows do");
    } catch (const base::Error& error) {
      corrupt_ = error.what();  // of this row and all behind it in the row group
      throw BrokenRecord(name_, row, corrupt_);
    }
    return value;
  }

  std::string name_;
  ParquetFile file_;
  std::size_t group_ = 0;
  std::int64_t row_ = 0;   // rows given so far
  std::int64_t left_ = 0;  // of the row group being read
  bool begun_ = false;     // with it
  std::optional<ParquetValues> values_;
  std::string corrupt_;  // why the rest of the row group cannot be read; empty: it can
  std::uint64_t done_bytes_ = 0;
};

}  // namespace

std::unique_ptr<ByteStream> open_decompressed(const std::string& path) {
  return std::make_unique<DecompressedStream>(path);
}

std::unique_ptr<RecordSource> open_parquet(const std::string& path, const std::string& column) {
  return std::make_unique<ParquetRows>(path, column);
}

}  // namespace data
