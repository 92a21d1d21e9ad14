// Protocol buffers by hand: a field is its number and type as a varint, then its value.

#include "report/events.h"

#include <bit>
#include <vector>

#include "base/file.h"

namespace report {
namespace {

/// A message being written.
class Message {
 public:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  void integer(int field, std::int64_t value) {
    key(field, kVarint);
    varint(static_cast<std::uint64_t>(value));
  }
  void number(int field, double value) {
    key(field, kFixed64);
    fixed(std::bit_cast<std::uint64_t>(value), 8);
  }
  void single(int field, float value) {
    key(field, kFixed32);
    fixed(std::bit_cast<std::uint32_t>(value), 4);
  }
  void bytes(int field, std::string_view value) {
    key(field, kDelimited);
    varint(value.size());
    bytes_ += value;
  }
  void message(int field, const Message& value) { bytes(field, value.bytes_); }
  /// repeated double, packed.
  void numbers(int field, std::span<const double> values) {
    Message packed;
    for (const double value : values) packed.fixed(std::bit_cast<std::uint64_t>(value), 8);
    message(field, packed);
  }
  void fixed(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i));
  }
  const std::string& text() const { return bytes_; }

 private:
  static constexpr int kVarint = 0, kFixed64 = 1, kDelimited = 2, kFixed32 = 5;
  void key(int field, int type) { varint(static_cast<std::uint64_t>(field << 3 | type)); }
  std::string bytes_;
};

// Field numbers of tensorflow.Event, .Summary.Value and so on, under their names there.
namespace event {
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
namespace value {
constexpr int kTag = 1, kSimpleValue = 2, kHisto = 5, kTensor = 8, kMetadata = 9;
}
namespace histo {
constexpr int kMin = 1, kMax = 2, kNum = 3, kSum = 4, kSumSquares = 5, kBucketLimit = 6,
              kBucket = 7;
}

Message event_at(double seconds, std::int64_t step) {
  Message message;
  message.number(event::kWallTime, seconds);
  if (step != 0) message.integer(event::kStep, step);  // 0 is the default, which is not written
  return message;
}

std::string with_summary(double seconds, std::int64_t step, const std::vector<Message>& values) {
  Message summary;
  for (const Message& one : values) summary.message(1, one);
  Message message = event_at(seconds, step);
  message.message(event::kSummary, summary);
  return message.text();
}

void append_masked_crc(Message& record, std::string_view bytes) {
  constexpr std::uint32_t kDelta = 0xa282ead8U;
  const std::uint32_t crc = base::crc32c(base::as_bytes(bytes));
  record.fixed(std::rotr(crc, 15) + kDelta, 4);
}

}  // namespace

std::string tf_record(std::string_view data) {
  Message length;
  length.fixed(data.size(), 8);
  Message record = length;
  append_masked_crc(record, length.text());
  Message tail;
  append_masked_crc(tail, data);
  return record.text() + std::string(data) + tail.text();
}

std::string version_event(double seconds) {
  Message message = event_at(seconds, 0);
  message.bytes(event::kFileVersion, "brain.Event:2");
  return message.text();
}

std::string start_event(double seconds, std::int64_t step) {
  constexpr int kStatus = 1, kStart = 1;
  Message log;
  log.integer(kStatus, kStart);
  Message message = event_at(seconds, step);
  message.message(event::kSessionLog, log);
  return message.text();
}

std::string scalars_event(double seconds, std::int64_t step,
                          std::span<const EventFile::Scalar> scalars) {
  std::vector<Message> values;
  for (const auto& [tag, number] : scalars) {
    Message& one = values.emplace_back();
    one.bytes(value::kTag, tag);
    one.single(value::kSimpleValue, static_cast<float>(number));
  }
  return with_summary(seconds, step, values);
}

std::string text_event(double seconds, std::int64_t step, const std::string& tag,
                       std::string_view text) {
  constexpr int kDtype = 1, kShape = 2, kStringVal = 8, kDtString = 7;
  Message dimension;
  dimension.integer(1, 1);
  Message shape;
  shape.message(2, dimension);
  Message tensor;
  tensor.integer(kDtype, kDtString);
  tensor.message(kShape, shape);
  tensor.bytes(kStringVal, text);

  constexpr int kPluginData = 1, kPluginName = 1, kDataClass = 4, kTensorClass = 2;
  Message plugin;
  plugin.bytes(kPluginName, "text");
  Message metadata;
  metadata.message(kPluginData, plugin);
  metadata.integer(kDataClass, kTensorClass);

  Message one;
  one.bytes(value::kTag, tag);
  one.message(value::kTensor, tensor);
  one.message(value::kMetadata, metadata);
  return with_summary(seconds, step, {one});
}

std::string histogram_event(double seconds, std::int64_t step, const std::string& tag,
                            const Histogram& h) {
  std::vector<double> limits, counts;
  for (int i = 0; i < Histogram::kRanges; ++i) {
    const bool last = i + 1 == Histogram::kRanges;
    limits.push_back(last ? h.max : h.min + (h.max - h.min) * (i + 1) / Histogram::kRanges);
    counts.push_back(static_cast<double>(h.counts[static_cast<std::size_t>(i)]));
  }
  Message histogram;
  histogram.number(histo::kMin, h.min);
  histogram.number(histo::kMax, h.max);
  histogram.number(histo::kNum, static_cast<double>(h.count));
  histogram.number(histo::kSum, h.sum);
  histogram.number(histo::kSumSquares, h.sum_of_squares);
  histogram.numbers(histo::kBucketLimit, limits);
  histogram.numbers(histo::kBucket, counts);
  Message one;
  one.bytes(value::kTag, tag);
  one.message(value::kHisto, histogram);
  return with_summary(seconds, step, {one});
}

}  // namespace report
