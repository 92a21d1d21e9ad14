// Long records in pieces, whose places depend on the text alone.

#include <algorithm>
#include <cstring>
#include <utility>

#include "data/source.h"

namespace data {
namespace {

/// A chunk's buffer that is larger than this is given back.
constexpr std::size_t kKeepBytes = std::size_t{1} << 21;

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

std::size_t character_start(std::string_view text, std::size_t at) {
  std::size_t start = at;
  while (start > 1 && at - start < 3 && continues_character(text[start])) --start;
  return continues_character(text[start]) ? at : start;
}

void shrink(Chunk& chunk) {
  if (chunk.buffer.capacity() > kKeepBytes) chunk.buffer = TextBuffer();
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

void LongText::begin(TextBuffer memory, std::string_view text, std::vector<Segment> segments,
                     const Position& at, const Position& next, const ReaderOptions& options) {
  memory_ = std::move(memory);
  text_ = text;
  if (options.hashes) hash_ = hash_of(text, segments);
  segments_ = std::move(segments);
  segment_ = 0;
  segment_done_ = at.text_offset;
  while (segment_ < segments_.size() && segment_done_ >= segments_[segment_].bytes) {
    segment_done_ -= segments_[segment_++].bytes;
  }
  at_ = at;
  next_ = next;
  active_ = true;
}

std::size_t LongText::take_segments(const PieceRule& rule, std::vector<Segment>& taken) {
  std::size_t length = 0;
  for (; segment_ < segments_.size(); ++segment_, segment_done_ = 0) {
    const Segment& segment = segments_[segment_];
    const std::size_t left = segment.bytes - segment_done_;
    if (length > 0 && left > 0 && length + left > rule.bytes) break;
    const std::string_view rest = text_.substr(at_.text_offset + length, left);
    std::size_t seen = 0;
    const std::size_t part = piece_length(rule, rest, true, seen);
    taken.push_back({part, segment.learnt});
    length += part;
    segment_done_ += part;
    if (part < left) break;
  }
  return length;
}

Document LongText::next(const ReaderOptions& options) {
  std::size_t seen = 0;
  const std::string_view rest = text_.substr(std::min<std::size_t>(at_.text_offset, text_.size()));
  taken_.clear();
  const std::size_t length = segments_.empty() ? piece_length(options.pieces, rest, true, seen)
                                               : take_segments(options.pieces, taken_);
  Document piece;
  piece.text = rest.substr(0, length);
  piece.segments = taken_;
  piece.starts = at_.text_offset == 0;
  piece.ends = length == rest.size();
  piece.hash = hash_;
  at_.text_offset += length;
  piece.next = piece.ends ? next_ : at_;
  active_ = !piece.ends;
  return piece;
}

void LongText::next(Chunk& chunk, const ReaderOptions& options) {
  shrink(chunk);
  Chunk::Entry entry;
  entry.document = next(options);
  entry.document.segments = {};  // the chunk sets them when it is parsed
  entry.segments = taken_;
  const std::string_view text = std::exchange(entry.document.text, {});
  chunk.buffer.reserve(std::max(text.size(), kLineChunkBytes));
  if (!text.empty()) std::memcpy(chunk.buffer.data(), text.data(), text.size());
  chunk.size = text.size();
  entry.size = text.size();
  entry.checked = true;
  chunk.entries.push_back(std::move(entry));
  if (!active_) memory_ = TextBuffer();
}

}  // namespace data
