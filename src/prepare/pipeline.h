#pragma once
/// Chunks of input -> ids -> shards, by all threads, in order. Private to the room.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "data/data.h"
#include "prepare/dedup.h"
#include "prepare/ordered.h"
#include "prepare/output.h"
#include "prepare/prepare.h"
#include "prepare/rejected.h"
#include "prepare/split.h"
#include "prepare/state.h"
#include "text/text.h"

namespace prepare {

/// A chunk's documents as ids, and its rejected records, in order.
struct Encoded {
  struct Part {
    data::Position next;
    std::size_t ids_end = 0;
    base::Hash128 hash;
    bool starts = true, ends = true;
    bool broken = false;   // the next one of `broken`
    bool answers = false;  // it ends an answer and its document
  };
  std::vector<text::TokenId> ids;
  std::vector<Mark> marks;  // of each id, with masks
  std::vector<Part> parts;
  std::vector<data::BrokenRecord> broken;
  std::uint64_t source_bytes = 0;
  std::uint64_t text_bytes = 0;
};

/// Takes what was encoded, in order: drops duplicates, writes shards, keeps the state. One thread
/// at a time, not always the same.
class Writer {
 public:
  /// `resumable`: the state is saved at each full shard.
  Writer(const Options& options, Output& output, bool resumable, std::uint64_t bytes_total);

  void write(const Encoded& encoded);
  /// Checks the share of rejected records, then completes the shards.
  void finish();

  const State& state() const { return state_; }
  const ShardSequence& train() const { return train_; }
  const ShardSequence& validation() const { return validation_; }
  std::int64_t documents() const { return splitter_.documents(); }
  std::int64_t forgotten() const { return seen_ ? seen_->forgotten() : 0; }
  /// From any thread.
  Progress progress() const;

 private:
  void write_part(const Encoded::Part& part, std::span<const text::TokenId> ids,
                  std::span<const Mark> marks);
  void reject(const data::BrokenRecord& record);
  void save(const data::Position& next);
  void refuse_if_hopeless();
  [[noreturn]] void refuse();

  double max_rejected_;
  Output& output_;
  bool resumable_;
  std::uint64_t bytes_total_;
  State state_;
  RejectedLog rejected_;
  std::optional<SeenDocuments> seen_;
  ShardSequence train_;
  ShardSequence validation_;
  Splitter splitter_;
  std::int64_t saved_milestones_;
  std::atomic<std::uint64_t> bytes_shown_{0};
  std::atomic<std::int64_t> tokens_shown_{0}, documents_shown_{0}, rejected_shown_{0};
};

/// Reads, encodes and writes until the inputs end.
class Pipeline {
 public:
  Pipeline(const std::vector<data::Input>& inputs, const Options& options,
           const text::Tokenizer& tokenizer, text::TokenId end_of_text, Writer& writer);
  /// Calls `tick` now and then, from the calling thread.
  void run(const std::function<void()>& tick);

 private:
  void work(const std::function<void()>& tick);
  bool read(data::Chunk& chunk, std::uint64_t& number);
  bool encode(data::Chunk& chunk, std::uint64_t number, text::Encoder& encoder,
              const std::function<void()>& tick);
  static void encode(const data::Document& document, text::Encoder& encoder, Encoded& encoded);
  void bring(std::uint64_t number, Encoded& encoded, bool last);

  data::DocumentReader reader_;
  const text::Tokenizer& tokenizer_;
  text::TokenId end_of_text_;
  std::size_t workers_;
  Ordered<Encoded> results_;
  std::mutex reading_;  // guards reader_ and chunks_read_
  std::mutex uncut_;    // held while a text that could not be cut is encoded
  std::uint64_t chunks_read_ = 0;
  bool at_end_ = false;
};

}  // namespace prepare
