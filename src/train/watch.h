#pragma once
/// What lets a run be watched: report.html, loss.png and TensorBoard's files, kept up to date.

#include <optional>
#include <string>

#include "model/model.h"
#include "report/report.h"
#include "train/run_page.h"

namespace train {

class Watch {
 public:
  /// Nothing is read or written yet.
  explicit Watch(base::Path run);

  /// Begins anew at `first_step`; known() then tells of the steps before it, which TensorBoard
  /// knows from earlier files.
  void take_up(std::int64_t first_step);
  void known(const Json& line) { page_.add(line); }
  /// A line that the log has now. Throws Error when an event file cannot be written; the next one
  /// is tried a while later.
  void line(const Json& line);
  /// Text of the model after so many steps.
  void sample(std::int64_t steps_done, const std::string& text);
  /// How the values of each parameter and each gradient are spread after so many steps.
  void histograms(model::Gpt2& model, std::int64_t steps_done);
  /// Draws loss.png from `svg`, and the page; each not more often than every ten seconds, nor than
  /// takes a five hundredth of the time, unless it is the last of a sitting.
  void draw(const std::string& svg, bool last);

 private:
  /// When something may be drawn again.
  struct Pace {
    double next_seconds = 0;
    /// Calls draw() where it is due.
    template <class Draw>
    void draw(bool now, Draw&& draw);
  };
  template <class Write>
  void write_event(std::int64_t step, Write&& write);

  base::Path run_;
  RunPage page_;
  std::optional<report::EventFile> events_;
  std::int64_t next_step_ = 0;
  double retry_seconds_ = 0;  // no event file before this moment
  Pace page_pace_, png_pace_;
};

}  // namespace train
