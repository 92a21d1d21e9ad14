// Every thread does all of it: reads a chunk (one at a time), encodes it (all at once), and, if its
// chunk is the next one due, writes all that are due. A chunk's text stays in its core's cache, and
// no thread waits for another but to read, or when writing has fallen far behind. A chunk that is a
// row group is read by whoever encodes it, all at once; its ids are brought in parts.

#include "prepare/pipeline.h"

#include <algorithm>
#include <utility>

#include "base/parallel.h"
#include "prepare/cut.h"

namespace prepare {
namespace {

constexpr std::size_t kMaxWorkers = 128;
/// Ids that wait to be written, a thread: covers some tenths of a second of a disk that is slow.
constexpr std::size_t kHeldBytesPerWorker = std::size_t{1} << 26;
/// A longer text that could not be cut is merged at about 50 bytes of memory a byte: one at a time.
constexpr std::size_t kUncutBytes = std::size_t{1} << 20;
/// What an unusual chunk made larger than this is not kept for the next.
constexpr std::size_t kKeptIds = std::size_t{1} << 19;
/// A chunk's ids are brought once there are so many bytes of them: a row group may have no end.
constexpr std::size_t kPartBytes = std::size_t{1} << 20;
constexpr std::size_t kBrokenBytes = 1024;  // of a broken record, about

/// Unwinds an encoder whose ids nobody will take: another thread has failed.
struct Stopped {};

data::ReaderOptions reader_options(const Options& options) {
  data::ReaderOptions reader;
  reader.text_field = options.text_field;
  reader.pieces.last_cut = last_cut;
  reader.hashes = options.drop_duplicates;
  reader.instructions = options.mask_prompts;
  if (options.strict_utf8) {
    reader.accepts = text::is_valid_utf8;
    reader.refusal = "the text is not valid UTF-8";
  }
  return reader;
}

std::size_t worker_count() {
  return std::min(static_cast<std::size_t>(base::thread_count()), kMaxWorkers);
}

std::size_t bytes_of(const Encoded& encoded) {
  return encoded.ids.size() * sizeof(text::TokenId) + encoded.marks.size() * sizeof(Mark) +
         encoded.parts.size() * sizeof(Encoded::Part) + encoded.broken.size() * kBrokenBytes;
}

std::size_t memory_of(const Encoded& encoded) {
  return encoded.ids.capacity() * sizeof(text::TokenId) + encoded.marks.capacity() * sizeof(Mark) +
         encoded.parts.capacity() * sizeof(Encoded::Part) + encoded.broken.size() * kBrokenBytes +
         1;
}

void clear(Encoded& encoded) {
  if (encoded.ids.capacity() > kKeptIds) encoded.ids = {};
  encoded.ids.clear();
  if (encoded.marks.capacity() > kKeptIds) encoded.marks = {};
  encoded.marks.clear();
  encoded.parts.clear();
  encoded.broken.clear();
  encoded.source_bytes = 0;
  encoded.text_bytes = 0;
}

}  // namespace

Pipeline::Pipeline(const std::vector<data::Input>& inputs, const Options& options,
                   const text::Tokenizer& tokenizer, text::TokenId end_of_text, Writer& writer)
    : reader_(inputs, reader_options(options)),
      tokenizer_(tokenizer),
      end_of_text_(end_of_text),
      workers_(worker_count()),
      results_([&writer](Encoded& encoded) { writer.write(encoded); },
               workers_ * kHeldBytesPerWorker, workers_ * 2) {
  if (writer.state().position != data::Position()) reader_.seek(writer.state().position);
}

void Pipeline::run(const std::function<void()>& tick) {
  base::parallel_for(static_cast<std::int64_t>(workers_), [&](std::int64_t worker) {
    try {
      work(worker == 0 ? tick : [] {});
    } catch (...) {
      results_.stop();
      throw;
    }
  });
}

void Pipeline::work(const std::function<void()>& tick) {
  text::Encoder encoder(tokenizer_);
  data::Chunk chunk;
  std::uint64_t number = 0;
  while (results_.wait_for_room() && read(chunk, number) && encode(chunk, number, encoder, tick)) {
  }
}

bool Pipeline::read(data::Chunk& chunk, std::uint64_t& number) {
  const std::lock_guard lock(reading_);
  if (at_end_) return false;
  at_end_ = !reader_.next(chunk);
  number = chunks_read_++;
  return !at_end_;
}

/// False when work has been stopped.
bool Pipeline::encode(data::Chunk& chunk, std::uint64_t number, text::Encoder& encoder,
                      const std::function<void()>& tick) try {
  Encoded encoded = results_.reuse();
  clear(encoded);
  const auto bring_when_full = [&] {
    if (bytes_of(encoded) < kPartBytes) return;
    bring(number, encoded, /*last=*/false);
    tick();
    if (!results_.wait_for_turn(number)) throw Stopped();
  };
  chunk.parse(
      [&](const data::Document& document) {
        if (document.starts) encoded.ids.push_back(end_of_text_);
        {
          std::unique_lock uncut(uncut_, std::defer_lock);
          if (document.text.size() > kUncutBytes) uncut.lock();
          encode(document, encoder, encoded);
        }
        encoded.text_bytes += document.text.size();
        encoded.parts.push_back(
            {document.next, encoded.ids.size(), document.hash, document.starts, document.ends,
             false,
             !document.segments.empty() && document.ends && document.segments.back().learnt});
        bring_when_full();
      },
      [&](const data::BrokenRecord& record, const data::Position& next) {
        encoded.parts.push_back({next, encoded.ids.size(), {}, true, true, true});
        encoded.broken.push_back(record);
        bring_when_full();
      });
  encoded.source_bytes = chunk.source_bytes;
  bring(number, encoded, /*last=*/true);
  tick();
  return true;
} catch (const Stopped&) {
  return false;
}

/// Leaves an empty one in its place.
void Pipeline::bring(std::uint64_t number, Encoded& encoded, bool last) {
  const std::size_t size = memory_of(encoded);
  results_.bring(number, std::move(encoded), size, last);
  if (last) return;
  encoded = results_.reuse();
  clear(encoded);
}

void Pipeline::encode(const data::Document& document, text::Encoder& encoder, Encoded& encoded) {
  if (document.segments.empty()) {
    encoder.encode(document.text, encoded.ids);
    return;
  }
  if (document.starts) encoded.marks.push_back(Mark::kBoundary);
  std::string_view rest = document.text;
  for (const data::Segment& segment : document.segments) {
    encoder.encode(rest.substr(0, segment.bytes), encoded.ids);
    encoded.marks.resize(encoded.ids.size(), segment.learnt ? Mark::kLearnt : Mark::kGiven);
    rest.remove_prefix(segment.bytes);
  }
}

}  // namespace prepare
