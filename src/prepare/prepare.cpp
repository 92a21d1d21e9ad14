// Reads, encodes and writes at the same time: one batch of pieces is encoded by all threads while
// the next one is read; ids are written in the order of the inputs.

#include "prepare/prepare.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "prepare/cut.h"
#include "prepare/output.h"
#include "prepare/split.h"

namespace prepare {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Sizes of the work. Two batches are in memory, each with its ids (at most 2 bytes a byte of text).
constexpr std::size_t kPieceBytes = std::size_t{1} << 16;     // one task: some milliseconds
constexpr std::size_t kPiecesPerThread = 16;                  // a batch a tenth of a second or so
constexpr std::size_t kMaxBatchBytes = std::size_t{1} << 25;  // whatever the number of threads
constexpr std::size_t kMaxBatchDocuments = std::size_t{1} << 15;  // short ones cost more than bytes
constexpr std::size_t kMaxWorkers = 128;  // an encoder's cache takes some 3 MiB
/// A stretch of text that cannot be cut is merged whole, at about 50 bytes of memory a byte.
constexpr std::size_t kMaxUncutBytes = std::size_t{1} << 23;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Pieces of documents, and their ids once encoded.
struct Batch {
  std::vector<data::Document> pieces;
  std::vector<std::vector<text::TokenId>> ids;  // one list a piece; capacity is kept
};

class Pipeline {
 public:
  Pipeline(std::vector<data::Input> inputs, const Options& options,
           const text::Tokenizer& tokenizer, text::TokenId end_of_text, const base::Path& folder)
      : reader_(std::move(inputs), options.text_field, {kPieceBytes, last_cut, kMaxUncutBytes}),
        end_of_text_(end_of_text),
        train_(folder, "train", options.shard_tokens),
        validation_(folder, "val", options.shard_tokens),
        splitter_(train_, validation_, options.validation_fraction) {
    const std::size_t workers =
        std::min(static_cast<std::size_t>(base::thread_count()), kMaxWorkers);
    batch_bytes_ = std::min(workers * kPiecesPerThread * kPieceBytes, kMaxBatchBytes);
    for (std::size_t i = 0; i < workers; ++i) encoders_.emplace_back(tokenizer);
  }

  /// Reads a batch; one without pieces is the end.
  void read(Batch& batch) {
    batch.pieces.clear();
    for (std::size_t bytes = 0; bytes < batch_bytes_ && batch.pieces.size() < kMaxBatchDocuments;) {
      auto piece = reader_.next();
      if (!piece) return;
      // A piece longer than usual has no place to be cut and is dear to encode: never two at once.
      bytes += piece->text.size() > kPieceBytes ? batch_bytes_ : piece->text.size();
      batch.pieces.push_back(std::move(*piece));
    }
  }

  void encode(Batch& batch) {
    if (batch.ids.size() < batch.pieces.size()) batch.ids.resize(batch.pieces.size());
    std::atomic<std::size_t> next = 0;  // pieces are of unequal cost: each worker takes one by one
    base::parallel_for(std::ssize(encoders_), [&](std::int64_t worker) {
      text::Encoder& encoder = encoders_[static_cast<std::size_t>(worker)];
      for (std::size_t i = next++; i < batch.pieces.size(); i = next++) {
        batch.ids[i].clear();
        encoder.encode(batch.pieces[i].text, batch.ids[i]);
      }
    });
  }

  void write(const Batch& batch) {
    for (std::size_t i = 0; i < batch.pieces.size(); ++i) {
      const data::Document& piece = batch.pieces[i];
      if (piece.starts) splitter_.begin_document(end_of_text_);
      splitter_.append(batch.ids[i]);
      if (piece.ends) splitter_.end_document();
      bytes_done_ += piece.source_bytes;
      text_bytes_ += piece.text.size();
    }
  }

  void run(const std::function<void()>& after_batch) {
    Batch now;
    Batch next;
    for (read(now); !now.pieces.empty(); std::swap(now, next)) {
      base::BackgroundTask reading([&] { read(next); });
      encode(now);
      write(now);
      after_batch();
      reading.wait();
    }
    train_.finish();
    validation_.finish();
  }

  std::uint64_t bytes_done() const { return bytes_done_; }
  std::uint64_t text_bytes() const { return text_bytes_; }
  std::int64_t documents() const { return splitter_.documents(); }
  const ShardSequence& train() const { return train_; }
  const ShardSequence& validation() const { return validation_; }

 private:
  data::DocumentReader reader_;
  text::TokenId end_of_text_;
  ShardSequence train_;
  ShardSequence validation_;
  Splitter splitter_;
  std::vector<text::Encoder> encoders_;  // one a worker
  std::size_t batch_bytes_ = 0;
  std::uint64_t bytes_done_ = 0;
  std::uint64_t text_bytes_ = 0;
};

void check(const Options& options) {
  if (options.shard_tokens < 1 || options.shard_tokens > kMaxShardTokens) {
    base::fail("shard tokens: expected 1 to {}, got {}", kMaxShardTokens, options.shard_tokens);
  }
  if (!(options.validation_fraction >= 0 && options.validation_fraction < 1)) {
    base::fail("validation fraction: expected at least 0 and less than 1, got {}",
               options.validation_fraction);
  }
}

/// True for a file inside `folder`, or where it will be.
bool lies_inside(const std::string& file, const base::Path& folder) {
  std::error_code error;
  base::Path root = fs::weakly_canonical(folder, error);
  if (!root.has_filename()) root = root.parent_path();  // a trailing slash
  const base::Path path = fs::weakly_canonical(file, error);
  if (error) return false;
  const auto [root_end, path_at] =
      std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  return root_end == root.end();
}

/// What will be read. The output may lie inside an input folder; its own files are no inputs.
std::vector<data::Input> inputs_of(const Options& options) {
  if (options.inputs.empty()) base::fail("no input: name a .txt or .jsonl file, a folder, or '-'");
  std::vector<data::Input> inputs = data::find_inputs(options.inputs);
  std::erase_if(inputs, [&](const data::Input& input) {
    return input.path != "-" && lies_inside(input.path, options.out);
  });
  if (inputs.empty()) {
    base::fail("the output folder {} holds all the inputs; choose another one",
               options.out.string());
  }
  return inputs;
}

/// Total bytes, or 0 when an input's size is not known.
std::uint64_t known_bytes(const std::vector<data::Input>& inputs) {
  std::uint64_t total = 0;
  for (const data::Input& input : inputs) {
    std::error_code error;
    if (input.path == "-" || !fs::is_regular_file(input.path, error)) return 0;
    total += input.bytes;
  }
  return total;
}

[[noreturn]] void fail_without_text(const std::vector<data::Input>& inputs) {
  if (inputs.size() == 1) {
    const std::string& path = inputs.front().path;
    base::fail("{} holds no text; name an input that does",
               path == "-" ? "the standard input" : path);
  }
  base::fail("the {} inputs ({}, ...) hold no text; name one that does", inputs.size(),
             inputs.front().path);
}

void refuse_empty_files(const std::vector<data::Input>& inputs) {
  const auto is_empty_file = [](const data::Input& input) {
    std::error_code error;
    return input.path != "-" && input.bytes == 0 && fs::is_regular_file(input.path, error);
  };
  if (std::all_of(inputs.begin(), inputs.end(), is_empty_file)) fail_without_text(inputs);
}

}  // namespace

Result run(const Options& options, const text::Tokenizer& tokenizer,
           const std::function<void(const Progress&)>& progress) {
  const auto start = Clock::now();
  check(options);
  const auto end_of_text = tokenizer.end_of_text();
  if (!end_of_text) {
    base::fail("the tokenizer has no {}, which separates documents; use another one",
               text::kEndOfText);
  }
  const std::vector<data::Input> inputs = inputs_of(options);
  Result result;
  data::Manifest& manifest = result.manifest;
  manifest.inputs = inputs;
  manifest.shard_tokens = options.shard_tokens;
  manifest.validation_fraction = options.validation_fraction;
  manifest.text_field = options.text_field;
  manifest.vocab_size = static_cast<std::int64_t>(tokenizer.vocab_size());
  manifest.vocab_hash = fmt::format("{:016x}", tokenizer.hash());
  manifest.end_of_text = *end_of_text;
  if (auto finished = find_finished(options.out, manifest)) {
    return {std::move(*finished), /*already_done=*/true, seconds_since(start)};
  }
  refuse_empty_files(inputs);

  Output output(options.out, manifest);
  tokenizer.write_files(output.folder());
  Pipeline pipeline(inputs, options, tokenizer, *end_of_text, output.folder());
  const std::uint64_t bytes_total = known_bytes(inputs);
  auto reported = start;
  const auto report = [&](bool always) {
    constexpr auto kInterval = std::chrono::milliseconds(100);
    if (!progress || (!always && Clock::now() - reported < kInterval)) return;
    reported = Clock::now();
    progress({pipeline.bytes_done(), bytes_total,
              pipeline.train().tokens() + pipeline.validation().tokens(), pipeline.documents(),
              seconds_since(start)});
  };
  pipeline.run([&] { report(false); });
  if (pipeline.text_bytes() == 0) fail_without_text(inputs);
  if (pipeline.train().tokens() == 0) {
    base::fail("all of the text was drawn for validation; lower the validation fraction of {}",
               options.validation_fraction);
  }
  manifest.documents = pipeline.documents();
  manifest.train_tokens = pipeline.train().tokens();
  manifest.validation_tokens = pipeline.validation().tokens();
  manifest.train = pipeline.train().shards();
  manifest.validation = pipeline.validation().shards();
  output.commit(manifest);
  report(true);
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace prepare
