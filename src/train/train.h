#pragma once
/// Steps: schedule, accumulation, clipping, AdamW, logs, checkpoints.
///
/// Law: knows the clock, seeds and steps; reports through structs and writes the run directory, but
/// prints and parses nothing of the command line and knows no device.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "data/data.h"
#include "model/model.h"

namespace train {

enum class Schedule : std::uint8_t { kCosine, kLinear, kConstant };

/// What the user asked for: names are those of the flags and of a config file's keys.
/// An absent optional means: choose by the rule in resolve().
struct Options {
  base::Path data;
  base::Path out;
  std::optional<base::Path> init;      ///< a model directory to start from
  std::optional<std::string> preset;   ///< or a preset's name (default 124m)
  std::optional<std::int64_t> layers, heads, channels, context, vocab_size;  ///< override the preset
  std::optional<std::int64_t> steps;
  std::optional<double> epochs;        ///< instead of steps
  std::optional<std::int64_t> micro_batch;   ///< B (default 16)
  std::optional<std::int64_t> batch_tokens;  ///< default 524288
  double learning_rate = 6e-4;
  std::optional<double> min_learning_rate;   ///< default learning_rate / 10
  std::optional<std::int64_t> warmup_steps;
  Schedule schedule = Schedule::kCosine;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double grad_clip = 1.0;              ///< 0: no clipping
  base::DType precision = base::DType::kBf16;
  data::Order order = data::Order::kShuffled;
  std::optional<std::int64_t> validate_every, sample_every, checkpoint_every;  ///< 0: never
  std::uint64_t seed = 1337;
  int threads = 0;                     ///< what base::thread_count() says; part of a run's identity
  bool resume = false;
  std::optional<double> max_seconds;
};

/// Everything decided: what is written to `out`/train.json and must agree on resume.
struct Plan {
  model::Config config;
  std::int64_t micro_batch = 0;
  std::int64_t length = 0;             ///< T = config.context
  std::int64_t batch_tokens = 0;       ///< a multiple of micro_batch * T
  std::int64_t accumulation = 0;       ///< micro-batches a step
  std::int64_t steps = 0;
  std::int64_t warmup_steps = 0;
  double learning_rate = 0, min_learning_rate = 0;
  std::int64_t validate_every = 0, sample_every = 0, checkpoint_every = 0;
  std::int64_t train_tokens = 0;       ///< in the data
  std::int64_t validation_tokens = 0;
  std::vector<std::string> lowered;    ///< one sentence for each default that was fitted to the data
};

/// Learning rate of a step (from 0): warmup, then the schedule, which reaches `minimum` at `steps`.
///   s < warmup: lr (s + 1) / warmup
///   cosine: min + (lr - min) (1 + cos(pi p)) / 2, p = (s - warmup) / (steps - warmup)
///   linear: lr + (min - lr) p; constant: lr
double learning_rate_at(Schedule schedule, std::int64_t step, std::int64_t steps,
                        std::int64_t warmup, double peak, double minimum);

/// One finished step, as log.jsonl has it.
struct StepReport {
  std::int64_t step = 0;
  double loss = 0;            ///< mean over the whole batch, before the update
  double learning_rate = 0;
  double grad_norm = 0;       ///< before clipping
  std::int64_t tokens = 0;    ///< trained on since the run's beginning, this step included
  double tokens_per_second = 0;
  double milliseconds = 0;
  std::optional<double> validation_loss;  ///< after the update
};

/// What a trainer tells while it works. Every member may be left empty.
struct Callbacks {
  std::function<void(const StepReport&)> on_step;
  std::function<void(const base::Path&)> on_checkpoint;
  /// Something worth a line: "resumed at step 120", "validation takes 3 s".
  std::function<void(const std::string&)> on_note;
  /// Makes one sample of text for the run directory; called every sample_every steps and at the end.
  std::function<std::string(model::Gpt2&, std::int64_t step)> sample;
  /// Polled between micro-batches; true ends the run after the step in progress.
  std::function<bool()> stop_requested;
};

enum class End : std::uint8_t { kFinished, kStopped, kTimeUp };

/// What a run came to.
struct Outcome {
  End end = End::kFinished;
  std::int64_t steps_done = 0;             ///< of plan.steps
  std::optional<double> first_loss, last_loss, last_validation_loss;
  std::optional<base::Path> checkpoint;    ///< the newest one
};

/// A training run in a run directory.
class Trainer {
 public:
  /// Opens the data, decides the plan, checks memory and the run directory, builds or resumes the
  /// model. Throws Error for every contradiction before anything is written.
  explicit Trainer(const Options& options);
  ~Trainer();

  const Plan& plan() const;
  const model::MemoryPlan& memory() const;
  /// What the backend says it runs on.
  std::string backend_description() const;
  model::Gpt2& model();
  /// First step that run() will do: 0, or where a checkpoint left off.
  std::int64_t first_step() const;
  /// Trains to the end, or until stopped; writes the run directory as it goes: log.jsonl, loss.svg,
  /// samples/, checkpoints/, model/. Throws Error when the loss is not finite (before the update).
  Outcome run(const Callbacks& callbacks);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What stands in a run directory, for `gpt2 info`.
struct RunInfo {
  model::Config config;
  std::int64_t steps_planned = 0;
  std::optional<StepReport> last_step;
  std::optional<double> last_validation_loss;
  std::vector<std::string> checkpoints;
};
/// True when `folder` looks like a run directory.
bool is_run(const base::Path& folder);
/// Throws Error when it is one but cannot be read.
RunInfo read_run(const base::Path& folder);

}  // namespace train
