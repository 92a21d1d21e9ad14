// Text files and JSON lines as chunks. What comes out does not depend on how bytes arrive.

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "data/json_text.h"
#include "data/source.h"

namespace data {
namespace {

constexpr std::size_t kGrowBytes = std::size_t{1} << 22;  // of a long line, at a time
bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

/// `at` moved back to the beginning of a character, if one is near.
std::size_t character_start(std::string_view text, std::size_t at) {
  std::size_t start = at;
  while (start > 1 && at - start < 3 && continues_character(text[start])) --start;
  return continues_character(text[start]) ? at : start;
}

/// One text, a document from end to end or a piece of a long one.
class TextSource : public ChunkSource {
 public:
  TextSource(const SourceContext& context, std::unique_ptr<ByteStream> stream)
      : context_(context), stream_(std::move(stream)) {}

  void seek(const Position& position) override {
    stream_->skip(position.text_offset);
    done_ = position.text_offset;
  }

  bool next(Chunk& chunk) override {
    if (ended_) return false;
    const std::uint64_t before = stream_->source_bytes();
    const std::size_t length = fill(chunk);
    const bool starts = done_ == 0;
    ended_ = at_end_ && length == chunk.size;
    rest_.assign(chunk.buffer.data() + length, chunk.size - length);
    chunk.size = length;
    done_ += length;
    Chunk::Entry entry;
    entry.size = length;
    entry.document.next =
        ended_ ? Position{context_.input + 1, 0, 0, 0} : Position{context_.input, 0, 0, done_};
    entry.document.starts = starts;
    entry.document.ends = ended_;
    const bool whole = starts && ended_;
    if (!whole && !scanned_) scan();
    entry.checked = !whole;
    entry.document.hash = hash_;
    if (!whole && refused_) {
      entry.document.next = {context_.input + 1, 0, 0, 0};
      entry.broken.emplace(context_.path, 1, context_.options->refusal);
      ended_ = true;
    }
    chunk.entries.push_back(std::move(entry));
    chunk.source_bytes = stream_->source_bytes() - before;
    return true;
  }

 private:
  /// Reads until the next piece is known; returns its length.
  std::size_t fill(Chunk& chunk) {
    shrink(chunk);
    chunk.buffer.reserve(std::max(context_.options->pieces.bytes + 1, rest_.size()));
    if (!rest_.empty()) std::memcpy(chunk.buffer.data(), rest_.data(), rest_.size());
    chunk.size = rest_.size();
    std::size_t seen = 0;
    for (;;) {
      const std::string_view text(chunk.buffer.data(), chunk.size);
      const std::size_t length = piece_length(context_.options->pieces, text, at_end_, seen);
      if (length != 0 || (at_end_ && chunk.size == 0)) return length;
      chunk.buffer.reserve(seen + 1);
      const std::size_t asked = seen + 1 - chunk.size;
      const std::size_t got = stream_->read({chunk.buffer.data() + chunk.size, asked});
      chunk.size += got;
      at_end_ = got < asked;
    }
  }

  /// Looks at the whole of a long text before its first piece is handed out.
  void scan() {
    scanned_ = true;
    const ReaderOptions& options = *context_.options;
    if (!options.accepts && !options.hashes) return;
    if (!context_.can_reread) {
      if (!options.accepts) return;  // a lone long text has no hash: it is never a duplicate
      base::fail("{} cannot be checked before it is used; put it in a file", context_.path);
    }
    const auto stream = open_stream(context_.path);
    TextBuffer block;
    block.reserve(base::kHashBlockBytes + 4);
    std::size_t held = 0;  // bytes of a character that goes on in the next block
    for (bool more = true; more && !refused_;) {
      const std::size_t got = stream->read({block.data() + held, base::kHashBlockBytes});
      more = got == base::kHashBlockBytes;
      if (got > 0 && options.hashes) {
        hash_ = base::hash128({block.data() + held, got}, hash_);
      }
      const std::string_view text(block.data(), held + got);
      const std::size_t cut = more ? character_start(text, text.size() - 1) : text.size();
      refused_ = options.accepts && !options.accepts(text.substr(0, cut));
      held = text.size() - cut;
      std::memmove(block.data(), text.data() + cut, held);
    }
  }

  SourceContext context_;
  std::unique_ptr<ByteStream> stream_;
  std::string rest_;  // read, but of the next piece
  std::uint64_t done_ = 0;
  bool at_end_ = false;  // of the stream
  bool ended_ = false;
  bool scanned_ = false;
  bool refused_ = false;
  base::Hash128 hash_;
};

/// Lines of JSON: many short ones a chunk, parsed by whoever takes it; a long one is parsed here.
class LineSource : public ChunkSource {
 public:
  LineSource(const SourceContext& context, std::unique_ptr<ByteStream> stream)
      : context_(context), stream_(std::move(stream)) {
    at_.input = context_.input;
  }

  void seek(const Position& position) override {
    stream_->skip(position.offset);
    at_ = position;
    at_.text_offset = 0;
    resume_at_ = position.text_offset;
  }

  bool next(Chunk& chunk) override {
    const std::uint64_t before = stream_->source_bytes();
    if (!long_.active() && !read(chunk)) return false;
    if (long_.active()) long_.next(chunk, *context_.options);
    chunk.source_bytes = stream_->source_bytes() - before;
    return true;
  }

 private:
  bool read(Chunk& chunk) {
    shrink(chunk);
    chunk.buffer.reserve(std::max(kLineChunkBytes, rest_.size()));
    if (!rest_.empty()) std::memcpy(chunk.buffer.data(), rest_.data(), rest_.size());
    chunk.size = rest_.size();
    rest_.clear();
    if (!at_end_ && chunk.size < kLineChunkBytes) more(chunk, kLineChunkBytes - chunk.size);
    if (chunk.size == 0) return false;
    const auto* last = static_cast<const char*>(::memrchr(chunk.buffer.data(), '\n', chunk.size));
    // Going on inside a long line, nothing else may be taken for it.
    if (last == nullptr || resume_at_ != 0) return read_long(chunk);
    take(chunk, static_cast<std::size_t>(last + 1 - chunk.buffer.data()));
    chunk.lines = true;
    chunk.begin = at_;
    const auto* data = chunk.buffer.data();
    at_.record += std::count(data, data + chunk.size, '\n');
    at_.offset += chunk.size;
    return true;
  }

  /// The buffer's first line, which may end far beyond it.
  bool read_long(Chunk& chunk) {
    std::size_t searched = 0;
    const char* newline = nullptr;
    for (;;) {
      newline = static_cast<const char*>(
          std::memchr(chunk.buffer.data() + searched, '\n', chunk.size - searched));
      if (newline != nullptr || at_end_) break;
      searched = chunk.size;
      if (searched > kMaxLineBytes) return pass_over(chunk);
      more(chunk, std::min(kGrowBytes, std::max(searched, kLineChunkBytes)));
    }
    take(chunk, newline != nullptr ? static_cast<std::size_t>(newline + 1 - chunk.buffer.data())
                                   : chunk.size);
    const Position first = at_;
    ++at_.record;
    at_.offset += chunk.size;
    if (chunk.size > kMaxLineBytes + 1) {
      refuse(chunk, fmt::format("the line is longer than {} bytes", kMaxLineBytes));
    } else if (chunk.size <= kLongRecordBytes && resume_at_ == 0) {
      chunk.lines = true;
      chunk.begin = first;
    } else {
      parse(chunk, first);
    }
    return true;
  }

  void parse(Chunk& chunk, const Position& first) {
    std::string_view text;
    const std::string_view line(chunk.buffer.data(), chunk.size);
    if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) return;
    const std::string wrong = find_text({chunk.buffer.data(), chunk.size}, *context_.field, text);
    const ReaderOptions& options = *context_.options;
    if (!wrong.empty()) {
      refuse(chunk, wrong);
    } else if (!accepts(options, text)) {
      refuse(chunk, options.refusal);
    } else {
      Position done = first;
      done.text_offset = std::exchange(resume_at_, 0);
      long_.begin(std::move(chunk.buffer), text, done, at_, options);
    }
  }

  /// Rejects a line that is too long without keeping it.
  bool pass_over(Chunk& chunk) {
    std::uint64_t length = chunk.size;
    chunk.buffer = TextBuffer();
    for (bool ended = false; !ended;) {
      chunk.size = 0;
      more(chunk, kGrowBytes);
      const auto* newline =
          static_cast<const char*>(std::memchr(chunk.buffer.data(), '\n', chunk.size));
      ended = newline != nullptr || at_end_;
      if (ended) {
        take(chunk, newline != nullptr ? static_cast<std::size_t>(newline + 1 - chunk.buffer.data())
                                       : chunk.size);
      }
      length += chunk.size;
    }
    ++at_.record;
    at_.offset += length;
    refuse(chunk, fmt::format("the line is longer than {} bytes", kMaxLineBytes));
    return true;
  }

  void refuse(Chunk& chunk, const std::string& reason) {
    Chunk::Entry entry;
    entry.document.next = at_;
    entry.broken.emplace(context_.path, at_.record, reason);
    chunk.entries.push_back(std::move(entry));
    chunk.size = 0;
    chunk.buffer = TextBuffer();  // it may be as large as a line may be
    resume_at_ = 0;
  }

  void more(Chunk& chunk, std::size_t bytes) {
    chunk.buffer.reserve(chunk.size + bytes);
    const std::size_t got = stream_->read({chunk.buffer.data() + chunk.size, bytes});
    chunk.size += got;
    at_end_ = got < bytes;
  }

  /// Leaves the first `bytes` in the chunk, keeps the rest for the next one.
  void take(Chunk& chunk, std::size_t bytes) {
    rest_.assign(chunk.buffer.data() + bytes, chunk.size - bytes);
    chunk.size = bytes;
  }

  SourceContext context_;
  std::unique_ptr<ByteStream> stream_;
  std::string rest_;
  Position at_;
  std::uint64_t resume_at_ = 0;  // the first line is a long one, of which so much text is done
  bool at_end_ = false;
  LongText long_;
};

}  // namespace

void shrink(Chunk& chunk) {
  constexpr std::size_t kKeepBytes = std::size_t{1} << 21;
  if (chunk.buffer.capacity() > kKeepBytes) chunk.buffer = TextBuffer();
}

bool accepts(const ReaderOptions& options, std::string_view text) {
  return !options.accepts || options.accepts(text);
}

std::size_t piece_length(const PieceRule& rule, std::string_view text, bool is_all,
                         std::size_t& seen) {
  seen = std::max(seen, rule.bytes);
  for (;;) {
    if (text.size() <= seen) return is_all ? text.size() : 0;
    if (const std::size_t cut = rule.last_cut(text.substr(0, seen + 1)); cut != 0) return cut;
    if (seen >= rule.limit_bytes) return character_start(text, seen);
    seen = std::min(seen * 2, rule.limit_bytes);
  }
}

void LongText::begin(TextBuffer memory, std::string_view text, const Position& at,
                     const Position& next, const ReaderOptions& options) {
  memory_ = std::move(memory);
  text_ = text;
  at_ = at;
  next_ = next;
  active_ = true;
  if (options.hashes) hash_ = base::chain_hash(text);
}

Document LongText::next(const ReaderOptions& options) {
  std::size_t seen = 0;
  const std::string_view rest = text_.substr(std::min<std::size_t>(at_.text_offset, text_.size()));
  Document piece;
  piece.text = rest.substr(0, piece_length(options.pieces, rest, true, seen));
  piece.starts = at_.text_offset == 0;
  piece.ends = piece.text.size() == rest.size();
  piece.hash = hash_;
  at_.text_offset += piece.text.size();
  piece.next = piece.ends ? next_ : at_;
  active_ = !piece.ends;
  return piece;
}

void LongText::next(Chunk& chunk, const ReaderOptions& options) {
  shrink(chunk);
  Chunk::Entry entry;
  entry.document = next(options);
  const std::string_view text = std::exchange(entry.document.text, {});
  chunk.buffer.reserve(std::max(text.size(), kLineChunkBytes));
  if (!text.empty()) std::memcpy(chunk.buffer.data(), text.data(), text.size());
  chunk.size = text.size();
  entry.size = text.size();
  entry.checked = true;
  chunk.entries.push_back(std::move(entry));
  if (!active_) memory_ = TextBuffer();
}

std::unique_ptr<ChunkSource> make_text_source(const SourceContext& context,
                                              std::unique_ptr<ByteStream> stream) {
  return std::make_unique<TextSource>(context, std::move(stream));
}

std::unique_ptr<ChunkSource> make_line_source(const SourceContext& context,
                                              std::unique_ptr<ByteStream> stream) {
  return std::make_unique<LineSource>(context, std::move(stream));
}

}  // namespace data
