// The pictures of a run while it goes on.

#include "train/watch.h"

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/error.h"

namespace train {
namespace {

constexpr double kRetrySeconds = 60;         // after an event file that could not be written
constexpr double kFirstDrawSeconds = 2;      // until the first page
constexpr double kLeastDrawSeconds = 10;     // between two drawings
constexpr double kLargestDrawShare = 0.002;  // of the time, for drawing

/// Wall time, as TensorBoard counts it.
double wall_seconds() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since).count();
}

}  // namespace

Watch::Watch(base::Path run) : run_(std::move(run)), page_(run_) {}

void Watch::take_up(std::int64_t first_step) {
  page_ = RunPage(run_);
  events_.reset();
  next_step_ = first_step;
  page_pace_.next_seconds = png_pace_.next_seconds =
      base::seconds(base::Clock::kWall) + kFirstDrawSeconds;
}

template <class Draw>
void Watch::Pace::draw(bool now, Draw&& draw) {
  const double begun = base::seconds(base::Clock::kWall);
  if (!now && begun < next_seconds) return;
  draw();
  const double ended = base::seconds(base::Clock::kWall);
  next_seconds = ended + std::max(kLeastDrawSeconds, (ended - begun) / kLargestDrawShare);
}

/// Calls write(event file, seconds). A file that could not be written may end in half a record, so
/// that another one goes on.
template <class Write>
void Watch::write_event(std::int64_t step, Write&& write) {
  if (base::seconds(base::Clock::kWall) < retry_seconds_) return;
  try {
    if (!events_) events_.emplace(run_ / "tb", wall_seconds(), next_step_);
    write(*events_, wall_seconds());
    events_->flush();  // a killed run may be resumed behind this step, which must not be missing
  } catch (const base::Error&) {
    events_.reset();
    next_step_ = step;
    retry_seconds_ = base::seconds(base::Clock::kWall) + kRetrySeconds;
    throw;
  }
}

void Watch::line(const Json& line) {
  page_.add(line);
  if (!line.contains("loss")) return;
  const auto step = line["step"].get<std::int64_t>();
  auto numbers = numbers_of_line(line);
  const bool empty = line.contains("targets") && line["targets"] == 0;
  std::erase_if(numbers, [&](const report::EventFile::Scalar& number) {
    const std::string& name = number.first;
    return name == "step" || name == "ms" || (empty && (name == "loss" || name == "grad_norm"));
  });
  if (const auto percent = page_.peak().percent(line)) {
    numbers.emplace_back("percent_of_peak", *percent);
  }
  write_event(
      step, [&](report::EventFile& file, double seconds) { file.scalars(seconds, step, numbers); });
}

// What was made after N steps stands at step N - 1, where the log has the N-th step and its
// validation loss: resuming at N takes back neither.

void Watch::sample(std::int64_t steps_done, const std::string& text) {
  write_event(steps_done - 1, [&](report::EventFile& file, double seconds) {
    file.text(seconds, steps_done - 1, "sample", text);
  });
}

void Watch::histograms(model::Gpt2& model, std::int64_t steps_done) {
  write_event(steps_done - 1, [&](report::EventFile& file, double seconds) {
    // What lies on a device is copied: reading it there would bring every page to the host and
    // back.
    base::MemorySource* const memory = model.backend().memory();
    std::vector<float> copy;
    const auto on_host = [&](const float* values, std::size_t count) {
      if (memory == nullptr) return std::span(values, count);
      copy.resize(count);
      memory->copy_out(copy.data(), values, count * sizeof(float));
      return std::span<const float>(copy);
    };
    const auto write = [&](const char* family, const model::ParameterSet& set) {
      set.for_each([&](const model::View& view, const model::ParameterInfo& info) {
        if (view.elements() == 0) return;
        // Without the rows that pad the vocabulary.
        const std::int64_t count = view.elements() / info.shape[0] * info.file_rows;
        const auto values = on_host(view.f32(), static_cast<std::size_t>(count));
        file.histogram(seconds, steps_done - 1, fmt::format("{}/{}", family, info.name),
                       report::histogram_of(values));
      });
    };
    write("weights", model.parameters());
    write("gradients", model.gradients());
  });
}

void Watch::draw(const std::string& svg, bool last) {
  page_pace_.draw(last, [&] {
    const report::PageRun page = page_.page(/*running=*/!last);
    base::write_file(run_ / "report.html", report::html(page.name, std::span(&page, 1), !last));
  });
  png_pace_.draw(last, [&] { report::write_png(run_ / "loss.png", svg); });
}

}  // namespace train
