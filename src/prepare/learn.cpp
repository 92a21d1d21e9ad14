// Counts one batch of documents by all threads while the next one is read, then learns.

#include "prepare/learn.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "data/data.h"
#include "prepare/cut.h"

namespace prepare {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kBatchBytes = std::size_t{1} << 25;   // two are in memory
constexpr std::size_t kWindowBytes = std::size_t{1} << 26;  // after which counts are added up
constexpr std::size_t kMostPieces = std::size_t{1} << 22;

void check_output(const base::Path& out) {
  std::error_code error;
  if (!fs::exists(out, error)) return;
  if (fs::is_directory(out, error) && fs::is_empty(out, error)) return;
  base::fail("{}: expected a new or an empty folder, and it is neither; choose another --out",
             out.string());
}

data::ReaderOptions reader_options(const std::string& text_field) {
  data::ReaderOptions options;
  options.text_field = text_field;
  options.pieces.last_cut = last_cut;
  return options;
}

class Counting {
 public:
  Counting(std::vector<data::Input> inputs, const std::string& text_field)
      : reader_(std::move(inputs), reader_options(text_field)),
        workers_(static_cast<std::size_t>(base::thread_count())) {}

  /// All of the inputs; after_batch(bytes of input so far).
  text::PieceCounts run(const std::function<void(std::uint64_t)>& after_batch) {
    Batch now;
    Batch next;
    std::uint64_t added_up = 0;
    for (read(now); now.used > 0; std::swap(now, next)) {
      base::BackgroundTask reading([&] { read(next); });
      count(now);
      for (std::size_t i = 0; i < now.used; ++i) bytes_done_ += now.chunks[i].source_bytes;
      if (text_bytes_ - added_up >= kWindowBytes) {
        add_up();
        added_up = text_bytes_;
      }
      after_batch(bytes_done_);
      reading.wait();
    }
    add_up();
    return std::move(total_);
  }
  std::uint64_t text_bytes() const { return text_bytes_; }

 private:
  /// Chunks, whose memory is used again.
  struct Batch {
    std::vector<data::Chunk> chunks;
    std::size_t used = 0;
  };

  void read(Batch& batch) {
    batch.used = 0;
    for (std::size_t bytes = 0; bytes < kBatchBytes; ++batch.used) {
      if (batch.used == batch.chunks.size()) batch.chunks.emplace_back();
      data::Chunk& chunk = batch.chunks[batch.used];
      if (!reader_.next(chunk)) return;
      bytes += std::max(chunk.buffer.capacity(), chunk.bytes()) + 64;  // empty ones are not free
    }
  }

  void count(Batch& batch) {
    std::atomic<std::size_t> next = 0;
    base::parallel_for(std::ssize(workers_), [&](std::int64_t worker) {
      text::PieceCounts& counts = workers_[static_cast<std::size_t>(worker)];
      for (std::size_t i = next++; i < batch.used; i = next++) {
        batch.chunks[i].parse(
            [&](const data::Document& document) {
              counts.add(document.text);
              text_bytes_ += document.text.size();
            },
            [](const data::BrokenRecord& record, const data::Position&) { throw record; });
      }
    });
  }

  void add_up() {
    for (text::PieceCounts& counts : workers_) {
      total_.add(counts);
      counts.clear();
    }
    total_.keep_commonest(kMostPieces);
  }

  data::DocumentReader reader_;
  std::vector<text::PieceCounts> workers_;
  text::PieceCounts total_;
  std::uint64_t bytes_done_ = 0;
  std::atomic<std::uint64_t> text_bytes_ = 0;
};

}  // namespace

LearnResult learn(const LearnOptions& options,
                  const std::function<void(const LearnProgress&)>& progress) {
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  check_output(options.out);
  std::vector<data::Input> inputs = data::find_inputs(options.inputs);
  const std::uint64_t total = data::known_bytes(inputs);
  Counting counting(std::move(inputs), options.text_field);
  const text::PieceCounts counts = counting.run([&](std::uint64_t done) {
    if (progress) progress({done, total, 0, seconds()});
  });
  if (counts.total() == 0) base::fail("the inputs hold no text to learn from");
  const text::Tokenizer tokenizer =
      text::learn_tokenizer(counts, options.vocabulary, [&](std::size_t entries) {
        if (progress) progress({total, total, entries, seconds()});
      });
  base::AtomicFolder folder(options.out);
  tokenizer.write_files(folder.temporary());
  tokenizer.write_tokenizer_json(folder.temporary());
  check_output(options.out);  // it may have been filled meanwhile
  folder.commit(/*replace=*/true);
  return {.vocab_size = tokenizer.vocab_size(),
          .text_bytes = counting.text_bytes(),
          .pieces = counts.total(),
          .different_pieces = counts.size(),
          .seconds = seconds()};
}

}  // namespace prepare
