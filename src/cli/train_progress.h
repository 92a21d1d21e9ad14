#pragma once
/// What 'gpt2 train' shows while it works: the progress line, and the loss above it if asked for.

#include <cstdint>
#include <optional>
#include <string>

#include "cli/cli.h"
#include "report/report.h"
#include "train/train.h"

namespace cli {

/// The progress line: each step on a terminal, about one a second elsewhere.
class Progress {
 public:
  /// `peak`: FLOP/s that the machine can do.
  Progress(const CommonOptions& common, const train::Trainer& trainer, double peak);

  /// Draws the loss above the line, where stderr is a terminal. `run`: where the steps of earlier
  /// sittings are.
  void draw_loss(const base::Path& run);
  void show(const train::StepReport& report);
  /// Makes room for other words, after which the line comes again.
  void interrupt() { line_.make_room(); }
  /// Ends the line.
  void finish() { line_.finish(); }
  /// FLOPs that a token takes.
  double flops_per_token() const { return flops_per_token_; }

 private:
  std::string share(double tokens_per_second) const;
  void take_earlier(const report::PageRun& page);

  StatusLine line_;
  const train::Plan& plan_;
  double flops_per_token_;
  double peak_;
  std::int64_t first_;
  double begun_;
  double shown_ = 0;
  std::optional<double> validation_;
  report::Curve losses_, validation_losses_;  // over steps done
};

}  // namespace cli
