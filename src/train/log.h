#pragma once
/// log.jsonl, loss.svg and what is made from it, for the files of this room and their tests.
///
/// A line with `loss` is a step, and every step stands once, in order, however often a run was
/// stopped or killed; lines without are events. Numbers are written with the digits that read back
/// as the same value.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/options.h"
#include "train/watch.h"

namespace train {

/// A step as a line of the log, without the newline.
std::string log_line(const StepReport& report);

/// What a log holds.
struct LogContent {
  std::vector<StepReport> steps;
  bool finished = false;           ///< it has the event "finish"
  std::vector<std::string> lines;  ///< all whole lines, as they are
};

/// Reads a log; a missing file is an empty log. A last line that is cut short (the machine went
/// down) is left out. Throws Error with the line's number for any other line that is not a log's.
LogContent read_log(const base::Path& file);

/// The log and the picture of one run, kept up to date.
class Log {
 public:
  /// Nothing is read or written yet.
  explicit Log(base::Path folder);

  /// Takes up what a former sitting logged: drops the steps >= first_step from the file, at once
  /// and atomically. Returns how many were dropped. Throws Error when steps before it are missing.
  std::int64_t take_up(std::int64_t first_step);
  /// Appends an event: {"event": name, ...details}. What cannot be written (the disk is full) waits
  /// for the next line; trouble() tells why.
  void event(const std::string& name, const Json& details);
  /// Appends a step.
  void step(const StepReport& report);
  /// Draws loss.svg (train and validation loss against tokens), and now and then what else lets the
  /// run be watched; all of it when this is the `last` time of a sitting.
  void draw(bool last = false);
  /// Whom samples and histograms are shown to as well.
  Watch& watch() { return watch_; }
  /// Makes all lines durable. Throws Error when some cannot be written.
  void sync();
  /// Why a line had to wait since the last call.
  std::optional<std::string> trouble() { return std::exchange(trouble_, std::nullopt); }

  std::optional<double> first_loss() const;
  std::optional<double> last_loss() const;
  std::optional<double> last_validation_loss() const;

 private:
  void append(const std::string& line);
  void flush();
  void remember(const StepReport& report);

  base::Path file_;
  base::Path picture_;
  Watch watch_;
  std::deque<std::string> waiting_;  // lines that are not in the file yet
  std::optional<std::string> trouble_;
  std::int64_t steps_ = 0;
  std::vector<double> tokens_, losses_;
  std::vector<double> validation_tokens_, validation_losses_;
};

/// The processor's name, the number of threads and the memory, for the log's first line.
Json host_facts();

}  // namespace train
