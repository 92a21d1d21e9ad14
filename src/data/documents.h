#pragma once
/// Inputs -> documents: part of the room's door, which includes it.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/hash.h"

namespace data {

/// An input of preparation: a file, a folder's worth of files, or the standard input.
struct Input {
  std::string path;         ///< as named on the command line, or found in a folder; "-" is stdin
  std::uint64_t bytes = 0;  ///< 0 for what has no size (stdin, a pipe)
  std::string fingerprint;  ///< of its first and last MiB, 32 hex digits; empty: not known
  std::int64_t modified_ns = 0;  ///< since 1970; 0: not known
};

/// Files behind the arguments: files as they are, folders recursively (their .txt, .md and .jsonl
/// files, sorted by path; links to folders are not followed), "-" as it is. Throws Error for what
/// does not exist, for an unknown extension, for a folder without a single input, and for a second
/// "-".
std::vector<Input> find_inputs(const std::vector<std::string>& arguments);

/// Fills in fingerprints and times of modification, where inputs are files. Reads at most 2 MiB of
/// each, on all threads.
void identify(std::vector<Input>& inputs);

/// True when reading can go on in the middle of it later: a file, not a pipe.
bool can_seek(const Input& input);

/// True for a file of JSON lines, compressed or not.
bool has_lines(const Input& input);

/// Bytes of all inputs; 0 when the size of one is not known.
std::uint64_t known_bytes(const std::vector<Input>& inputs);

/// Where a reader stands: before a record, or inside a long one.
struct Position {
  std::size_t input = 0;          ///< index of the input
  std::int64_t record = 0;        ///< lines or rows (nulls too) before it, whatever became of them
  std::uint64_t offset = 0;       ///< bytes of the (decompressed) input before the record
  std::uint64_t text_offset = 0;  ///< bytes of the record's text before it
  bool operator==(const Position&) const = default;
};

/// A record that cannot be used. Reading goes on behind it.
class BrokenRecord : public base::Error {
 public:
  /// `number`: line or row, from 1.
  BrokenRecord(std::string file, std::int64_t number, std::string reason);
  const std::string& file() const { return file_; }
  std::int64_t number() const { return number_; }
  const std::string& reason() const { return reason_; }

 private:
  std::string file_;
  std::int64_t number_;
  std::string reason_;
};

/// A stretch of a text that is encoded by itself.
struct Segment {
  std::size_t bytes = 0;
  bool learnt = false;  ///< its tokens are what is learnt, the others are given
};

/// One document (a text file, the standard input, the text field of a JSONL line), or a piece of a
/// long one.
struct Document {
  std::string_view text;              ///< valid during the call that hands it out
  Position next;                      ///< where to go on behind it
  bool starts = true;                 ///< its text begins a document
  bool ends = true;                   ///< its text ends a document
  base::Hash128 hash;                 ///< of the whole document's text, where hashes are asked for
  std::span<const Segment> segments;  ///< all of `text` of instruction data; else none
};

/// How documents are cut into pieces, so that a long one never lies in memory whole.
struct PieceRule {
  /// A text file is cut into pieces of about this length.
  std::size_t bytes = std::size_t{1} << 17;
  /// The largest place in [1, text.size() - 1] where `text`, which other text may precede and
  /// follow, can be cut; 0 where there is none. By default, there is none.
  std::function<std::size_t(std::string_view text)> last_cut;
  /// A stretch of this length without such a place is cut all the same, between two characters.
  std::size_t limit_bytes = std::size_t{1} << 23;
};

struct ReaderOptions {
  std::string text_field = "text";  ///< of a JSONL line; "a.b" is the field b of the object a
  PieceRule pieces;
  /// Whether a text (cut, if at all, between characters) may be used; by default, any may.
  std::function<bool(std::string_view text)> accepts;
  std::string refusal = "not accepted";  ///< the reason when `accepts` says no
  bool hashes = false;                   ///< documents come with their hash
  /// Lines are a prompt and its completion, or messages (docs/formats.md), and come in segments.
  bool instructions = false;
};

/// The longest JSONL line accepted.
inline constexpr std::size_t kMaxLineBytes = std::size_t{1} << 30;
/// A longer record is cut into pieces; a shorter one is handed out whole.
inline constexpr std::size_t kLongRecordBytes = std::size_t{1} << 20;

/// Bytes that are not initialised and that grow without being copied where the system can.
class TextBuffer {
 public:
  TextBuffer() = default;
  ~TextBuffer() { std::free(data_); }
  TextBuffer(TextBuffer&& other) noexcept;
  TextBuffer& operator=(TextBuffer&& other) noexcept;

  /// Makes room for `bytes`, and for 64 more that may be read but mean nothing.
  void reserve(std::size_t bytes);
  char* data() { return data_; }
  const char* data() const { return data_; }
  std::size_t capacity() const { return capacity_; }

 private:
  char* data_ = nullptr;
  std::size_t capacity_ = 0;
};

class RowGroup;

/// A stretch of an input: read but not parsed, the unit of work that threads share; or a row group
/// of a Parquet file, not even read. One object serves again and again.
class Chunk {
 public:
  using OnDocument = std::function<void(const Document&)>;
  using OnBroken = std::function<void(const BrokenRecord&, const Position& next)>;

  /// Hands out the documents and the broken records in it, in order. May be called once, on any
  /// thread, beside the reader. What is thrown by the callbacks ends it.
  void parse(const OnDocument& on_document, const OnBroken& on_broken);
  /// Bytes of text or of lines in it; what the footer says of a row group.
  std::size_t bytes() const { return size; }
  /// Bytes of input it took, for progress.
  std::uint64_t source_bytes = 0;

  /// A text in the buffer, or what is wrong in its place.
  struct Entry {
    std::size_t begin = 0, size = 0;
    Document document;     // without its text
    bool checked = false;  // already accepted and hashed: a piece
    std::vector<Segment> segments;
    std::optional<BrokenRecord> broken;
  };
  // What follows is filled by the room's sources.
  TextBuffer buffer;
  std::size_t size = 0;
  bool lines = false;              // the buffer holds lines of JSON, else what `entries` says
  std::shared_ptr<RowGroup> rows;  // to be read instead of the buffer
  Position begin;                  // of the first line
  std::vector<Entry> entries;
  std::string path;  // of the input, as messages name it
  std::shared_ptr<const ReaderOptions> options;
  std::shared_ptr<const std::vector<std::string>> field;

 private:
  void parse_lines(const OnDocument& on_document, const OnBroken& on_broken);
  void parse_rows(const OnDocument& on_document, const OnBroken& on_broken);
  void hand_out(Document& document, std::string_view text, bool checked,
                const OnDocument& on_document, const OnBroken& on_broken) const;
};

/// Documents of the inputs in order, a chunk at a time. Empty lines of a .jsonl file are no
/// documents; an empty text file is an empty document. Lines may end in CR LF, the last in nothing.
class DocumentReader {
 public:
  DocumentReader(std::vector<Input> inputs, ReaderOptions options);
  ~DocumentReader();

  /// Reads the next stretch; false at the end. Throws Error for a file that cannot be read.
  bool next(Chunk& chunk);
  /// Goes on at `position`, which a document or a broken record was handed out with. Only before
  /// the first next().
  void seek(const Position& position);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace data
