// Options and data -> a plan: every default, every rule that lowers one, every contradiction.

#include "train/plan.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"

namespace train {
namespace {

// GPT-2's and GPT-3's recipe for the 124m size: half a million tokens a batch, 0.6e-3 (Brown et al.
// 2020, arXiv:2005.14165, table 2.1); warmup over 700 steps is 375 million tokens, appendix B's.
constexpr std::int64_t kBatchTokens = 524288;
constexpr std::int64_t kMicroBatch = 16;
constexpr std::int64_t kWarmupSteps = 700;
constexpr double kLearningRate = 6e-4;
constexpr double kMinimumShare = 10;          // lr / min-lr, same source
constexpr std::int64_t kBatchesOfData = 100;  // a batch is at most a hundredth of the data
constexpr std::int64_t kWarmupShare = 20;     // warmup is at most a twentieth of the steps
constexpr std::int64_t kValidationShare = 20, kValidationEvery = 250;  // about 20 points a curve
constexpr std::int64_t kSampleShare = 4, kSampleEvery = 1000;
constexpr std::int64_t kHistogramShare = 20;  // some 6 MB of a 124M model in all
constexpr std::int64_t kCheckpointShare = 4, kCheckpointEvery = 500;
constexpr std::int64_t kKeepCheckpoints = 3;
// Losses and gradient norms of healthy runs stay within about five deviations of the hundred
// before; the mean of fewer would follow a spike too soon.
constexpr std::int64_t kSpikeWindow = 128, kLeastSpikeWindow = 100, kSpikeRollback = 5;
constexpr double kSpikeDeviations = 6;
constexpr std::uint64_t kSeed = 1337;
constexpr double kMuonLearningRate = 0.01, kMuonMomentum = 0.95;
constexpr double kDecayShare = 0.2;  // Haegele et al. 2024 (arXiv:2405.18392), section 4
// One validation reads two batches' worth of windows within these bounds: a forward pass over them
// costs less than one step, and 64 windows of 1024 tokens tell two digits of the loss.
constexpr std::int64_t kValidationBatches = 2, kFewestWindows = 16, kMostWindows = 64;

// Usual for adapters: PEFT's examples and most recipes since scale A B by 2, whatever the rank.
constexpr double kLoraAlpha = 2;

template <class T>
T set_default(std::optional<T>& option, T value) {
  if (!option) option = value;
  return *option;
}

void require(bool fine, std::string_view name, std::string_view expected, auto got) {
  if (!fine) base::fail("--{}: expected {}, got {}", name, expected, got);
}

void fill_spike_guard(Options& o) {
  set_default(o.spike_guard, true);
  const std::int64_t window = set_default(o.spike_window, kSpikeWindow);
  require(window >= kLeastSpikeWindow, "spike-window",
          fmt::format("at least {}", kLeastSpikeWindow), window);
  const double z = set_default(o.spike_z, kSpikeDeviations);
  require(std::isfinite(z) && z > 0, "spike-z", "more than 0", z);
  const std::int64_t rollback = set_default(o.spike_rollback, kSpikeRollback);
  require(rollback >= 1, "spike-rollback", "at least 1", rollback);
}

void require_absent(bool given, std::string_view name, std::string_view belongs) {
  if (given) base::fail("--{} belongs to --{}; drop it or choose that", name, belongs);
}

void fill_optimizer(Options& o) {
  const double ema = set_default(o.ema, 0.0);
  require(ema >= 0 && ema < 1, "ema", "at least 0 and below 1", ema);
  if (set_default(o.optimizer, model::Optimizer::kAdamW) != model::Optimizer::kMuon) {
    require_absent(o.muon_learning_rate.has_value(), "muon-lr", "optimizer muon");
    require_absent(o.muon_momentum.has_value(), "muon-momentum", "optimizer muon");
    return;
  }
  const double rate = set_default(o.muon_learning_rate, kMuonLearningRate);
  require(std::isfinite(rate) && rate >= 0, "muon-lr", "a number of at least 0", rate);
  const double momentum = set_default(o.muon_momentum, kMuonMomentum);
  require(momentum >= 0 && momentum < 1, "muon-momentum", "at least 0 and below 1", momentum);
}

/// Ranges of the plain numbers, and their defaults.
void fill_numbers(Options& o) {
  const double lr = set_default(o.learning_rate, kLearningRate);
  require(std::isfinite(lr) && lr >= 0, "lr", "a number of at least 0", lr);
  const bool wsd = set_default(o.schedule, Schedule::kCosine) == Schedule::kWsd;
  const double min_lr = set_default(o.min_learning_rate, wsd ? 0 : lr / kMinimumShare);
  require(min_lr >= 0 && min_lr <= lr, "min-lr", fmt::format("0 to the --lr of {}", lr), min_lr);
  const double decay = set_default(o.weight_decay, 0.1);
  require(std::isfinite(decay) && decay >= 0, "weight-decay", "a number of at least 0", decay);
  const double beta1 = set_default(o.beta1, 0.9);
  require(beta1 >= 0 && beta1 < 1, "beta1", "at least 0 and below 1", beta1);
  const double beta2 = set_default(o.beta2, 0.95);
  require(beta2 >= 0 && beta2 < 1, "beta2", "at least 0 and below 1", beta2);
  const double clip = set_default(o.grad_clip, 1.0);
  require(std::isfinite(clip) && clip >= 0, "grad-clip", "a number of at least 0", clip);
  const double dropout = set_default(o.dropout, 0.0);
  require(dropout >= 0 && static_cast<float>(dropout) < 1, "dropout", "at least 0 and below 1",
          dropout);
  const double smoothing = set_default(o.label_smoothing, 0.0);
  require(smoothing >= 0 && smoothing <= 1, "label-smoothing", "0 to 1", smoothing);
  const double z_loss = set_default(o.z_loss, 0.0);
  require(std::isfinite(z_loss) && z_loss >= 0, "z-loss", "a number of at least 0", z_loss);
  set_default(o.precision, base::DType::kBf16);
  set_default(o.tf32, true);
  set_default(o.order, data::Order::kShuffled);
  set_default(o.recompute, model::Recompute::kNone);
  set_default(o.seed, kSeed);
  set_default(o.threads, base::thread_count());
  require(*o.threads >= 1 && *o.threads <= 1024, "threads", "1 to 1024", *o.threads);
  const std::int64_t keep = set_default(o.keep_checkpoints, kKeepCheckpoints);
  require(keep >= 0, "keep-checkpoints", "at least 0", keep);
  const std::int64_t keep_every = set_default(o.keep_every, std::int64_t{0});
  require(keep_every >= 0, "keep-every", "at least 0", keep_every);
  fill_spike_guard(o);
  fill_optimizer(o);
}

void forbid_with_init(bool given, std::string_view name) {
  if (given) {
    base::fail("--{} and --init exclude each other: the shape comes from the model; drop one",
               name);
  }
}

/// The shape of a model that continues `init`.
model::Config config_from_init(Options& o, const DataFacts& facts, const model::Config& init) {
  forbid_with_init(o.preset.has_value(), "preset");
  forbid_with_init(o.layers.has_value(), "layers");
  forbid_with_init(o.heads.has_value(), "heads");
  forbid_with_init(o.channels.has_value(), "channels");
  forbid_with_init(o.vocab_size.has_value(), "vocab-size");
  model::Config config = init;
  config.context = set_default(o.context, init.context);
  require(config.context >= 1, "context", "at least 1", config.context);
  if (config.context > init.context) {
    base::fail("--context {} is longer than the {} positions of {}; choose at most that",
               config.context, init.context, o.init->string());
  }
  if (facts.vocab_size && *facts.vocab_size > config.vocab_size) {
    base::fail(
        "{} has a vocabulary of {}, smaller than the {} of the data in {}; prepare the data "
        "with the model's tokenizer",
        o.init->string(), config.vocab_size, *facts.vocab_size, facts.folder);
  }
  return config;
}

/// The shape of a new model.
model::Config config_from_scratch(Options& o, const DataFacts& facts) {
  model::Config config = model::preset(set_default(o.preset, std::string("124m")));
  config.layers = set_default(o.layers, config.layers);
  config.heads = set_default(o.heads, config.heads);
  config.channels = set_default(o.channels, config.channels);
  config.context = set_default(o.context, config.context);
  config.vocab_size = set_default(o.vocab_size, facts.vocab_size.value_or(config.vocab_size));
  if (facts.vocab_size && config.vocab_size < *facts.vocab_size) {
    base::fail("--vocab-size {} is smaller than the data's vocabulary of {} ({}/manifest.json)",
               config.vocab_size, *facts.vocab_size, facts.folder);
  }
  if (facts.vocab_size) {
    config.end_of_text = facts.end_of_text;
  } else if (config.end_of_text && *config.end_of_text >= config.vocab_size) {
    config.end_of_text.reset();
  }
  model::validate(config);
  return config;
}

/// What training changes.
void choose_tuning(Options& o, Plan& plan) {
  if (o.freeze && o.freeze->empty()) o.freeze.reset();
  if (o.freeze) plan.tuning.frozen = *o.freeze;
  if (o.lora_rank) {
    require(*o.lora_rank >= 1 && *o.lora_rank <= plan.config.channels, "lora-rank",
            fmt::format("1 to the model's {} channels", plan.config.channels), *o.lora_rank);
    const double alpha = set_default(o.lora_alpha, kLoraAlpha * static_cast<double>(*o.lora_rank));
    require(std::isfinite(alpha) && alpha > 0, "lora-alpha", "a number above 0", alpha);
    if (!o.init) {
      base::fail(
          "--lora-rank trains additions to a model that is there; add --init DIR, or drop "
          "--lora-rank to train a new one");
    }
    if (*o.optimizer == model::Optimizer::kMuon) {
      base::fail(
          "--lora-rank and --optimizer muon exclude each other: thin matrices are trained with "
          "AdamW; drop one");
    }
    plan.tuning.lora = {.rank = *o.lora_rank, .alpha = alpha};
  } else {
    require_absent(o.lora_alpha.has_value(), "lora-alpha", "lora-rank");
  }
  plan.trained_parameters = model::trained_count(plan.config, plan.tuning);
}

std::string lowered_to(std::string_view name, std::int64_t from, std::int64_t to,
                       std::string_view why) {
  return fmt::format("--{} lowered from {} to {}: {}", name, from, to, why);
}

void choose_micro_batch(const Options& o, Plan& plan) {
  const std::int64_t length = plan.length;
  const std::int64_t hundredth = plan.train_tokens / kBatchesOfData;
  std::int64_t rows = 0;
  if (!o.batch_tokens) {
    rows = std::clamp<std::int64_t>(hundredth / length, 1, kMicroBatch);
    plan.micro_batch = rows;
    if (rows < kMicroBatch) {
      plan.lowered.push_back(
          lowered_to("micro-batch", kMicroBatch, rows,
                     fmt::format("{} windows of {} are at most a hundredth of {} training tokens",
                                 rows, length, plan.train_tokens)));
    }
    return;
  }
  // The batch was given: as many windows at once as divide it. One that windows of T do not divide
  // is an error of the caller's, which then names multiples of T.
  const std::int64_t windows = *o.batch_tokens / length;
  rows = std::clamp<std::int64_t>(std::min(windows, hundredth / length), 1, kMicroBatch);
  if (*o.batch_tokens % length != 0) rows = 1;
  while (windows % rows != 0) --rows;
  plan.micro_batch = rows;
  if (rows < kMicroBatch) {
    plan.lowered.push_back(lowered_to(
        "micro-batch", kMicroBatch, rows,
        fmt::format("it divides the {} windows of a batch and is at most a hundredth of the data",
                    windows)));
  }
}

void choose_batch(Options& o, Plan& plan) {
  if (o.micro_batch) {
    require(*o.micro_batch >= 1, "micro-batch", "at least 1", *o.micro_batch);
    plan.micro_batch = *o.micro_batch;
  }
  if (o.batch_tokens) require(*o.batch_tokens >= 1, "batch-tokens", "at least 1", *o.batch_tokens);
  if (!o.micro_batch) choose_micro_batch(o, plan);
  require(plan.micro_batch <= (std::int64_t{1} << 31) / plan.length, "micro-batch",
          "micro-batch x context below 2^31", plan.micro_batch);
  const std::int64_t unit = plan.micro_batch * plan.length;
  if (o.batch_tokens) {
    plan.batch_tokens = *o.batch_tokens;
    if (plan.batch_tokens % unit != 0) {
      const std::int64_t below = plan.batch_tokens / unit * unit;
      base::fail(
          "--batch-tokens {} is not a multiple of micro-batch x context = {} x {} = {}; the "
          "nearest valid values are {}{}",
          plan.batch_tokens, plan.micro_batch, plan.length, unit,
          below > 0 ? fmt::format("{} and ", below) : "", below + unit);
    }
  } else {
    const std::int64_t most = std::min(kBatchTokens, plan.train_tokens / kBatchesOfData);
    plan.batch_tokens = std::max<std::int64_t>(most / unit, 1) * unit;
    if (plan.batch_tokens != kBatchTokens) {
      plan.lowered.push_back(fmt::format(
          "--batch-tokens {} from {} to {}: whole micro-batches of {} x {}, at most a hundredth of "
          "{} training tokens where one fits into that",
          plan.batch_tokens < kBatchTokens ? "lowered" : "raised", kBatchTokens, plan.batch_tokens,
          plan.micro_batch, plan.length, plan.train_tokens));
    }
  }
  plan.accumulation = plan.batch_tokens / unit;
  o.micro_batch = plan.micro_batch;
  o.batch_tokens = plan.batch_tokens;
}

void choose_steps(Options& o, Plan& plan) {
  if (o.steps && o.epochs) base::fail("--steps and --epochs exclude each other; drop one");
  if (o.steps) require(*o.steps >= 1, "steps", "at least 1", *o.steps);
  if (!o.steps) {
    const double epochs = o.epochs.value_or(1.0);
    require(epochs > 0 && epochs <= 1e9, "epochs", "more than 0", epochs);
    o.steps = steps_of_epochs(epochs, plan.train_windows, plan.length, plan.batch_tokens);
    o.epochs.reset();
  }
  plan.steps = *o.steps;
  if (!o.warmup_steps) {
    o.warmup_steps = std::min(kWarmupSteps, plan.steps / kWarmupShare);
    if (*o.warmup_steps < kWarmupSteps) {
      plan.lowered.push_back(lowered_to("warmup-steps", kWarmupSteps, *o.warmup_steps,
                                        fmt::format("a twentieth of {} steps", plan.steps)));
    }
  }
  require(*o.warmup_steps >= 0, "warmup-steps", "at least 0", *o.warmup_steps);
  plan.warmup_steps = *o.warmup_steps;
}

/// The steps in which the learning rate falls, of wsd.
void choose_decay(Options& o, Plan& plan) {
  if (*o.schedule != Schedule::kWsd) {
    require_absent(o.decay_steps.has_value(), "decay-steps", "lr-schedule wsd");
    require_absent(o.decay_shape.has_value(), "decay-shape", "lr-schedule wsd");
    return;
  }
  set_default(o.decay_shape, DecayShape::kSqrt);
  const double given = set_default(o.decay_steps, kDecayShare);
  require(given >= 0 && (given < 1 || given == std::floor(given)), "decay-steps",
          "a whole number, or a share of all steps below 1", given);
  const auto steps = static_cast<double>(plan.steps);
  plan.decay_steps =
      static_cast<std::int64_t>(given < 1 ? std::ceil(given * steps) : std::min(given, steps + 1));
  const std::int64_t most = std::max<std::int64_t>(plan.steps - plan.warmup_steps, 0);
  if (given < 1) plan.decay_steps = std::min(plan.decay_steps, most);
  if (plan.decay_steps > most) {
    base::fail("--decay-steps {:.0f} is more than the {} steps after the warmup of {}", given, most,
               plan.warmup_steps);
  }
}

std::int64_t choose_every(std::optional<std::int64_t>& option, std::string_view name,
                          std::int64_t steps, std::int64_t share, std::int64_t most) {
  const std::int64_t every = set_default(option, std::clamp<std::int64_t>(steps / share, 1, most));
  require(every >= 0, name, "at least 0 (0: never)", every);
  return every;
}

std::vector<DataFacts::Part> parts_of(const DataFacts& facts) {
  if (!facts.parts.empty()) return facts.parts;
  return {{facts.folder, facts.train_tokens, facts.validation_tokens, 1}};
}

/// How often, and how many windows of each folder.
void choose_validation(Options& o, Plan& plan, const std::vector<DataFacts::Part>& parts) {
  const std::int64_t most = std::clamp(kValidationBatches * plan.batch_tokens / plan.length,
                                       kFewestWindows, kMostWindows);
  for (const DataFacts::Part& part : parts) {
    const std::int64_t windows =
        std::max<std::int64_t>(0, part.validation_tokens - 1) / plan.length;
    const auto share = static_cast<std::int64_t>(std::ceil(part.share * static_cast<double>(most)));
    plan.validation_shares.push_back(std::min(windows, share));
    plan.validation_windows += plan.validation_shares.back();
  }
  plan.validate_every =
      choose_every(o.validate_every, "val-every", plan.steps, kValidationShare, kValidationEvery);
  if (plan.validation_windows == 0 && plan.validate_every > 0) {
    plan.validate_every = 0;
    plan.lowered.push_back(
        fmt::format("no validation: its {} tokens are fewer than one window of {} + 1",
                    plan.validation_tokens, plan.length));
  }
}

/// As often as samples, where there are tasks at all.
void choose_evaluation(Options& o, Plan& plan) {
  if (o.eval_tasks && o.eval_tasks->empty()) o.eval_tasks.reset();
  if (!o.eval_tasks) {
    if (o.evaluate_every || o.eval_limit) {
      base::fail("--{}: needs --eval-task, which says what to evaluate",
                 o.evaluate_every ? "eval-every" : "eval-limit");
    }
    return;
  }
  plan.evaluate_every =
      choose_every(o.evaluate_every, "eval-every", plan.steps, kSampleShare, kSampleEvery);
  if (o.eval_limit) require(*o.eval_limit >= 1, "eval-limit", "at least 1", *o.eval_limit);
}

}  // namespace

std::int64_t steps_of_epochs(double epochs, std::int64_t train_windows, std::int64_t length,
                             std::int64_t batch_tokens) {
  const double batches =
      epochs * static_cast<double>(train_windows * length) / static_cast<double>(batch_tokens);
  constexpr double kRounding = 1e-9;  // 3 epochs of 1/3 batch are one step, not two
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(batches - kRounding)));
}

Plan resolve(Options& options, const DataFacts& facts, const std::optional<model::Config>& init) {
  Options& o = options;
  fill_numbers(o);
  Plan plan;
  plan.config = init ? config_from_init(o, facts, *init) : config_from_scratch(o, facts);
  choose_tuning(o, plan);
  plan.length = plan.config.context;
  plan.train_tokens = facts.train_tokens;
  plan.validation_tokens = facts.validation_tokens;
  const std::vector<DataFacts::Part> parts = parts_of(facts);
  for (const DataFacts::Part& part : parts) {
    if (part.train_tokens < plan.length + 1) {
      base::fail(
          "{}: {} training tokens are too few for one window of {} + 1; lower --context or "
          "prepare more text",
          part.folder, part.train_tokens, plan.length);
    }
    plan.train_windows += (part.train_tokens - 1) / plan.length;
  }
  choose_batch(o, plan);
  choose_steps(o, plan);
  choose_decay(o, plan);
  plan.learning_rate = *o.learning_rate;
  plan.min_learning_rate = *o.min_learning_rate;

  choose_validation(o, plan, parts);
  plan.sample_every =
      choose_every(o.sample_every, "sample-every", plan.steps, kSampleShare, kSampleEvery);
  plan.histogram_every =
      choose_every(o.histogram_every, "histogram-every", plan.steps, kHistogramShare, plan.steps);
  choose_evaluation(o, plan);
  plan.checkpoint_every = choose_every(o.checkpoint_every, "checkpoint-every", plan.steps,
                                       kCheckpointShare, kCheckpointEvery);
  return plan;
}

void check_memory(const Plan& plan, std::uint64_t free_bytes,
                  const std::function<model::MemoryPlan(std::int64_t)>& needed) {
  const std::size_t total = needed(plan.micro_batch).total();
  if (total <= free_bytes) return;
  std::int64_t fits = plan.micro_batch - 1;
  while (fits > 0 && needed(fits).total() > free_bytes) fits = fits > 64 ? fits / 2 : fits - 1;
  const std::string advice =
      fits > 0
          ? fmt::format("lower --micro-batch from {} to {} or less, or try --recompute block",
                        plan.micro_batch, fits)
          : std::string("choose a smaller model (--preset, --layers, --channels) or --context");
  base::fail("training needs {:.2f} GB of memory, but {:.2f} GB are free; {}",
             static_cast<double>(total) / kGiga, static_cast<double>(free_bytes) / kGiga, advice);
}

}  // namespace train
