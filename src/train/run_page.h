#pragma once
/// A run's log as what the report page, TensorBoard and a table show of it.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "report/report.h"
#include "train/options.h"

namespace train {

/// The numbers of a step's line by name, in its order; those of objects inside as "eval/task/key".
/// What is no number (NaN is written as null) is left out.
std::vector<report::EventFile::Scalar> numbers_of_line(const Json& line);

/// Fraction of the machine's peak in percent, from what a start or resume event tells.
struct Peak {
  double flops_per_second = 0, flops_per_token = 0;  ///< 0: not known
  void take(const Json& event);
  std::optional<double> percent(const Json& step_line) const;
};

/// What the page shows of a run, collected line by line in bounded room.
class RunPage {
 public:
  explicit RunPage(base::Path run) : run_(std::move(run)) {}
  /// Takes a line of log.jsonl.
  void add(const Json& line);
  /// All so far; samples are read from the run directory. `running`: a process is at it.
  report::PageRun page(bool running) const;
  const Peak& peak() const { return peak_; }

 private:
  void add_step(const Json& line);
  void add_event(const Json& line);
  void add_point(const std::string& chart, const std::string& name, bool markers, double step,
                 double value);
  std::string state(bool running) const;

  base::Path run_;
  std::vector<report::PageCurve> curves_;
  report::Curve tokens_{500}, minutes_{500};  // of each step
  double milliseconds_ = 0;
  std::vector<report::PageMark> marks_;
  std::vector<report::Fact> configuration_, environment_;
  Peak peak_;
  std::int64_t steps_done_ = 0, steps_planned_ = 0;
  std::string last_event_;
};

}  // namespace train
