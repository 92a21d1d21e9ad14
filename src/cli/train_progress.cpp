// The progress line and the loss above it.

#include "cli/train_progress.h"

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "measure/measure.h"

namespace cli {
namespace {

constexpr double kPlainSeconds = 1;  // between two progress lines where stderr is no terminal

/// Share of a full step's work that is done: a third of it are the weights' gradients.
double trained_work(const train::Plan& plan) {
  const auto all = static_cast<double>(plan.config.parameter_count());
  return (2 + std::min(1.0, static_cast<double>(plan.trained_parameters) / all)) / 3;
}

report::Series series_of(const std::string& name, const report::Curve& curve) {
  report::Series series{name, {}, {}};
  for (const report::Point& point : curve.points()) {
    series.x.push_back(point.x);
    series.y.push_back(point.y);
  }
  return series;
}

}  // namespace

Progress::Progress(const CommonOptions& common, const train::Trainer& trainer, double peak)
    : line_(common, /*plain_lines=*/true),
      plan_(trainer.plan()),
      flops_per_token_(measure::training_flops_per_token(plan_.config, plan_.length) *
                       trained_work(plan_)),
      peak_(peak),
      first_(trainer.first_step()),
      begun_(base::seconds(base::Clock::kWall)) {}

void Progress::draw_loss(const base::Path& run) {
  if (!terminal()) return;
  if (first_ > 0) take_earlier(train::read_page(run));
  line_.set_above([this](int columns, int rows) {
    constexpr int kMostColumns = 110, kMostRows = 16;
    constexpr int kRowsLeft = 3;  // for the line, and for what was said before
    const std::array series = {series_of("loss", losses_),
                               series_of("validation", validation_losses_)};
    return report::text_chart(series, static_cast<double>(plan_.steps),
                              std::min(columns - 1, kMostColumns),
                              std::min(rows - kRowsLeft, kMostRows));
  });
}

void Progress::take_earlier(const report::PageRun& page) {
  for (const report::PageCurve& curve : page.curves) {
    if (curve.chart != "loss") continue;
    for (const report::Point& point : curve.curve.points()) {
      if (point.x >= static_cast<double>(first_)) continue;  // will be done again
      (curve.markers ? validation_losses_ : losses_).add(point.x + 1, point.y);
    }
  }
}

void Progress::show(const train::StepReport& r) {
  const std::int64_t done = r.step + 1;
  if (r.targets != 0) losses_.add(static_cast<double>(done), r.loss);
  if (r.validation_loss) {
    validation_ = r.validation_loss;
    validation_losses_.add(static_cast<double>(done), *r.validation_loss);
  }
  const double now = base::seconds(base::Clock::kWall);
  const bool last = done == plan_.steps;
  const bool asked = last || r.step == first_ || r.validation_loss;
  if (!terminal() && !asked && now - shown_ < kPlainSeconds) return;
  shown_ = now;
  const double left =
      (now - begun_) / static_cast<double>(done - first_) * static_cast<double>(plan_.steps - done);
  // What matters most stands first: a narrow terminal cuts the rest off.
  line_.update(
      fmt::format("step {}/{} loss {:.4f} lr {:.1e} norm {:.2f} {} tok/s{} {} left {}{}", done,
                  plan_.steps, r.loss, r.learning_rate, r.grad_norm,
                  human_count(r.tokens_per_second), share(r.tokens_per_second),
                  human_duration(left),
                  progress_bar(static_cast<double>(done) / static_cast<double>(plan_.steps), 12),
                  validation_ ? fmt::format(" val {:.4f}", *validation_) : ""),
      last);
}

/// " (52% of peak)", 6N + 6LCT operations counted a token.
std::string Progress::share(double tokens_per_second) const {
  if (peak_ <= 0) return "";
  return fmt::format(" ({:.2g}% of peak)", 100 * tokens_per_second * flops_per_token_ / peak_);
}

}  // namespace cli
