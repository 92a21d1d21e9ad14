// Parquet files as chunks: a row group is handed out unread, for whoever takes it to read; one too
// large to be held by each thread is read here, a stretch of rows at a time.

#include <algorithm>
#include <cstring>
#include <utility>

#include "data/row_group.h"
#include "data/source.h"

namespace data {
namespace {

/// A row group with more content is not read by the thread that takes it: that needs up to four
/// times as much (pages as they are stored, a page, the dictionary and its index), which must stay
/// within a thread's 256 MiB.
constexpr std::uint64_t kMostContentBytes = std::uint64_t{3} << 24;
/// Rows of a chunk, however short they are.
constexpr std::size_t kMostEntries = std::size_t{1} << 12;

class ParquetSource : public ChunkSource {
 public:
  ParquetSource(const SourceContext& context, std::shared_ptr<const ParquetFile> file)
      : context_(context), file_(std::move(file)) {
    from_.input = context_.input;
  }

  void seek(const Position& position) override {
    from_ = position;
    while (group_ < file_->row_groups() && rows_until(group_) <= position.record) ++group_;
    done_bytes_ = bytes_before(position.record);
  }

  bool next(Chunk& chunk) override {
    shrink(chunk);
    while (chunk.entries.empty() && !chunk.rows) {
      if (long_.active()) {
        long_.next(chunk, *context_.options);
      } else if (rows_) {
        fill(chunk);
      } else if (group_ == file_->row_groups()) {
        return false;
      } else {
        take_up(chunk);
      }
    }
    const std::uint64_t done =
        bytes_before(rows_ ? rows_->behind().record : rows_until(group_ - 1));
    chunk.source_bytes = done - std::exchange(done_bytes_, done);
    return true;
  }

 private:
  std::int64_t rows_until(std::size_t group) const {
    return file_->first_row(group) + file_->rows_in(group);
  }
  /// The file's bytes spread over its rows, for progress.
  std::uint64_t bytes_before(std::int64_t row) const {
    const double share = static_cast<double>(row) / static_cast<double>(file_->rows());
    return row >= file_->rows()
               ? file_->file_bytes()
               : static_cast<std::uint64_t>(share * static_cast<double>(file_->file_bytes()));
  }

  /// The next row group: into the chunk as it is, or to be read here.
  void take_up(Chunk& chunk) {
    const std::uint64_t content = file_->content_bytes_in(group_);
    const bool small =
        content > 0 && std::max(content, file_->bytes_in(group_)) <= kMostContentBytes;
    auto rows = std::make_shared<RowGroup>(file_, group_++, from_, context_.path,
                                           small ? kMostContentBytes : UINT64_MAX);
    if (small) {
      chunk.rows = std::move(rows);
      chunk.size = static_cast<std::size_t>(content);
    } else {
      rows_ = std::move(rows);
    }
  }

  void fill(Chunk& chunk) {
    while (!long_.active() && chunk.size < kLineChunkBytes && chunk.entries.size() < kMostEntries) {
      if (add(chunk)) continue;
      rows_.reset();
      return;
    }
  }

  bool add(Chunk& chunk) {
    Chunk::Entry entry;
    std::string_view text;
    try {
      const auto row = rows_->next();
      if (!row) return false;
      text = *row;
    } catch (const BrokenRecord& broken) {
      entry.broken.emplace(broken);
    }
    entry.document.next = rows_->behind();
    if (!entry.broken && is_long_row(*rows_, text)) {
      if (is_accepted(*context_.options, text, {})) {
        // The text stays where it is until the next row is asked for.
        long_.begin(TextBuffer(), text, {}, rows_->place(), rows_->behind(), *context_.options);
        return true;
      }
      entry.broken.emplace(context_.path, rows_->behind().record, context_.options->refusal);
      text = {};
    }
    entry.begin = chunk.size;
    entry.size = text.size();
    chunk.buffer.reserve(std::max(kLineChunkBytes + kLongRecordBytes, chunk.size + text.size()));
    if (!text.empty()) std::memcpy(chunk.buffer.data() + chunk.size, text.data(), text.size());
    chunk.size += text.size();
    chunk.entries.push_back(std::move(entry));
    return true;
  }

  SourceContext context_;
  std::shared_ptr<const ParquetFile> file_;
  Position from_;
  std::size_t group_ = 0;           // the next one
  std::shared_ptr<RowGroup> rows_;  // being read here
  std::uint64_t done_bytes_ = 0;
  LongText long_;
};

}  // namespace

RowGroup::RowGroup(std::shared_ptr<const ParquetFile> file, std::size_t group, const Position& from,
                   std::string name, std::uint64_t most_bytes)
    : file_(std::move(file)),
      group_(group),
      from_(from),
      name_(std::move(name)),
      most_bytes_(most_bytes),
      row_(std::max(from.record, file_->first_row(group))),
      end_(file_->first_row(group) + file_->rows_in(group)) {}

/// Passes over the rows before the first one; those of a row group before a corrupt page have to be
/// decoded for it.
void RowGroup::open() {
  values_.emplace(file_->read(group_, most_bytes_));
  try {
    for (std::optional<std::string_view> passed; values_->row() < row_;) values_->next(passed);
  } catch (const base::Error& error) {
    corrupt_ = error.what();
  }
}

std::optional<std::string_view> RowGroup::next() {
  if (!values_) open();
  while (row_ < end_) {
    ++row_;
    std::optional<std::string_view> value;
    try {
      if (corrupt_.empty()) values_->next(value);
    } catch (const base::Error& error) {
      corrupt_ = error.what();  // of this row and all behind it
    }
    if (!corrupt_.empty()) throw BrokenRecord(name_, row_, corrupt_);
    if (value) return value;
  }
  return std::nullopt;
}

Position RowGroup::place() const {
  const std::int64_t row = row_ - 1;
  return {from_.input, row, 0, row == from_.record ? from_.text_offset : 0};
}

bool is_long_row(const RowGroup& rows, std::string_view text) {
  return text.size() > kLongRecordBytes || rows.place().text_offset != 0;
}

void Chunk::parse_rows(const OnDocument& on_document, const OnBroken& on_broken) {
  const std::shared_ptr<RowGroup> group = std::move(rows);  // its memory goes when this ends
  LongText long_text;
  for (;;) {
    std::optional<std::string_view> text;
    try {
      text = group->next();
      if (!text) return;
    } catch (const BrokenRecord& broken) {
      on_broken(broken, group->behind());
      continue;
    }
    if (!is_long_row(*group, *text)) {
      Document document;
      document.next = group->behind();
      hand_out(document, *text, /*checked=*/false, on_document, on_broken);
    } else if (!is_accepted(*options, *text, {})) {
      const Position next = group->behind();
      on_broken(BrokenRecord(path, next.record, options->refusal), next);
    } else {
      long_text.begin(TextBuffer(), *text, {}, group->place(), group->behind(), *options);
      while (long_text.active()) on_document(long_text.next(*options));
    }
  }
}

std::unique_ptr<ChunkSource> make_parquet_source(const SourceContext& context) {
  return std::make_unique<ParquetSource>(
      context, std::make_shared<const ParquetFile>(context.path, context.options->text_field));
}

}  // namespace data
