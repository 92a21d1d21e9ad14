// A training run: the loop over steps, and what it leaves behind.

#include <cmath>
#include <exception>
#include <new>

#include "base/clock.h"
#include "base/error.h"
#include "train/trainer_state.h"

namespace train {
namespace {

constexpr double kDrawSeconds = 2;  // between two drawings of loss.svg

/// A folder that holds both of the tokenizer's files.
bool has_tokenizer(const base::Path& folder) {
  return std::filesystem::exists(folder / "vocab.json") &&
         std::filesystem::exists(folder / "merges.txt");
}

void tell(const Callbacks& callbacks, const std::string& note) {
  if (callbacks.on_note) callbacks.on_note(note);
}

}  // namespace

/// Writes what a run begins with, or goes on with.
void Trainer::State::start(const Callbacks& callbacks, const std::optional<base::Path>& tokenizer) {
  for (const std::string& note : notes) tell(callbacks, note);
  base::create_folders(out);
  if (!resumed) {
    lock.emplace(out);
    require_free_folder(out);  // again: another process may have been quicker
  }
  remove_temporaries(out);
  write_record(out, {options, facts});
  writer.emplace(out, Retention{*options.keep_checkpoints, *options.keep_every}, tokenizer);
  if (const auto warning = space_warning()) tell(callbacks, *warning);
  const std::int64_t dropped = log->take_up(first_step);
  Json details = {{"step", first_step}, {"backend", backend_description}, {"host", host_facts()}};
  if (callbacks.peak_flops > 0) {
    details["peak_flops"] = callbacks.peak_flops;
    details["flops_per_token"] = callbacks.flops_per_token;
  }
  if (!resumed) {
    details["parameters"] = plan.config.parameter_count();
    details["trained_parameters"] = plan.trained_parameters;
    details["config"] = config_to_json(plan.config);
    details["options"] = options_json(options);
    log->event("start", details);
    return;
  }
  details["checkpoint"] = checkpoint ? checkpoint->folder.filename().string() : "none";
  details["dropped_lines"] = dropped;
  log->event("resume", details);
  tell(callbacks, checkpoint ? fmt::format("resumed at step {} from {}", first_step,
                                           checkpoint->folder.string())
                             : std::string("resumed at step 0: there is no checkpoint yet"));
}

/// Targets of the next step that count, before any of them is read.
std::int64_t Trainer::State::count_targets() const {
  if (!has_masks()) return plan.batch_tokens;
  data::Mixer ahead = *loader;
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < plan.accumulation; ++i) {
    count += ahead.count_targets();
    ahead.skip();
  }
  return count;
}

/// Forward and backward of all micro-batches: the mean loss over the step's targets, the gradient's
/// norm.
void Trainer::State::accumulate(std::int64_t step, std::int64_t targets_in_all,
                                StepReport& report) {
  const double mean = 1.0 / static_cast<double>(targets_in_all);
  model->zero_gradients();
  std::vector<std::vector<data::LoaderState>> positions;
  for (std::int64_t i = 0; i < plan.accumulation; ++i) {
    positions.push_back(loader->state());
    loader->next(inputs, targets);
    const model::StepRows rows{.step = step, .first_row = i * plan.micro_batch * plan.length};
    model->queue_forward_backward(inputs, targets, static_cast<float>(mean), rows);
  }
  // Until here nothing has waited for a device; now it is waited for once, and has both.
  report.grad_norm = model->gradient_norm();
  const std::vector<double> sums = model->take_losses();
  double sum = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (!std::isfinite(sums[i])) {
      fail_not_finite(step, "loss", sums[i],
                      fmt::format("micro-batch {} of {}, {}", i + 1, plan.accumulation,
                                  place(positions[i], true)));
    }
    sum += sums[i];
  }
  report.loss = sum / static_cast<double>(targets_in_all);
  if (!std::isfinite(report.grad_norm)) {
    fail_not_finite(step, "gradient norm", report.grad_norm,
                    "the batch before " + place(loader->state(), false));
  }
}

/// One step: micro-batches, clipping, update. Throws Error before the update when the loss or the
/// gradient is not finite. Without a target that counts there is nothing to do.
StepReport Trainer::State::train_step(std::int64_t step) {
  const double begun = base::seconds(base::Clock::kWall);
  const std::int64_t count = count_targets();
  StepReport report;
  report.step = step;
  if (has_masks()) report.targets = count;
  if (count > 0) {
    accumulate(step, count, report);
    update(step, report);
  } else {
    for (std::int64_t i = 0; i < plan.accumulation; ++i) loader->skip();
  }
  report.learning_rate = rate_at(step);
  const double seconds = base::seconds(base::Clock::kWall) - begun;
  report.tokens = tokens_after(step + 1);
  report.tokens_per_second = static_cast<double>(plan.batch_tokens) / std::max(seconds, 1e-9);
  report.milliseconds = seconds * 1e3;
  return report;
}

void Trainer::State::fail_not_finite(std::int64_t step, std::string_view what, double value,
                                     const std::string& where) {
  log->event("not_finite", {{"step", step}, {"what", what}, {"where", where}});
  log->draw(/*last=*/true);
  base::fail(
      "step {}: the {} is {} ({}); training stopped; try a lower --lr than {} or more "
      "--warmup-steps than {}, and look at the text of that batch",
      step, what, value, where, plan.learning_rate, plan.warmup_steps);
}

/// What a run cannot know of: a device that fell off, a kernel that failed.
void Trainer::State::fail_broken(const Callbacks& callbacks, std::int64_t step,
                                 const std::string& what) {
  writer->wait();  // the checkpoint under way is a copy of its own
  take_results(callbacks);
  log->event("broken", {{"step", step}, {"what", what}});
  base::fail("step {}: {}; {}", step, what,
             checkpoint ? fmt::format("{} is whole, --resume goes on from there",
                                      checkpoint->folder.string())
                        : std::string("there was no checkpoint yet"));
}

/// "epoch 0, window 3 of 26", and of which folder where there are several.
std::string Trainer::State::place(const std::vector<data::LoaderState>& states,
                                  bool windows) const {
  std::string text;
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (i > 0) text += "; ";
    if (states.size() > 1) text += sources[i].folder + " ";
    text += fmt::format("epoch {}, window {}", states[i].epoch, states[i].window);
    if (windows) text += fmt::format(" of {}", loader->loaders()[i].windows());
  }
  return text;
}

/// The folders' validation losses, averaged by their shares; those without one do not count.
std::optional<double> Trainer::State::validate() {
  double sum = 0;
  double shares = 0;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto loss = validate(sources[i], plan.validation_shares[i]);
    if (!loss) continue;
    sum += sources[i].share * *loss;
    shares += sources[i].share;
  }
  if (shares == 0) return std::nullopt;
  return sum / shares;
}

/// Mean loss over the targets that count in windows spread evenly over a validation split: the same
/// ones every time. Nothing where none counts.
std::optional<double> Trainer::State::validate(const Source& source, std::int64_t windows) {
  const std::int64_t length = plan.length;
  const std::int64_t all = (source.validation.tokens() - 1) / length;
  std::vector<std::int32_t> window(static_cast<std::size_t>(length + 1));
  double sum = 0;
  std::int64_t counted = 0;
  for (std::int64_t done = 0; done < windows;) {
    const std::int64_t rows = std::min(plan.micro_batch, windows - done);
    for (std::int64_t row = 0; row < rows; ++row, ++done) {
      const std::int64_t first = all * done / windows * length;
      source.validation.read(first, plan.config.vocab_size, window);
      std::copy(window.begin(), window.end() - 1, inputs.begin() + row * length);
      std::copy(window.begin() + 1, window.end(), targets.begin() + row * length);
      const auto begin = static_cast<std::size_t>(row * length);
      const auto size = static_cast<std::size_t>(length);
      source.validation.ignore_given(first + 1, std::span(targets).subspan(begin, size));
      counted += source.validation.count_learnt(first + 1, length);
    }
    const auto count = static_cast<std::size_t>(rows * length);
    sum += model->evaluate(std::span(inputs).first(count), std::span(targets).first(count), rows,
                           length, std::span(losses).first(count));
  }
  if (counted == 0) return std::nullopt;
  return sum / static_cast<double>(counted);
}

void Trainer::State::write_sample(const Callbacks& callbacks, std::int64_t steps_done) {
  const std::string text = with_average([&] { return callbacks.sample(*model, steps_done); });
  try {
    base::create_folders(out / "samples");
    base::write_file(out / "samples" / fmt::format("step_{:08}.txt", steps_done), text);
    log->watch().sample(steps_done, text);
  } catch (const base::Error& error) {
    warn(callbacks, std::string(error.what()) + "; training goes on");
  }
}

/// The gradients are still those of the step that was done.
void Trainer::State::write_histograms(const Callbacks& callbacks, std::int64_t steps_done) {
  try {
    log->watch().histograms(*model, steps_done);
  } catch (const base::Error& error) {
    warn(callbacks, std::string(error.what()) + "; training goes on");
  }
}

/// Steps from `done` on, until the end or until something ends them; counts them in `done`.
End Trainer::State::loop(const Callbacks& callbacks, std::int64_t& done) {
  const double begun = base::seconds(base::Clock::kWall);
  const double limit = options.max_seconds.value_or(HUGE_VAL);
  const auto due = [&](std::int64_t every) {
    return every > 0 && (done % every == 0 || done == plan.steps);
  };
  End end = End::kFinished;
  while (done < plan.steps && end == End::kFinished) {
    StepReport report = train_step(done);
    ++done;
    if (due(plan.validate_every)) {
      report.validation_loss = with_average([&] { return validate(); });
    }
    if (callbacks.evaluate && due(plan.evaluate_every)) {
      report.evaluations = with_average([&] { return callbacks.evaluate(*model, done); });
    }
    log->step(report);
    if (callbacks.on_step) callbacks.on_step(report);
    if (report.validation_loss && !std::isfinite(*report.validation_loss)) {
      fail_not_finite(report.step, "validation loss", *report.validation_loss, "after its update");
    }
    draw(callbacks);
    if (report.skipped) {
      const std::int64_t before = done;
      done = after_spike(callbacks, report, done);
      if (done < before) continue;
    }
    if (report.targets != 0 && due(plan.histogram_every)) write_histograms(callbacks, done);
    if (callbacks.sample && due(plan.sample_every)) write_sample(callbacks, done);
    if (done < plan.steps) {
      if (callbacks.stop_requested && callbacks.stop_requested()) {
        end = End::kStopped;
      } else if (base::seconds(base::Clock::kWall) - begun >= limit) {
        end = End::kTimeUp;
      }
    }
    const bool keep = due(plan.checkpoint_every) || end != End::kFinished;
    const bool is_best = take_best(report, done) && plan.checkpoint_every > 0;
    if (keep || is_best) write_checkpoint(callbacks, done, {.numbered = keep, .best = is_best});
    take_results(callbacks);
  }
  model->backend().finish();  // what fails in the last update fails here
  return end;
}

/// Draws the curve now and then. A picture that cannot be written stops nothing.
void Trainer::State::draw(const Callbacks& callbacks, bool last) {
  if (const auto trouble = log->trouble()) warn(callbacks, *trouble + "; training goes on");
  if (!last && base::seconds(base::Clock::kWall) - last_drawn <= kDrawSeconds) return;
  last_drawn = base::seconds(base::Clock::kWall);
  try {
    log->draw(last);
  } catch (const base::Error& error) {
    warn(callbacks, std::string(error.what()) + "; training goes on");
  }
}

/// Waits for what is being written, and writes what ends a sitting.
void Trainer::State::finish(const Callbacks& callbacks, End end, std::int64_t steps_done,
                            const std::optional<base::Path>& tokenizer) {
  if (end != End::kFinished || plan.checkpoint_every > 0) end_writing(callbacks, steps_done);
  // Without checkpoints, or killed between the last one and the model.
  if (end == End::kFinished && model_step != steps_done) {
    save_run_model(out, average ? *average : model->parameters(), tokenizer);
  }
  Json details = Json::object();
  details["step"] = steps_done;
  if (end != End::kFinished) details["reason"] = end == End::kTimeUp ? "max-time" : "signal";
  log->event(end == End::kFinished ? "finish" : "stop", details);
  draw(callbacks, /*last=*/true);
  log->sync();
}

// ---- door -------------------------------------------------------------------------------------

Trainer::Trainer(const Options& options) : state_(std::make_unique<State>(options)) {}
Trainer::~Trainer() = default;

const Plan& Trainer::plan() const { return state_->plan; }
const Options& Trainer::options() const { return state_->options; }
const model::MemoryPlan& Trainer::memory() const { return state_->memory; }
std::string Trainer::backend_description() const { return state_->backend_description; }
model::Gpt2& Trainer::model() { return *state_->model; }
std::int64_t Trainer::first_step() const { return state_->first_step; }
bool Trainer::resumed() const { return state_->resumed; }
bool Trainer::finished() const { return state_->finished; }

std::optional<base::Path> Trainer::tokenizer_folder() const {
  const Options& options = state_->options;
  for (const DataSource& source : options.data->sources) {
    if (has_tokenizer(source.folder)) return source.folder;
  }
  if (options.init && has_tokenizer(*options.init)) return options.init;
  return std::nullopt;
}

Outcome Trainer::run(const Callbacks& callbacks) {
  State& s = *state_;
  Outcome outcome;
  outcome.steps_done = s.first_step;
  if (s.finished) {
    const LogContent content = read_log(s.out / "log.jsonl");
    if (!content.steps.empty()) {
      outcome.first_loss = content.steps.front().loss;
      outcome.last_loss = content.steps.back().loss;
      outcome.last_validation_loss = content.steps.back().validation_loss;
    }
  } else {
    const std::optional<base::Path> tokenizer = tokenizer_folder();
    s.start(callbacks, tokenizer);
    try {
      outcome.end = s.loop(callbacks, outcome.steps_done);
    } catch (const base::Error&) {
      throw;
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      s.fail_broken(callbacks, outcome.steps_done, error.what());
    }
    s.finish(callbacks, outcome.end, outcome.steps_done, tokenizer);
    outcome.first_loss = s.log->first_loss();
    outcome.last_loss = s.log->last_loss();
    outcome.last_validation_loss = s.log->last_validation_loss();
  }
  if (s.checkpoint) outcome.checkpoint = s.checkpoint->folder;
  return outcome;
}

}  // namespace train
