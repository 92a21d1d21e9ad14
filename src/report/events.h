#pragma once
/// The bytes of TensorBoard's event files.
///
/// A file is records (TFRecord: length, its masked CRC-32C, data, its masked CRC-32C), each one
/// tensorflow.Event in protocol buffers' wire format.
/// Source: tensorflow/core/lib/io/record_writer.h, tensorboard/compat/proto/{event,summary,
/// histogram,tensor}.proto.

#include <string>

#include "report/report.h"

namespace report {

/// A record around `data`.
std::string tf_record(std::string_view data);

/// Events, without their record. `seconds` is wall time.
std::string version_event(double seconds);
/// Says that a process starts at `step`: readers forget the steps from there on of earlier files.
std::string start_event(double seconds, std::int64_t step);
std::string scalars_event(double seconds, std::int64_t step,
                          std::span<const EventFile::Scalar> scalars);
/// `text` must be UTF-8.
std::string text_event(double seconds, std::int64_t step, const std::string& tag,
                       std::string_view text);
std::string histogram_event(double seconds, std::int64_t step, const std::string& tag,
                            const Histogram& histogram);

}  // namespace report
