// gpt2 train: options, the header, signals, what to do next.

#include "train/train.h"

#include <csignal>
#include <filesystem>
#include <limits>
#include <memory>

#include "base/clock.h"
#include "base/error.h"
#include "base/parallel.h"
#include "cli/cli.h"
#include "cli/cpu_choice.h"
#include "cli/device.h"
#include "cli/model_input.h"
#include "cli/ranges.h"
#include "cli/train_progress.h"
#include "cli/train_tasks.h"
#include "generate/generate.h"
#include "measure/measure.h"
#include "text/text.h"

namespace cli {
namespace {

constexpr std::int64_t kSampleTokens = 128;

struct TrainCommand {
  CommonOptions common;
  train::Options options;
  std::vector<std::string> data, freeze, eval_tasks;
  std::optional<std::string> out, init, config, max_time, schedule, precision, recompute, order;
  std::optional<std::string> optimizer, decay_shape;
  std::string device;
  bool dashboard = false;
};

// ---- options ----------------------------------------------------------------------------------

template <class T>
CLI::IsMember one_of(const std::map<std::string, T>& names) {
  std::vector<std::string> keys;
  for (const auto& [name, value] : names) keys.push_back(name);
  return CLI::IsMember(keys);
}

// Named, since the help would show the upper bound otherwise.

void add_run_options(CLI::App& command, TrainCommand& t) {
  train::Options& o = t.options;
  command
      .add_option("-d,--data", t.data,
                  "Folder of token shards, from 'gpt2 prepare'; given several times, as "
                  "FOLDER=WEIGHT, windows of all folders are mixed in these proportions")
      ->allow_extra_args(false);
  command.add_option("-o,--out", t.out, "Run directory to make (or to go on with: --resume)");
  command.add_flag("--resume", o.resume, "Go on with the run in --out, as if it never stopped");
  command.add_option("--config", t.config,
                     "JSON file of options, such as a run's train.json; flags win over it");
  command.add_option("--steps", o.steps, "Steps to train (default: one epoch)")->check(kFromOne);
  command.add_option("--epochs", o.epochs, "Instead of --steps: passes over the data")
      ->check(CLI::PositiveNumber)
      ->excludes("--steps");
  command.add_option("--max-time", t.max_time, "Stop with a checkpoint after 90s, 30m or 2h");
  command.add_option("--val-every", o.validate_every, "Steps between validations; 0: never")
      ->check(kFromZero);
  command.add_option("--sample-every", o.sample_every, "Steps between samples of text; 0: never")
      ->check(kFromZero);
  add_task_options(command, t.eval_tasks, o);
  command
      .add_option("--histogram-every", o.histogram_every,
                  "Steps between histograms of weights and gradients, for TensorBoard; 0: never")
      ->check(kFromZero);
  command
      .add_option("--checkpoint-every", o.checkpoint_every, "Steps between checkpoints; 0: never")
      ->check(kFromZero);
  command.add_option("--keep-checkpoints", o.keep_checkpoints, "Newest to keep (3); 0: all")
      ->check(kFromZero);
  command
      .add_option("--keep-every", o.keep_every, "Keep those of every so many steps too (0: none)")
      ->check(kFromZero);
  command.add_flag("--dashboard", t.dashboard, "On a terminal: draw the loss above the progress");
  command.add_option("--seed", o.seed, "Of initialisation and order (1337)");
  command.add_option("--threads", o.threads, "Default: every processor this process may use")
      ->check(CLI::Range(1, 1024));
  add_common(command, t.common);
}

void add_model_shape(CLI::App& command, TrainCommand& t) {
  train::Options& o = t.options;
  CLI::Option* init = command.add_option("--init", t.init, "Model directory to start from");
  command.add_option("--preset", o.preset, "Shape of a new model (124m)")
      ->check(CLI::IsMember(model::preset_names()))
      ->excludes(init);
  for (const auto& [flag, value, help] :
       {std::tuple{"--layers", &o.layers, "Blocks, instead of the preset's"},
        std::tuple{"--heads", &o.heads, "Attention heads, instead of the preset's"},
        std::tuple{"--channels", &o.channels, "Width, a multiple of the heads"},
        std::tuple{"--vocab-size", &o.vocab_size, "At least the data's (default)"}}) {
    command.add_option(flag, *value, help)->check(kFromOne)->excludes(init);
  }
  command.add_option("--context", o.context, "Tokens a window (with --init: at most the model's)")
      ->check(kFromOne);
}

void add_guard_options(CLI::App& command, TrainCommand& t) {
  train::Options& o = t.options;
  command.add_flag("--spike-guard,!--no-spike-guard", o.spike_guard,
                   "Skip updates whose loss or gradient norm is far above the recent ones (on)");
  command.add_option("--spike-window", o.spike_window, "Updates it compares with (128)")
      ->check(CLI::Range(std::int64_t{100}, INT64_MAX, "AT LEAST 100"));
  command.add_option("--spike-z", o.spike_z, "Standard deviations above their mean (6)")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--spike-rollback", o.spike_rollback,
                  "Spikes in a row that lead back to the last checkpoint, and past their data (5)")
      ->check(kFromOne);
}

void add_optimizer_options(CLI::App& command, TrainCommand& t) {
  train::Options& o = t.options;
  command
      .add_option("--optimizer", t.optimizer,
                  "adamw (default), or muon for the blocks' matrices with adamw for the rest")
      ->check(one_of(train::optimizer_names()));
  command.add_option("--muon-lr", o.muon_learning_rate, "Peak learning rate of these (0.01)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--muon-momentum", o.muon_momentum, "Muon's momentum (0.95)")
      ->check(CLI::Range(0.0, 1.0));
  command
      .add_option("--ema", o.ema,
                  "Decay of an average of the weights that validation, samples and OUT/model take "
                  "(0: none)")
      ->check(CLI::Range(0.0, 1.0));
}

void add_step_options(CLI::App& command, TrainCommand& t) {
  train::Options& o = t.options;
  command.add_option("--micro-batch", o.micro_batch, "Windows computed at once (16)")
      ->check(kFromOne);
  command.add_option("--batch-tokens", o.batch_tokens, "Tokens a step (524288)")->check(kFromOne);
  command.add_option("--lr", o.learning_rate, "Peak learning rate (6e-4)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--min-lr", o.min_learning_rate, "Learning rate at the end (lr / 10)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--warmup-steps", o.warmup_steps, "Steps of linear warmup (700)")
      ->check(kFromZero);
  command.add_option("--lr-schedule", t.schedule, "cosine (default), linear, constant or wsd")
      ->check(one_of(train::schedule_names()));
  command
      .add_option("--decay-steps", o.decay_steps,
                  "Last steps of wsd, in which the rate falls; below 1: their share (0.2)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--decay-shape", t.decay_shape, "How it falls: sqrt (default) or linear")
      ->check(one_of(train::decay_shape_names()));
  command
      .add_option("--freeze", t.freeze,
                  "What stays as it is, separated by commas: embeddings, blocks, blocks=0-5, "
                  "attention, mlp, layernorm, biases, or names as 'h.0.*' or wte.weight")
      ->type_name("NAMES");
  command
      .add_option("--lora-rank", o.lora_rank,
                  "Train low-rank adapters of all matrices in the blocks, and nothing else; needs "
                  "--init")
      ->check(kFromOne);
  command.add_option("--lora-alpha", o.lora_alpha, "Adapters count alpha / rank fold (2 x rank)")
      ->check(CLI::PositiveNumber);
  command.add_option("--weight-decay", o.weight_decay, "Of matrices and embeddings (0.1)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--beta1", o.beta1, "AdamW's (0.9)")->check(CLI::Range(0.0, 1.0));
  command.add_option("--beta2", o.beta2, "AdamW's (0.95)")->check(CLI::Range(0.0, 1.0));
  command.add_option("--grad-clip", o.grad_clip, "Largest gradient norm (1); 0: no clipping")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--dropout", o.dropout,
                  "Of embeddings, branches and attention, from 0 (default) to below 1: for data "
                  "seen many times")
      ->check(CLI::Range(0.0, 1.0));
  command
      .add_option("--label-smoothing", o.label_smoothing,
                  "Part of each target spread over all tokens (0)")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--z-loss", o.z_loss, "Weight of log^2 Z in the gradient (0); PaLM's: 1e-4")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--precision", t.precision, "bf16 (default) or fp32")
      ->check(one_of(train::precision_names()));
  add_device(command, t.device);
  add_tf32(command, t.options.tf32);
  command
      .add_option("--recompute", t.recompute,
                  "Compute again instead of keeping: none (default), gelu, block; less memory, "
                  "the same results")
      ->check(one_of(train::recompute_names()));
  command.add_option("--order", t.order, "shuffled (default) or sequential")
      ->check(one_of(train::order_names()));
}

/// FOLDER=WEIGHT, or a folder, of which the name may hold a '='.
train::DataSource data_source(const std::string& word) {
  const std::size_t equals = word.rfind('=');
  if (equals == std::string::npos || std::filesystem::exists(word)) return {word, 1};
  double weight = 0;
  const std::string number = word.substr(equals + 1);
  const bool valid = CLI::detail::lexical_cast(number, weight) && weight > 0 &&
                     weight <= std::numeric_limits<double>::max();
  if (!valid || equals == 0) {
    fail_usage(
        fmt::format("--data {}: expected a folder, or FOLDER=WEIGHT with a weight above 0", word));
  }
  return {word.substr(0, equals), weight};
}

/// The flags, laid over the config file where one is given.
train::Options gather(const TrainCommand& t) {
  train::Options flags = t.options;
  if (!t.data.empty()) {
    flags.data.emplace();
    for (const std::string& word : t.data) flags.data->sources.push_back(data_source(word));
  }
  if (t.out) flags.out = *t.out;
  if (t.init) flags.init = *t.init;
  if (!t.eval_tasks.empty()) flags.eval_tasks = absolute_task_words(t.eval_tasks);
  if (!t.freeze.empty()) {
    flags.freeze.emplace();
    for (const std::string& words : t.freeze) {
      for (std::string& word : train::comma_separated(words)) {
        flags.freeze->push_back(std::move(word));
      }
    }
  }
  if (t.schedule) flags.schedule = train::schedule_names().at(*t.schedule);
  if (t.decay_shape) flags.decay_shape = train::decay_shape_names().at(*t.decay_shape);
  if (t.optimizer) flags.optimizer = train::optimizer_names().at(*t.optimizer);
  if (t.precision) flags.precision = train::precision_names().at(*t.precision);
  if (t.recompute) flags.recompute = train::recompute_names().at(*t.recompute);
  if (t.order) flags.order = train::order_names().at(*t.order);
  if (t.max_time) {
    try {
      flags.max_seconds = train::parse_duration(*t.max_time);
    } catch (const base::Error& error) {  // a value out of range is wrong usage
      fail_usage("--" + std::string(error.what()));
    }
  }
  const train::Options all =
      t.config ? train::overlay(train::read_options(*t.config), flags) : flags;
  if (!all.out) fail_usage("--out is required: the run directory");
  if (!all.data && !all.resume) fail_usage("--data is required: a folder from 'gpt2 prepare'");
  return all;
}

// ---- signals ----------------------------------------------------------------------------------

/// The first SIGINT or SIGTERM, 0 before it: the one thing a handler can leave.
volatile std::sig_atomic_t stop_signal = 0;

extern "C" void on_stop_signal(int signal) {
  stop_signal = signal;
  std::signal(SIGINT, SIG_DFL);  // a second one kills at once
  std::signal(SIGTERM, SIG_DFL);
}

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

// ---- what the user sees -----------------------------------------------------------------------

std::string every(std::int64_t steps) {
  return steps > 0 ? fmt::format("every {}", steps) : std::string("never");
}

template <class T>
std::string name_in(const std::map<std::string, T>& names, const T& value) {
  for (const auto& [name, choice] : names) {
    if (choice == value) return name;
  }
  return "?";
}

/// "1.2M parameters (0.95 %): LoRA of rank 8, alpha 16; frozen: blocks=0-5".
std::string trained_text(const train::Plan& plan, const train::Options& o) {
  const auto count = static_cast<double>(plan.trained_parameters);
  std::string text = fmt::format("{} parameters ({:.2g} % of the model's)", human_count(count),
                                 100 * count / static_cast<double>(plan.config.parameter_count()));
  if (o.lora_rank) text += fmt::format(": LoRA of rank {}, alpha {}", *o.lora_rank, *o.lora_alpha);
  if (!o.freeze) return text;
  text += "; frozen:";
  for (const std::string& word : *o.freeze) text += " " + word;
  return text;
}

void print_header(const CommonOptions& common, const train::Trainer& trainer,
                  std::uint64_t free_bytes) {
  const train::Plan& plan = trainer.plan();
  const train::Options& o = trainer.options();
  const model::Config& c = plan.config;
  const auto line = [&](const char* what, const std::string& text) {
    note(common, fmt::format("{:<8} {}", what, text));
  };
  line("run", o.out->string() + (trainer.resumed() ? " (resumed)" : ""));
  line("model", fmt::format("{} parameters: {} layers, {} heads, {} channels, context {}, "
                            "vocabulary {}; {}",
                            human_count(static_cast<double>(c.parameter_count())), c.layers,
                            c.heads, c.channels, c.context, c.vocab_size,
                            o.init ? "from " + o.init->string() : "from random weights"));
  if (o.lora_rank || o.freeze) line("trained", trained_text(plan, o));
  line("data", fmt::format("{}: {} training tokens, {} validation tokens, {}", o.data->text(),
                           plan.train_tokens, plan.validation_tokens,
                           name_in(train::order_names(), *o.order)));
  line("steps",
       fmt::format("{} of {} tokens ({} x micro-batch {} x context {}): {:.3g} epochs", plan.steps,
                   plan.batch_tokens, plan.accumulation, plan.micro_batch, plan.length,
                   static_cast<double>(plan.steps) * static_cast<double>(plan.batch_tokens) /
                       static_cast<double>(plan.train_tokens)));
  line("adamw",
       fmt::format("lr {:g} to {:g} ({}, warmup {}), weight decay {}, betas {} {}, clip {}",
                   plan.learning_rate, plan.min_learning_rate,
                   name_in(train::schedule_names(), *o.schedule), plan.warmup_steps,
                   *o.weight_decay, *o.beta1, *o.beta2, *o.grad_clip));
  if (*o.dropout > 0 || *o.label_smoothing > 0 || *o.z_loss > 0) {
    line("against", fmt::format("overfitting: dropout {}, label smoothing {}, z-loss {}",
                                *o.dropout, *o.label_smoothing, *o.z_loss));
  }
  if (o.optimizer == model::Optimizer::kMuon) {
    line("muon", fmt::format("lr {:g}, momentum {} for the blocks' matrices", *o.muon_learning_rate,
                             *o.muon_momentum));
  }
  if (*o.ema > 0) {
    line("ema",
         fmt::format("{}: validation, samples and the model are of averaged weights", *o.ema));
  }
  line("every", fmt::format("validation {} ({} windows), samples {}, checkpoints {}",
                            every(plan.validate_every), plan.validation_windows,
                            every(plan.sample_every), every(plan.checkpoint_every)));
  line("memory",
       fmt::format("{} needed, {} free", human_bytes(static_cast<double>(trainer.memory().total())),
                   human_bytes(static_cast<double>(free_bytes))));
  line("machine",
       fmt::format("{}, {} threads, {}, seed {}", trainer.backend_description(), *o.threads,
                   name_in(train::precision_names(), *o.precision), *o.seed));
  for (const std::string& sentence : plan.lowered) note(common, sentence);
  if (o.device == kernels::Device::kCpu && o.precision == base::DType::kBf16 &&
      !kernels::bf16_products_in_hardware()) {
    note(common, "this processor has no bf16 products: bf16 is converted to fp32 on the way in");
  }
}

/// Text from the model as it is: from <|endoftext|> on, or ids where there is no tokenizer.
std::string make_sample(model::Gpt2& model, const std::optional<text::Tokenizer>& tokenizer,
                        std::uint64_t seed, std::int64_t step) {
  const std::int32_t begin = model.config().end_of_text.value_or(0);
  generate::Options options;
  options.max_tokens = kSampleTokens;
  options.seed = seed;
  options.stream = static_cast<std::uint64_t>(step);
  std::string result;
  generate::run(model, std::span(&begin, 1), options, [&](std::int32_t id) {
    if (tokenizer && static_cast<std::size_t>(id) < tokenizer->vocab_size()) {
      result += tokenizer->token_bytes(static_cast<text::TokenId>(id));
    } else {
      result += fmt::format("{} ", id);
    }
    return true;
  });
  return result + "\n";
}

void print_end(const CommonOptions& common, const train::Trainer& trainer,
               const train::Outcome& outcome, double seconds) {
  const std::string run = trainer.options().out->string();
  const std::int64_t steps = trainer.plan().steps;
  if (outcome.end == train::End::kFinished) {
    note(common, fmt::format("finished {} steps in {}: loss {:.4f} at first, {:.4f} at last{}",
                             steps, human_duration(seconds), outcome.first_loss.value_or(0),
                             outcome.last_loss.value_or(0),
                             outcome.last_validation_loss
                                 ? fmt::format(", validation {:.4f}", *outcome.last_validation_loss)
                                 : ""));
  } else {
    note(common, fmt::format("stopped after step {} of {} with a checkpoint in {}",
                             outcome.steps_done, steps, outcome.checkpoint->string()));
  }
  note(common, fmt::format("model    {}/model", run));
  note(common, fmt::format("picture  {}/loss.svg", run));
  note(common, fmt::format("report   {}/report.html; for TensorBoard: {}/tb", run, run));
  note(common, fmt::format("log      {}/log.jsonl", run));
  if (outcome.end == train::End::kFinished) {
    note(common, fmt::format("go on:   gpt2 generate --model {}/model", run));
    note(common, fmt::format("         gpt2 train --data {} --init {}/model --out NEW",
                             trainer.options().data->text(" --data "), run));
  } else {
    note(common, fmt::format("resume:  gpt2 train --out {} --resume", run));
  }
}

/// FLOP/s that the run's device can do just now, measured and told in a tenth of a second.
double measure_peak(const CommonOptions& common, const train::Options& options) {
  const base::DType precision = *options.precision;
  measure::Series windows;
  if (options.device == kernels::Device::kCuda) {
    windows.add(measure::measure_product_peak(*kernels::make_backend(
        options.device, precision, nullptr, options.device_index, *options.tf32)));
  } else {
    constexpr int kWindows = 3;
    kernels::LimitMeter meter;
    for (int i = 0; i < kWindows; ++i) {
      windows.add(meter.measure(measure::limit_of(precision), 0.03));
    }
  }
  note(common, fmt::format("peak     {:.0f} GFLOP/s in {}, measured just now: what shares of it "
                           "refer to",
                           windows.largest() / 1e9, base::name_of(precision)));
  return windows.largest();
}

void run_train(const TrainCommand& t) {
  train::Options options = gather(t);
  const DeviceChoice device = choose_device(t.device, /*fits=*/true);
  options.device = device.device;
  options.device_index = device.index;
  options.choose_cpu = [&](base::DType type) { return choose_cpu(t.common, type); };
  const double begun = base::seconds(base::Clock::kWall);
  const std::uint64_t free_bytes = base::free_memory_bytes();
  train::Trainer trainer(options);
  if (trainer.finished()) {
    note(t.common, fmt::format("the run in {} is finished: all of its {} steps are done",
                               trainer.options().out->string(), trainer.plan().steps));
    return;
  }
  print_header(t.common, trainer, free_bytes);
  std::optional<text::Tokenizer> tokenizer;
  if (const auto folder = trainer.tokenizer_folder()) tokenizer = load_tokenizer(*folder);
  const std::vector<OpenTask> tasks = open_run_tasks(t.common, trainer, tokenizer);

  train::Callbacks callbacks;
  callbacks.peak_flops = measure_peak(t.common, trainer.options());
  Progress progress(t.common, trainer, callbacks.peak_flops);
  callbacks.flops_per_token = progress.flops_per_token();
  if (t.dashboard) progress.draw_loss(*trainer.options().out);
  callbacks.on_step = [&](const train::StepReport& report) { progress.show(report); };
  callbacks.on_note = [&](const std::string& text) {
    progress.interrupt();
    note(t.common, text);
  };
  callbacks.sample = [&](model::Gpt2& model, std::int64_t step) {
    return make_sample(model, tokenizer, *trainer.options().seed, step);
  };
  if (!tasks.empty()) {
    callbacks.evaluate = [&](model::Gpt2& model, std::int64_t step) {
      train::Evaluations evaluations = run_tasks(tasks, model);
      callbacks.on_note(fmt::format("step {}: {}", step, evaluations_line(evaluations)));
      return evaluations;
    };
  }
  callbacks.stop_requested = [] { return stop_signal != 0; };
  catch_stop_signals();
  const train::Outcome outcome = trainer.run(callbacks);
  progress.finish();
  print_end(t.common, trainer, outcome, base::seconds(base::Clock::kWall) - begun);
  if (outcome.end == train::End::kStopped) throw ExitCode{128 + stop_signal};
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "Train a GPT-2 on prepared shards");
  const auto state = std::make_shared<TrainCommand>();
  add_run_options(*command, *state);
  add_model_shape(*command, *state);
  add_step_options(*command, *state);
  add_optimizer_options(*command, *state);
  add_guard_options(*command, *state);
  command->footer(
      "Defaults that do not fit small data are lowered, and said: micro-batch and batch-tokens to\n"
      "at most a hundredth of the training tokens, warmup to a twentieth of the steps. All\n"
      "effective values are in OUT/train.json.");
  command->callback([state] { run_train(*state); });
}

}  // namespace cli
