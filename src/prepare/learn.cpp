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
  Counting(std::vector<data::Input> inputs, const LearnOptions& options)
      : reader_(std::move(inputs), reader_options(options.text_field)),
        max_rejected_(options.max_rejected),
        workers_(static_cast<std::size_t>(base::thread_count())) {}

  /// All of the inputs; after_batch(bytes of input so far).
  text::PieceCounts run(const std::function<void(std::uint64_t)>& after_batch) {
    Batch now;
    Batch next;
    std::uint64_t added_up = 0;
    for (read(now); now.used > 0; std::swap(now, next)) {
      base::BackgroundTask reading([&] { read(next); });
      count(now);
      for (std::size_t i = 0; i < now.used; ++i) {
        bytes_done_ += now.chunks[i].source_bytes;
        if (rejected_ == 0) first_rejected_ = now.tallies[i].first_rejected;
        records_ += now.tallies[i].records;
        rejected_ += now.tallies[i].rejected;
      }
      if (max_rejected_ == 0) refuse_too_many();
      if (text_bytes_ - added_up >= kWindowBytes) {
        add_up();
        added_up = text_bytes_;
      }
      after_batch(bytes_done_);
      reading.wait();
    }
    refuse_too_many();
    add_up();
    return std::move(total_);
  }
  std::uint64_t text_bytes() const { return text_bytes_; }
  std::int64_t records() const { return records_; }
  std::int64_t rejected() const { return rejected_; }
  const std::string& first_rejected() const { return first_rejected_; }

 private:
  /// What became of a chunk's records.
  struct Tally {
    std::int64_t records = 0;
    std::int64_t rejected = 0;
    std::string first_rejected;
  };
  /// Chunks, whose memory is used again.
  struct Batch {
    std::vector<data::Chunk> chunks;
    std::vector<Tally> tallies;  // of each chunk
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
    batch.tallies.assign(batch.used, Tally());
    std::atomic<std::size_t> next = 0;
    base::parallel_for(std::ssize(workers_), [&](std::int64_t worker) {
      text::PieceCounts& counts = workers_[static_cast<std::size_t>(worker)];
      for (std::size_t i = next++; i < batch.used; i = next++) {
        Tally& tally = batch.tallies[i];
        batch.chunks[i].parse(
            [&](const data::Document& document) {
              counts.add(document.text);
              text_bytes_ += document.text.size();
              if (document.ends) ++tally.records;
            },
            [&](const data::BrokenRecord& record, const data::Position&) {
              ++tally.records;
              if (tally.rejected++ == 0) tally.first_rejected = record.what();
            });
      }
    });
  }

  void refuse_too_many() const {
    const auto records = static_cast<double>(records_);
    if (static_cast<double>(rejected_) <= max_rejected_ * records) return;
    base::fail("{} of {} records are broken, more than --max-rejected {:.4g} %; the first: {}",
               rejected_, records_, max_rejected_ * 100, first_rejected_);
  }

  void add_up() {
    for (text::PieceCounts& counts : workers_) {
      total_.add(counts);
      counts.clear();
    }
    total_.keep_commonest(kMostPieces);
  }

  data::DocumentReader reader_;
  double max_rejected_;
  std::vector<text::PieceCounts> workers_;
  text::PieceCounts total_;
  std::uint64_t bytes_done_ = 0;
  std::atomic<std::uint64_t> text_bytes_ = 0;
  std::int64_t records_ = 0;
  std::int64_t rejected_ = 0;
  std::string first_rejected_;
};

}  // namespace

LearnResult learn(const LearnOptions& options,
                  const std::function<void(const LearnProgress&)>& progress) {
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  if (!(options.max_rejected >= 0 && options.max_rejected <= 1)) {
    base::fail("max rejected: expected a share from 0 to 1, got {}", options.max_rejected);
  }
  check_output(options.out);
  std::vector<data::Input> inputs = data::find_inputs(options.inputs);
  const std::uint64_t total = data::known_bytes(inputs);
  Counting counting(std::move(inputs), options);
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
          .records = counting.records(),
          .rejected = counting.rejected(),
          .first_rejected = counting.first_rejected(),
          .seconds = seconds()};
}

}  // namespace prepare
