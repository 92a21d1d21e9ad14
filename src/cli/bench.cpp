// gpt2 bench: how fast this machine is, and how much of it training, generation and scoring use;
// and how fast the tokenizer is.
//
// The result goes to stdout, as a table or with --json as one object; progress goes to stderr.

#include <memory>

#include "base/error.h"
#include "base/parallel.h"
#include "cli/bench.h"
#include "cli/cpu_choice.h"
#include "cli/model_input.h"
#include "cli/ranges.h"

namespace cli {
namespace {

constexpr double kPeakSeconds = 2;
const std::vector<std::string> kFormats = {"fp32", "bf16", "int8", "int4"};

// ---- options ----------------------------------------------------------------------------------

CLI::IsMember one_of(const std::map<std::string, model::Recompute>& names) {
  std::vector<std::string> keys;
  for (const auto& [name, value] : names) keys.push_back(name);
  return CLI::IsMember(keys);
}

CLI::App& add_bench_command(CLI::App& parent, const std::string& name, const std::string& help,
                            BenchOptions& options) {
  CLI::App& command = *parent.add_subcommand(name, help);
  command.add_flag("--json", options.json, "Print one JSON object instead of a table");
  command.add_flag(
      "--cpu-time", options.cpu_time,
      "Count processor time of the main thread instead of time as it passes: on a busy "
      "machine, with --threads 1");
  add_threads(command);
  add_common(command, options.common);
  return command;
}

void add_shape(CLI::App& command, BenchOptions& o, const std::vector<std::string>& precisions) {
  command.add_option("--preset", o.preset, "Shape of the model")
      ->check(CLI::IsMember(model::preset_names()))
      ->capture_default_str();
  for (const auto& [flag, value, help] :
       {std::tuple{"--layers", &o.layers, "Blocks, instead of the preset's"},
        std::tuple{"--heads", &o.heads, "Attention heads, instead of the preset's"},
        std::tuple{"--channels", &o.channels, "Width, a multiple of the heads"},
        std::tuple{"--vocab-size", &o.vocab_size, "Tokens, instead of the preset's"},
        std::tuple{"--context", &o.context, "Tokens of a window, instead of the preset's"}}) {
    command.add_option(flag, *value, help)->check(kFromOne);
  }
  command.add_option("--precision", o.precision, "Number format")
      ->check(CLI::IsMember(precisions))
      ->capture_default_str();
  add_device(command, o.device_word);
  add_tf32(command, o.tf32);
}

void choose_backend(BenchOptions& o) {
  o.device = choose_device(o.device_word, /*fits=*/o.precision == "bf16" || o.precision == "fp32");
  if (!o.device.is_cuda()) o.cpu = choose_cpu(o.common, o.type());
}

model::Config config_of(const BenchOptions& o) {
  model::Config config = model::preset(o.preset);
  config.layers = o.layers.value_or(config.layers);
  config.heads = o.heads.value_or(config.heads);
  config.channels = o.channels.value_or(config.channels);
  config.vocab_size = o.vocab_size.value_or(config.vocab_size);
  config.context = o.context.value_or(config.context);
  config.end_of_text.reset();
  model::validate(config);
  return config;
}

/// Throws Error where the bench of (micro-batch, context) would not fit.
void check_size(const BenchOptions& o, const model::Config& config, std::int64_t batch,
                bool training) {
  if (batch > (std::int64_t{1} << 31) / config.context) {
    base::fail("--micro-batch: expected micro-batch x context below 2^31, got {} x {}", batch,
               config.context);
  }
  const auto backend = kernels::make_backend(o.device.device, o.type(), o.cpu ? &*o.cpu : nullptr,
                                             o.device.index, o.tf32);
  const std::size_t needed =
      model::Gpt2::plan(config, *backend, batch, config.context, training, o.recomputed()).total();
  base::MemorySource* const memory = backend->memory();
  const std::uint64_t free = memory ? memory->free_bytes() : base::free_memory_bytes();
  if (needed <= free) return;
  base::fail(
      "bench: this shape needs {:.2f} GB of memory, but {:.2f} GB are free; lower --micro-batch, "
      "--context or the model's size",
      static_cast<double>(needed) / kGiga, static_cast<double>(free) / kGiga);
}

/// Shows the steps on a terminal while they go on.
measure::OnStep show_steps(StatusLine& status, std::int64_t steps, double tokens) {
  return [&status, steps, tokens](std::int64_t step, double seconds) {
    status.update(step == 0 ? fmt::format("bench: untimed step: {:.0f} ms", seconds * 1e3)
                            : fmt::format("bench: step {}/{}: {:.0f} ms, {:.1f} tokens/s", step,
                                          steps, seconds * 1e3, tokens / seconds),
                  true);
  };
}

// ---- commands ---------------------------------------------------------------------------------

void run_peak(const BenchOptions& o) {
  print_peak(o, measure::measure_machine(kPeakSeconds, o.clock()));
}

void run_bench_train(BenchOptions& o) {
  const model::Config config = config_of(o);
  choose_backend(o);
  const std::int64_t unit = o.micro_batch * config.context;
  const std::int64_t batch = o.batch_tokens.value_or(unit);
  if (batch % unit != 0) {
    base::fail("--batch-tokens {} is not a multiple of micro-batch x context = {} x {} = {}", batch,
               o.micro_batch, config.context, unit);
  }
  check_size(o, config, o.micro_batch, /*training=*/true);
  StatusLine status(o.common, /*plain_lines=*/false);
  const measure::Training result =
      measure::measure_training({.config = config,
                                 .cpu = o.cpu,
                                 .device = o.device.device,
                                 .device_index = o.device.index,
                                 .tf32 = o.tf32,
                                 .length = config.context,
                                 .micro_batch = o.micro_batch,
                                 .accumulation = batch / unit,
                                 .precision = o.type(),
                                 .recompute = o.recomputed(),
                                 .steps = o.steps,
                                 .clock = o.clock()},
                                show_steps(status, o.steps, static_cast<double>(batch)));
  status.finish();
  print_steps("train", o, config, result, batch / unit);
}

void run_bench_score(BenchOptions& o) {
  const model::Config config = config_of(o);
  choose_backend(o);
  check_size(o, config, o.micro_batch, /*training=*/false);
  StatusLine status(o.common, /*plain_lines=*/false);
  const measure::Training result = measure::measure_scoring(
      {.config = config,
       .cpu = o.cpu,
       .device = o.device.device,
       .device_index = o.device.index,
       .tf32 = o.tf32,
       .length = config.context,
       .batch = o.micro_batch,
       .format = format_of(o.precision),
       .steps = o.steps,
       .clock = o.clock()},
      show_steps(status, o.steps, static_cast<double>(o.micro_batch * config.context)));
  status.finish();
  print_steps("score", o, config, result, 1);
}

void run_bench_generate(BenchOptions& o) {
  const model::Config config = config_of(o);
  choose_backend(o);
  check_size(o, config, 1, /*training=*/false);
  const measure::Generation result = measure::measure_generation({.config = config,
                                                                  .cpu = o.cpu,
                                                                  .device = o.device.device,
                                                                  .device_index = o.device.index,
                                                                  .tf32 = o.tf32,
                                                                  .format = format_of(o.precision),
                                                                  .batch = o.streams,
                                                                  .prompt_tokens = o.prompt_tokens,
                                                                  .depth = o.depth,
                                                                  .tokens = o.tokens,
                                                                  .clock = o.clock()});
  print_generation(o, config, result);
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App& bench = *app.add_subcommand(
      "bench", "Measure this machine, and training, generation, scoring and the tokenizer on it");
  bench.require_subcommand(1);
  const auto options = std::make_shared<BenchOptions>();
  BenchOptions& o = *options;
  add_common(bench, o.common);

  CLI::App& peak = add_bench_command(
      bench, "peak", "What the machine can do: FLOP/s of f32, bf16, int8; bytes/s", o);
  peak.callback([options] { run_peak(*options); });

  CLI::App& training =
      add_bench_command(bench, "train", "Steps of training: forward, backward, clipping, AdamW", o);
  add_shape(training, o, {"fp32", "bf16"});
  training.add_option("--micro-batch", o.micro_batch, "Windows computed at once")
      ->check(kFromOne)
      ->capture_default_str();
  training.add_option("--batch-tokens", o.batch_tokens, "Tokens a step (one micro-batch)")
      ->check(kFromOne);
  training
      .add_option("--recompute", o.recompute,
                  "Compute again instead of keeping: none, gelu or block")
      ->check(one_of(train::recompute_names()))
      ->capture_default_str();
  training.add_option("--steps", o.steps, "Timed steps; an untimed one goes first")
      ->check(kFromOne)
      ->capture_default_str();
  training.callback([options] { run_bench_train(*options); });

  CLI::App& generate =
      add_bench_command(bench, "generate", "A prompt, and tokens one after another", o);
  add_shape(generate, o, kFormats);
  generate.add_option("--prompt-tokens", o.prompt_tokens, "Tokens of the prompt")
      ->check(kFromOne)
      ->capture_default_str();
  generate.add_option("--depth", o.depth, "Tokens before the first one that is generated")
      ->check(kFromZero)
      ->capture_default_str();
  generate.add_option("--batch", o.streams, "Sequences that are continued at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  generate.add_option("-n,--max-tokens", o.tokens, "Tokens to generate")
      ->check(kFromOne)
      ->capture_default_str();
  generate.callback([options] { run_bench_generate(*options); });

  CLI::App& score = add_bench_command(bench, "score", "Losses of batches, without gradients", o);
  add_shape(score, o, kFormats);
  score.add_option("--micro-batch,--batch", o.micro_batch, "Windows computed at once")
      ->check(kFromOne)
      ->capture_default_str();
  score.add_option("--steps", o.steps, "Timed batches; an untimed one goes first")
      ->check(kFromOne)
      ->capture_default_str();
  score.callback([options] { run_bench_score(*options); });

  add_bench_tokenizer(add_bench_command(bench, "tokenizer",
                                        "Text to ids and back: MB/s of one thread and of all", o),
                      o);
}

}  // namespace cli
