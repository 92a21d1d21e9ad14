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
#include "report/report.h"

namespace train {

enum class Schedule : std::uint8_t {
  kCosine,
  kLinear,
  kConstant,
  kWsd,  ///< warmup, stable, decay
};

/// How the last part of Schedule::kWsd goes down.
enum class DecayShape : std::uint8_t { kSqrt, kLinear };

/// A folder of data, and how much of a mixture comes from it.
struct DataSource {
  base::Path folder;  ///< a prepared folder, or one of llm.c's shards
  double weight = 1;  ///< relative to the others
  bool operator==(const DataSource&) const = default;
};

/// One folder, or several that are mixed.
struct DataMix {
  std::vector<DataSource> sources;

  DataMix() = default;
  DataMix(base::Path folder) : sources{{std::move(folder), 1}} {}  // NOLINT: one is a mixture
  /// "a", or "a=0.7 b=0.3", as the command line has them.
  std::string text(std::string_view between = " ") const;
  bool operator==(const DataMix&) const = default;
};

/// What the user asked for, by flags or by a config file, under the same names (learning_rate is
/// "lr", the rest as spelled, with dashes). An absent value is chosen by resolve()'s rules; a
/// present one is never changed. All values that apply are what RUN/train.json holds.
struct Options {
  std::optional<DataMix> data;
  std::optional<base::Path> out;      ///< the run directory
  std::optional<base::Path> init;     ///< a model directory to start from
  std::optional<std::string> preset;  ///< or a preset's name (default 124m)
  std::optional<std::int64_t> layers, heads, channels, context,
      vocab_size;  ///< override the preset
  std::optional<std::int64_t> steps;
  std::optional<double> epochs;              ///< instead of steps (default: one epoch)
  std::optional<std::int64_t> micro_batch;   ///< B (default 16)
  std::optional<std::int64_t> batch_tokens;  ///< default 524288
  std::optional<double> learning_rate;       ///< "lr", default 6e-4
  std::optional<double> min_learning_rate;   ///< "min-lr", default learning_rate / 10; wsd: 0
  std::optional<std::int64_t> warmup_steps;  ///< default 700
  std::optional<Schedule> schedule;          ///< "lr-schedule", default cosine
  /// Of wsd alone: the last steps, in which the learning rate falls: their number, or below 1 their
  /// share of all steps (default 0.2).
  std::optional<double> decay_steps;
  std::optional<DecayShape> decay_shape;      ///< of wsd alone; default kSqrt
  std::optional<model::Optimizer> optimizer;  ///< default kAdamW
  /// "muon-lr", of the blocks' matrices, scheduled as "lr" is; of muon alone; default 0.01.
  std::optional<double> muon_learning_rate;
  std::optional<double> muon_momentum;  ///< of muon alone; default 0.95
  /// Decay of a moving average of the weights, which is then what validation, samples and
  /// RUN/model take; 0 (default): none.
  std::optional<double> ema;
  /// Names of parameters that stay as they are (model::Tuning::frozen); default none.
  std::optional<std::vector<std::string>> freeze;
  std::optional<std::int64_t> lora_rank;        ///< train adapters alone, of this rank
  std::optional<double> lora_alpha;             ///< default twice the rank
  std::optional<double> weight_decay;           ///< default 0.1
  std::optional<double> beta1, beta2;           ///< default 0.9 and 0.95
  std::optional<double> grad_clip;              ///< default 1; 0: no clipping
  std::optional<double> dropout;                ///< default 0; in [0, 1)
  std::optional<double> label_smoothing;        ///< default 0; in [0, 1]
  std::optional<double> z_loss;                 ///< default 0: its weight
  std::optional<base::DType> precision;         ///< kBf16 (default) or kF32
  std::optional<bool> tf32;                     ///< default true; as kernels::make_backend() says
  std::optional<model::Recompute> recompute;    ///< default kNone; changes no result
  std::optional<data::Order> order;             ///< default shuffled
  std::optional<std::int64_t> validate_every;   ///< "val-every"; 0: never
  std::optional<std::int64_t> sample_every;     ///< 0: never
  std::optional<std::int64_t> histogram_every;  ///< of weights and gradients; 0: never
  /// Tasks that Callbacks::evaluate runs, NAME=FILE each; their meaning is the callback's.
  std::optional<std::vector<std::string>> eval_tasks;
  std::optional<std::int64_t> evaluate_every;    ///< "eval-every"; 0: never
  std::optional<std::int64_t> eval_limit;        ///< of a task's examples; default all
  std::optional<std::int64_t> checkpoint_every;  ///< 0: only when stopped
  std::optional<std::int64_t> keep_checkpoints;  ///< the newest so many (default 3); 0: all
  std::optional<std::int64_t> keep_every;    ///< and those of every so many steps (default 0: none)
  std::optional<bool> spike_guard;           ///< skip updates far out of line (default true)
  std::optional<std::int64_t> spike_window;  ///< updates it compares with, >= 100 (default 128)
  std::optional<double> spike_z;             ///< deviations above their mean (default 6)
  std::optional<std::int64_t> spike_rollback;  ///< so many in a row: back to the last checkpoint
  std::optional<std::uint64_t> seed;           ///< default 1337
  std::optional<int> threads;                  ///< default base::thread_count(); applied by Trainer
  std::optional<double> max_seconds;           ///< "max-time"; not kept in train.json
  bool resume = false;                         ///< not kept in train.json
  kernels::Device device = kernels::Device::kCpu;  ///< not kept in train.json
  int device_index = 0;                            ///< of a CUDA device; not kept in train.json
  /// Asked what to compute with when a run begins; train.json's facts keep the answer, and resuming
  /// asks no more. Empty: the first of kernels::cpu_choices().
  std::function<kernels::CpuChoice(base::DType)> choose_cpu;
};

/// Names of choices, as flags and config files spell them.
const std::map<std::string, Schedule>& schedule_names();
const std::map<std::string, DecayShape>& decay_shape_names();
const std::map<std::string, model::Optimizer>& optimizer_names();
const std::map<std::string, base::DType>& precision_names();
const std::map<std::string, data::Order>& order_names();
const std::map<std::string, model::Recompute>& recompute_names();

/// Seconds of "90", "90s", "30m" or "2h" (fractions too). Throws Error for anything else and for
/// what is not positive.
double parse_duration(std::string_view text);

/// "a,b" as "a" and "b".
std::vector<std::string> comma_separated(std::string_view text);

/// Reads a config file: a JSON object with the flags' names (without dashes in front) as keys. The
/// key "facts", which train.json has, is skipped.
/// Throws Error naming file and key for an unknown key, a wrong type or an unknown choice.
Options read_options(const base::Path& file);

/// Puts what `flags` has over `file`. What excludes one another is replaced as a whole: epochs
/// replaces steps, init replaces preset and shape, and the other way round.
Options overlay(const Options& file, const Options& flags);

/// Everything decided about a run's size and pace.
struct Plan {
  model::Config config;
  model::Tuning tuning;
  std::int64_t trained_parameters = 0;
  std::int64_t micro_batch = 0;
  std::int64_t length = 0;        ///< T = config.context
  std::int64_t batch_tokens = 0;  ///< a multiple of micro_batch * T
  std::int64_t accumulation = 0;  ///< micro-batches a step
  std::int64_t steps = 0;
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;  ///< of wsd
  double learning_rate = 0, min_learning_rate = 0;
  std::int64_t validate_every = 0, sample_every = 0, checkpoint_every = 0;
  std::int64_t histogram_every = 0;
  std::int64_t evaluate_every = 0;
  std::int64_t train_tokens = 0;  ///< in the data
  std::int64_t validation_tokens = 0;
  std::int64_t train_windows = 0;               ///< windows of T in an epoch, of all folders
  std::int64_t validation_windows = 0;          ///< windows of T that one validation takes
  std::vector<std::int64_t> validation_shares;  ///< those of each folder
  std::vector<std::string> lowered;  ///< one sentence for each default that was fitted to the data
};

/// Learning rate of a step (from 0): warmup, then the schedule, which reaches `minimum` at `steps`.
///   s < warmup: lr (s + 1) / warmup
///   cosine: min + (lr - min) (1 + cos(pi p)) / 2, p = (s - warmup) / (steps - warmup)
///   linear: lr + (min - lr) p; constant: lr
///   wsd: lr until `decay.steps` before the end, then with q = (s - (steps - decay)) / decay
///        sqrt: min + (lr - min) (1 - sqrt(q)); linear: lr + (min - lr) q
/// Source of wsd: Hu et al. 2024 (arXiv:2404.06395), section 4; of 1 - sqrt, which was the best
/// there: Haegele et al. 2024 (arXiv:2405.18392), section 3.
struct Decay {
  std::int64_t steps = 0;
  DecayShape shape = DecayShape::kSqrt;
};
double learning_rate_at(Schedule schedule, std::int64_t step, std::int64_t steps,
                        std::int64_t warmup, double peak, double minimum, const Decay& decay = {});

/// Decay of the average of weights in the update of `step` (from 0): min(ema, (1 + s) / (10 + s)),
/// so that what the weights were at first is forgotten soon.
/// Source: TensorFlow's ExponentialMovingAverage, num_updates.
double average_decay_at(double ema, std::int64_t step);

/// Figures of tasks: {"hellaswag": {"acc": 0.31, "acc_norm": 0.33}}.
using Evaluations = std::map<std::string, std::map<std::string, double>>;

/// One finished step, as log.jsonl has it.
struct StepReport {
  std::int64_t step = 0;
  /// Mean cross entropy over the targets that count in the whole batch, before the update: of what
  /// dropout left, but without label smoothing and z-loss.
  double loss = 0;
  double learning_rate = 0;
  double grad_norm = 0;     ///< before clipping
  std::int64_t tokens = 0;  ///< trained on since the run's beginning, this step included
  double tokens_per_second = 0;
  double milliseconds = 0;
  std::optional<double> validation_loss;  ///< after the update
  /// Targets that counted, where the data has masks. A step with none changes nothing, its loss and
  /// its gradients are 0.
  std::optional<std::int64_t> targets;
  bool skipped = false;     ///< a spike: nothing was updated
  Evaluations evaluations;  ///< after the update; what is not finite is left out
};

/// What a trainer tells while it works. Every member may be left empty.
struct Callbacks {
  std::function<void(const StepReport&)> on_step;
  std::function<void(const base::Path&)> on_checkpoint;
  /// Something worth a line: "resumed at step 120", "validation takes 3 s".
  std::function<void(const std::string&)> on_note;
  /// Makes one sample of text for the run directory; called every sample_every steps and at the
  /// end.
  std::function<std::string(model::Gpt2&, std::int64_t step)> sample;
  /// Runs options().eval_tasks; called every evaluate_every steps and at the end.
  std::function<Evaluations(model::Gpt2&, std::int64_t step)> evaluate;
  /// Polled after each step; true ends the run there, with a checkpoint.
  std::function<bool()> stop_requested;
  /// FLOP/s that the machine can do and FLOPs that a token takes, for the log; 0: not known.
  double peak_flops = 0, flops_per_token = 0;
};

enum class End : std::uint8_t { kFinished, kStopped, kTimeUp };

/// What a run came to.
struct Outcome {
  End end = End::kFinished;
  std::int64_t steps_done = 0;  ///< of plan.steps
  std::optional<double> first_loss, last_loss, last_validation_loss;
  std::optional<base::Path> checkpoint;  ///< the newest one
};

/// A training run in a run directory.
class Trainer {
 public:
  /// Opens the data, decides the plan, checks memory and the run directory, builds or resumes the
  /// model. Throws Error for every contradiction before anything is written.
  explicit Trainer(const Options& options);
  ~Trainer();

  const Plan& plan() const;
  /// The effective options: those given, and the rest as resolved.
  const Options& options() const;
  /// The folder whose vocab.json and merges.txt go into the run's model directory: the data's, else
  /// that of `init`; nothing where neither has them.
  std::optional<base::Path> tokenizer_folder() const;
  const model::MemoryPlan& memory() const;
  /// What the backend says it runs on.
  std::string backend_description() const;
  /// Its parameters are those that are trained, not their average.
  model::Gpt2& model();
  /// First step that run() will do: 0, or where a checkpoint left off.
  std::int64_t first_step() const;
  /// True when this continues a run that was begun before.
  bool resumed() const;
  /// True when that run had come to its end: first_step() is plan().steps, run() does nothing.
  bool finished() const;
  /// Trains to the end, or until stopped; writes the run directory as it goes: log.jsonl, loss.svg,
  /// loss.png, report.html, tb/, samples/, checkpoints/, model/. Throws Error when the loss is not
  /// finite (before the update).
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
  bool running = false;   ///< a process is training it just now
  bool finished = false;  ///< all steps are done
  /// Of the newest steps, where there are any; training alone counts.
  std::optional<double> tokens_per_second, seconds_left;
  std::optional<kernels::CpuChoice> cpu;  ///< what it computes with
};
/// What a checkpoint's state says, for `gpt2 info`.
struct CheckpointInfo {
  model::Config config;
  std::int64_t steps_done = 0;
  std::int64_t tokens = 0;
  std::string backend;
  int threads = 0;
};
/// True when `folder` looks like a checkpoint of a run.
bool is_checkpoint(const base::Path& folder);
/// Reads its state; the tensors' files are only looked for, not compared with their checksums.
/// Throws Error naming the file that is missing or cannot be read.
CheckpointInfo read_checkpoint(const base::Path& folder);
/// True when `folder` looks like a run directory.
bool is_run(const base::Path& folder);
/// Throws Error when it is one but cannot be read.
RunInfo read_run(const base::Path& folder);

/// What a run's page shows, from its log and its samples. Throws Error when `run` is no run
/// directory or its log cannot be read.
report::PageRun read_page(const base::Path& run);
/// A row for each step of a run's log, a column for each number; what a step does not have is
/// empty. Throws Error as read_page() does.
report::Table read_table(const base::Path& run);

}  // namespace train
