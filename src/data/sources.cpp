// Text files and JSON lines as chunks. What comes out does not depend on how bytes arrive.

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "data/instruction.h"
#include "data/json_text.h"
#include "data/source.h"

namespace data {
namespace {

constexpr std::size_t kGrowBytes = std::size_t{1} << 22;  // of a long line, at a time

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
    const ReaderOptions& options = *context_.options;
    std::vector<Segment> segments;
    const std::string wrong =
        options.instructions ? find_instruction(chunk, text, segments)
                             : find_text({chunk.buffer.data(), chunk.size}, *context_.field, text);
    if (!wrong.empty()) {
      refuse(chunk, wrong);
    } else if (!is_accepted(options, text, segments)) {
      refuse(chunk, options.refusal);
    } else {
      Position done = first;
      done.text_offset = std::exchange(resume_at_, 0);
      long_.begin(std::move(chunk.buffer), text, std::move(segments), done, at_, options);
    }
  }

  /// As find_text(); the text takes the line's place.
  static std::string find_instruction(Chunk& chunk, std::string_view& text,
                                      std::vector<Segment>& segments) {
    Instruction instruction;
    std::string wrong = read_instruction({chunk.buffer.data(), chunk.size}, instruction);
    if (!wrong.empty()) return wrong;
    std::memcpy(chunk.buffer.data(), instruction.text.data(), instruction.text.size());
    text = {chunk.buffer.data(), instruction.text.size()};
    segments = std::move(instruction.segments);
    return "";
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
    // Where the system cannot grow memory in place, a line is copied some fifty times, not at each
    // step.
    if (chunk.size + bytes > chunk.buffer.capacity()) {
      chunk.buffer.reserve(chunk.size + std::max(bytes, chunk.size / 8));
    }
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

std::unique_ptr<ChunkSource> make_text_source(const SourceContext& context,
                                              std::unique_ptr<ByteStream> stream) {
  return std::make_unique<TextSource>(context, std::move(stream));
}

std::unique_ptr<ChunkSource> make_line_source(const SourceContext& context,
                                              std::unique_ptr<ByteStream> stream) {
  return std::make_unique<LineSource>(context, std::move(stream));
}

}  // namespace data
