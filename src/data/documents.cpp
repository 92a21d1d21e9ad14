// Inputs -> documents, in pieces where they are long.

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "data/data.h"

namespace data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlockBytes = std::size_t{1} << 18;  // a read call

bool is_jsonl(const base::Path& path) { return path.extension() == ".jsonl"; }
bool is_input(const base::Path& path) { return path.extension() == ".txt" || is_jsonl(path); }

Input describe(const base::Path& path) {
  std::error_code not_regular;  // a pipe has no size
  const std::uint64_t bytes = fs::file_size(path, not_regular);
  return {path.string(), not_regular ? 0 : bytes};
}

void find_in_folder(const base::Path& folder, std::vector<Input>& inputs) {
  std::vector<base::Path> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code broken_link;  // kept: opening it tells what is wrong
    const bool folder_itself = fs::is_directory(entry->path(), broken_link);
    if (is_input(entry->path()) && !folder_itself) paths.push_back(entry->path());
  }
  if (error) base::fail("cannot read folder {}: {}", folder.string(), error.message());
  if (paths.empty()) {
    base::fail("folder {} holds no .txt or .jsonl file; name a folder or file with text",
               folder.string());
  }
  std::sort(paths.begin(), paths.end());
  for (const base::Path& path : paths) inputs.push_back(describe(path));
}

/// Bytes of a file or of the standard input, front to back.
class ByteSource {
 public:
  explicit ByteSource(const std::string& path) : path_(path == "-" ? "the standard input" : path) {
    if (path == "-") {
      file_ = stdin;
      return;
    }
    file_ = std::fopen(path.c_str(), "rbe");
    if (file_ == nullptr) base::fail("cannot open {}: {}", path_, std::strerror(errno));
    std::setvbuf(file_, nullptr, _IONBF, 0);  // reads are large already
  }
  ~ByteSource() {
    if (file_ != stdin) std::fclose(file_);
  }
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  /// Appends a block to `bytes`; false at the end of the file.
  bool read(std::string& bytes) {
    const std::size_t before = bytes.size();
    bytes.resize(before + kBlockBytes);
    const std::size_t got = std::fread(bytes.data() + before, 1, kBlockBytes, file_);
    if (got < kBlockBytes && std::ferror(file_) != 0) {
      base::fail("cannot read {}: {}", path_, std::strerror(errno));
    }
    bytes.resize(before + got);
    return got > 0;
  }
  const std::string& name() const { return path_; }

 private:
  std::string path_;
  std::FILE* file_ = nullptr;
};

/// The lines of a source, one at a time.
class LineSource {
 public:
  explicit LineSource(const std::string& path) : source_(path) {}

  /// The next line without its newline and a preceding carriage return, valid until the next call;
  /// nothing at the end.
  std::optional<std::string_view> next() {
    begin_ += std::exchange(taken_, 0);
    std::size_t newline = buffer_.find('\n', begin_);
    while (newline == std::string::npos) {
      buffer_.erase(0, std::exchange(begin_, 0));
      const std::size_t searched = buffer_.size();
      if (!source_.read(buffer_)) break;
      newline = buffer_.find('\n', searched);
      if (std::min(newline, buffer_.size()) > kMaxLineBytes) {
        base::fail("{}:{}: the line is longer than {} bytes; split it into several documents",
                   source_.name(), number_ + 1, kMaxLineBytes);
      }
    }
    if (begin_ == buffer_.size()) return std::nullopt;
    ++number_;
    std::string_view line = std::string_view(buffer_).substr(begin_);
    taken_ = line.size();  // of a last line without a newline
    if (newline != std::string::npos) {
      line = line.substr(0, newline - begin_);
      taken_ = line.size() + 1;
    }
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }
  /// Number of the line next() gave last, from 1, and the bytes it took.
  std::int64_t number() const { return number_; }
  std::size_t taken_bytes() const { return taken_; }

 private:
  ByteSource source_;
  std::string buffer_;
  std::size_t begin_ = 0;  // where the last line starts in the buffer
  std::size_t taken_ = 0;  // its bytes, with the newline
  std::int64_t number_ = 0;
};

/// The text of a JSONL line.
std::string text_of_line(std::string_view line, const std::string& field,
                         const std::string& origin) {
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(line);
  } catch (const nlohmann::json::parse_error& error) {
    base::fail("{}: not valid JSON at byte {} of the line", origin, error.byte);
  }
  if (!json.is_object()) {
    base::fail("{}: expected a JSON object with the field '{}', got {}", origin, field,
               json.type_name());
  }
  const auto found = json.find(field);
  if (found == json.end()) {
    base::fail(
        "{}: the field '{}' is missing; name the field that holds the text with --text-field",
        origin, field);
  }
  if (!found->is_string()) {
    base::fail("{}: field '{}': expected a string, got {}", origin, field, found->type_name());
  }
  return std::move(found->get_ref<std::string&>());
}

}  // namespace

std::vector<Input> find_inputs(const std::vector<std::string>& arguments) {
  std::vector<Input> inputs;
  for (const std::string& argument : arguments) {
    if (argument == "-") {
      const auto twice = [](const Input& input) { return input.path == "-"; };
      if (std::any_of(inputs.begin(), inputs.end(), twice)) {
        base::fail("the standard input ('-') is named twice; it can be read once");
      }
      inputs.push_back({argument, 0});
      continue;
    }
    std::error_code error;
    const fs::file_status status = fs::status(argument, error);
    if (error) base::fail("cannot open input {}: {}", argument, error.message());
    if (fs::is_directory(status)) {
      find_in_folder(argument, inputs);
    } else if (is_input(argument)) {
      inputs.push_back(describe(argument));
    } else {
      base::fail(
          "input {}: expected a .txt or .jsonl file or a folder; rename it or give it to the "
          "standard input",
          argument);
    }
  }
  return inputs;
}

struct DocumentReader::State {
  std::vector<Input> inputs;
  std::string text_field;
  PieceRule rule;
  std::size_t next_input = 0;
  std::optional<LineSource> lines;  // of the .jsonl file being read
  std::optional<ByteSource> bytes;  // of the .txt file being read: more of the document may come
  std::string path;                 // of the input being read

  // The document being handed out: text[taken...] is still to come.
  bool inside = false;
  Document document;
  std::string text;
  std::size_t taken = 0;

  /// Begins the next document; false at the end of all inputs.
  bool begin_document();
  /// Begins the next line's document; false at the end of the file.
  bool begin_line();
  /// Makes text[taken, taken + count) available, or all there is.
  void fill(std::size_t count);
  /// The next piece of the document.
  Document next_piece();
  /// Hands out the next `count` bytes.
  Document take(std::size_t count, bool ends);
};

bool DocumentReader::State::begin_document() {
  for (;;) {
    if (lines) {
      if (begin_line()) return true;
      lines.reset();
    }
    if (next_input == inputs.size()) return false;
    path = inputs[next_input++].path;
    if (is_jsonl(path)) {
      lines.emplace(path);
      continue;
    }
    bytes.emplace(path);
    document.origin = bytes->name();
    document.source_bytes = 0;
    return true;
  }
}

bool DocumentReader::State::begin_line() {
  std::uint64_t skipped = 0;
  while (const auto line = lines->next()) {
    if (line->find_first_not_of(" \t\r") == std::string_view::npos) {
      skipped += lines->taken_bytes();
      continue;
    }
    document.origin = fmt::format("{}:{}", path, lines->number());
    document.source_bytes = skipped + lines->taken_bytes();
    text = text_of_line(*line, text_field, document.origin);
    return true;
  }
  return false;
}

void DocumentReader::State::fill(std::size_t count) {
  while (bytes && text.size() - taken < count) {
    if (taken > text.size() / 2) text.erase(0, std::exchange(taken, 0));
    if (!bytes->read(text)) bytes.reset();
  }
}

Document DocumentReader::State::take(std::size_t count, bool ends) {
  Document piece = document;
  piece.text = text.substr(taken, count);
  piece.ends = ends;
  // A line's bytes count with its first piece, a text file's as they are handed out.
  if (!lines) piece.source_bytes = count;
  document.starts = false;
  document.source_bytes = 0;
  taken += count;
  inside = !ends;
  return piece;
}

Document DocumentReader::State::next_piece() {
  std::size_t want = rule.bytes;
  for (;;) {
    fill(want == SIZE_MAX ? want : want + 1);
    const std::size_t left = text.size() - taken;
    if (!bytes && left <= want) return take(left, true);
    const std::string_view view = std::string_view(text).substr(taken, want + 1);
    if (const std::size_t cut = rule.last_cut(view); cut != 0) return take(cut, false);
    if (want >= rule.limit_bytes) {
      base::fail(
          "{}: {} bytes without a place to cut them (white space, for example); break the "
          "text into lines or documents",
          document.origin, want);
    }
    want = std::min(want * 2, std::max(want, rule.limit_bytes));
  }
}

DocumentReader::DocumentReader(std::vector<Input> inputs, std::string text_field, PieceRule pieces)
    : state_(std::make_unique<State>()) {
  state_->inputs = std::move(inputs);
  state_->text_field = std::move(text_field);
  state_->rule = std::move(pieces);
}

DocumentReader::~DocumentReader() = default;

std::optional<Document> DocumentReader::next() {
  State& state = *state_;
  if (!state.inside) {
    state.text.clear();
    state.taken = 0;
    state.bytes.reset();
    if (!state.begin_document()) return std::nullopt;
    state.inside = true;
    state.document.starts = true;
  }
  return state.next_piece();
}

}  // namespace data
