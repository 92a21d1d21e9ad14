// Inputs are found and opened here; sources.cpp cuts them into chunks.

#include "data/documents.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/file.h"
#include "base/parallel.h"
#include "data/json_text.h"
#include "data/source.h"

namespace data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFingerprintBytes = std::size_t{1} << 20;

bool is_compressed(const base::Path& path) {
  return path.extension() == ".gz" || path.extension() == ".zst";
}
/// The extension behind which no compression stands: ".jsonl" of "a.jsonl.gz".
base::Path kind_of(const base::Path& path) {
  return is_compressed(path) ? path.stem().extension() : path.extension();
}
bool is_jsonl(const base::Path& path) { return kind_of(path) == ".jsonl"; }
bool is_text(const base::Path& path) { return kind_of(path) == ".txt" || kind_of(path) == ".md"; }
bool is_parquet(const base::Path& path) { return path.extension() == ".parquet"; }
bool is_input(const base::Path& path) {
  return is_text(path) || is_jsonl(path) || is_parquet(path);
}

Input describe(const base::Path& path) {
  std::error_code not_regular;  // a pipe has no size
  const std::uint64_t bytes = fs::file_size(path, not_regular);
  return {path.string(), not_regular ? 0 : bytes, {}, 0};
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
    base::fail("folder {} holds no .txt, .md, .jsonl or .parquet file; name one with text",
               folder.string());
  }
  std::sort(paths.begin(), paths.end());
  for (const base::Path& path : paths) inputs.push_back(describe(path));
}

/// A file through stdio without its buffer: reads are large already.
class FileStream : public ByteStream {
 public:
  explicit FileStream(const std::string& path) : name_(display_name(path)) {
    if (path == "-") {
      file_ = stdin;
      return;
    }
    file_ = std::fopen(path.c_str(), "rbe");
    if (file_ == nullptr) base::fail("cannot open {}: {}", name_, std::strerror(errno));
    std::setvbuf(file_, nullptr, _IONBF, 0);
  }
  ~FileStream() override {
    if (file_ != stdin) std::fclose(file_);
  }
  FileStream(const FileStream&) = delete;
  FileStream& operator=(const FileStream&) = delete;

  std::size_t read(std::span<char> to) override {
    const std::size_t got = std::fread(to.data(), 1, to.size(), file_);
    if (got < to.size() && std::ferror(file_) != 0) {
      base::fail("cannot read {}: {}", name_, std::strerror(errno));
    }
    taken_ += got;
    return got;
  }
  void skip(std::uint64_t bytes) override {
    if (::fseeko(file_, static_cast<off_t>(bytes), SEEK_CUR) != 0) {
      base::fail("cannot go to byte {} of {}: {}", bytes, name_, std::strerror(errno));
    }
    taken_ += bytes;
  }
  std::uint64_t source_bytes() const override { return taken_; }

 private:
  std::string name_;
  std::FILE* file_ = nullptr;
  std::uint64_t taken_ = 0;
};

/// Hash of the first and the last MiB, and the time of modification.
void identify_file(Input& input) {
  struct stat status {};
  if (::stat(input.path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  input.modified_ns = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
  FileStream file(input.path);
  std::string ends(std::min<std::uint64_t>(kFingerprintBytes, input.bytes), '\0');
  ends.resize(file.read(ends));
  base::Hash128 hash = base::hash128(ends);
  if (input.bytes > ends.size()) {
    const std::uint64_t last =
        std::min<std::uint64_t>(kFingerprintBytes, input.bytes - ends.size());
    file.skip(input.bytes - ends.size() - last);
    ends.resize(last);
    ends.resize(file.read(ends));
    hash = base::hash128(ends, hash);
  }
  input.fingerprint = base::to_hex(hash);
}

}  // namespace

std::string display_name(const std::string& path) {
  return path == "-" ? "the standard input" : path;
}

std::unique_ptr<ByteStream> open_stream(const std::string& path) {
  return std::make_unique<FileStream>(path);
}

std::vector<Input> find_inputs(const std::vector<std::string>& arguments) {
  std::vector<Input> inputs;
  for (const std::string& argument : arguments) {
    if (argument == "-") {
      const auto twice = [](const Input& input) { return input.path == "-"; };
      if (std::any_of(inputs.begin(), inputs.end(), twice)) {
        base::fail("the standard input ('-') is named twice; it can be read once");
      }
      inputs.push_back({argument, 0, {}, 0});
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
          "input {}: expected a .txt, .md, .jsonl (also .gz, .zst) or .parquet file or a folder; "
          "rename it or give it to the standard input",
          argument);
    }
  }
  return inputs;
}

void identify(std::vector<Input>& inputs) {
  base::parallel_for_dynamic(std::ssize(inputs), [&](std::int64_t i) {
    Input& input = inputs[static_cast<std::size_t>(i)];
    if (can_seek(input)) identify_file(input);
  });
}

bool can_seek(const Input& input) {
  std::error_code error;
  return input.path != "-" && fs::is_regular_file(input.path, error);
}

bool has_lines(const Input& input) { return is_jsonl(input.path); }

std::uint64_t known_bytes(const std::vector<Input>& inputs) {
  std::uint64_t total = 0;
  for (const Input& input : inputs) {
    if (!can_seek(input)) return 0;
    total += input.bytes;
  }
  return total;
}

BrokenRecord::BrokenRecord(std::string file, std::int64_t number, std::string reason)
    : base::Error(fmt::format("{}:{}: {}", file, number, reason)),
      file_(std::move(file)),
      number_(number),
      reason_(std::move(reason)) {}

struct DocumentReader::State {
  std::vector<Input> inputs;
  std::shared_ptr<const ReaderOptions> options;
  std::shared_ptr<const std::vector<std::string>> field;
  std::size_t next_input = 0;
  std::unique_ptr<ChunkSource> source;  // of the input being read
  std::string name;                     // of that input

  void open() {
    const Input& input = inputs[next_input];
    const SourceContext context{display_name(input.path), next_input, options, field,
                                can_seek(input)};
    name = context.path;
    ++next_input;
    if (is_parquet(input.path)) {
      source = make_parquet_source(context);
      return;
    }
    auto bytes =
        is_compressed(input.path) ? open_decompressed(input.path) : open_stream(input.path);
    source = is_jsonl(input.path) ? make_line_source(context, std::move(bytes))
                                  : make_text_source(context, std::move(bytes));
  }
};

DocumentReader::DocumentReader(std::vector<Input> inputs, ReaderOptions options)
    : state_(std::make_unique<State>()) {
  if (!options.pieces.last_cut) {
    options.pieces.last_cut = [](std::string_view) { return std::size_t{0}; };
  }
  state_->inputs = std::move(inputs);
  state_->field = std::make_shared<const std::vector<std::string>>(split_field(options.text_field));
  state_->options = std::make_shared<const ReaderOptions>(std::move(options));
}

DocumentReader::~DocumentReader() = default;

bool DocumentReader::next(Chunk& chunk) {
  State& state = *state_;
  for (;;) {
    if (!state.source) {
      if (state.next_input == state.inputs.size()) return false;
      state.open();
    }
    chunk.path = state.name;
    chunk.options = state.options;
    chunk.field = state.field;
    chunk.entries.clear();
    chunk.rows.reset();
    chunk.lines = false;
    chunk.size = 0;
    chunk.source_bytes = 0;
    try {
      if (state.source->next(chunk)) return true;
    } catch (const BrokenRecord& broken) {  // the rest of this input is lost, the others are not
      chunk.entries.clear();
      chunk.lines = false;
      chunk.size = 0;
      Chunk::Entry entry;
      entry.broken.emplace(broken);
      entry.document.next = {state.next_input, 0, 0, 0};
      chunk.entries.push_back(std::move(entry));
      state.source.reset();
      return true;
    }
    state.source.reset();
  }
}

void DocumentReader::seek(const Position& position) {
  state_->next_input = position.input;
  if (position.input == state_->inputs.size()) return;
  state_->open();
  state_->source->seek(position);
}

}  // namespace data
