#pragma once
/// What a file format gives to the reader of documents. Private to the room.
///
/// A new format is a ChunkSource (rows) or a ByteStream (a compressed file of lines or text), and a
/// line in documents.cpp that opens it.

#include <memory>

#include "data/documents.h"

namespace data {

/// The (decompressed) bytes of an input, front to back.
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  /// Fills `to` from its beginning; fewer bytes than asked for are the end. May throw BrokenRecord
  /// when nothing behind this place can be read: the input then ends here, rejected.
  virtual std::size_t read(std::span<char> to) = 0;
  /// Passes over bytes.
  virtual void skip(std::uint64_t bytes) = 0;
  /// Bytes of the file taken so far, for progress.
  virtual std::uint64_t source_bytes() const = 0;
};

/// A plain file, a pipe, or the standard input ("-").
std::unique_ptr<ByteStream> open_stream(const std::string& path);
/// What a .gz or .zst file holds.
std::unique_ptr<ByteStream> open_decompressed(const std::string& path);
/// As messages name it.
std::string display_name(const std::string& path);

/// One input being read.
class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  /// Fills the chunk (its path and options are set); false at the end of the input.
  virtual bool next(Chunk& chunk) = 0;
  /// Goes on in the middle; only before the first next().
  virtual void seek(const Position& position) = 0;
};

/// What every source has to know.
struct SourceContext {
  std::string path;
  std::size_t input = 0;  // its index
  std::shared_ptr<const ReaderOptions> options;
  std::shared_ptr<const std::vector<std::string>> field;  // the text field's names
  bool can_reread = false;                                // a file: it may be opened twice
};

std::unique_ptr<ChunkSource> make_text_source(const SourceContext& context,
                                              std::unique_ptr<ByteStream> stream);
std::unique_ptr<ChunkSource> make_line_source(const SourceContext& context,
                                              std::unique_ptr<ByteStream> stream);
/// The values of a Parquet file's column that are not null. The rows of a row group are broken
/// records from a corrupt page on. Throws Error for a file that is not Parquet or has no such
/// column.
std::unique_ptr<ChunkSource> make_parquet_source(const SourceContext& context);

/// Length of the next piece of `text`, more of which follows unless `is_all`; 0 when seen + 1 bytes
/// of it have to be there first. Begin with seen = 0. The places depend on the text alone, not on
/// how it arrives.
std::size_t piece_length(const PieceRule& rule, std::string_view text, bool is_all,
                         std::size_t& seen);

/// `at` moved back to the beginning of a character, if one is near.
std::size_t character_start(std::string_view text, std::size_t at);

/// Whether a text may be used: all of it, and each of its segments, which are encoded apart.
bool is_accepted(const ReaderOptions& options, std::string_view text,
                 std::span<const Segment> segments);
/// Equal for texts that are equal in their segments too.
base::Hash128 hash_of(std::string_view text, std::span<const Segment> segments);

/// Usual bytes of a chunk: they stay in a core's cache.
inline constexpr std::size_t kLineChunkBytes = std::size_t{1} << 17;
/// Gives back a buffer that a long line made large.
void shrink(Chunk& chunk);

/// A long record's text, handed out in pieces.
class LongText {
 public:
  /// Takes over `text`, which lies in `memory` or stays where it is until all is handed out. `at`:
  /// the record and what is already done of it; `next`: behind it.
  void begin(TextBuffer memory, std::string_view text, std::vector<Segment> segments,
             const Position& at, const Position& next, const ReaderOptions& options);
  bool active() const { return active_; }
  /// The next piece, which stays in the text.
  Document next(const ReaderOptions& options);
  /// Fills the chunk with the next piece.
  void next(Chunk& chunk, const ReaderOptions& options);

 private:
  std::size_t take_segments(const PieceRule& rule, std::vector<Segment>& taken);

  TextBuffer memory_;
  std::string_view text_;
  std::vector<Segment> segments_;
  std::size_t segment_ = 0;       // where the next piece begins
  std::size_t segment_done_ = 0;  // bytes of it
  std::vector<Segment> taken_;    // of the piece handed out last
  Position at_, next_;
  base::Hash128 hash_;
  bool active_ = false;
};

}  // namespace data
