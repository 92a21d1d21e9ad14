// gpt2 bench: how fast this machine is, and how much of it training, generation and scoring use.
//
// The result goes to stdout, as a table or with --json as one object; progress goes to stderr.

#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "cli/cli.h"
#include "measure/measure.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiga = 1e9;
constexpr double kMebi = 1024 * 1024;
constexpr double kPeakSeconds = 2;

const CLI::Range kFromZero(std::int64_t{0}, INT64_MAX, "NONNEGATIVE");
const CLI::Range kFromOne(std::int64_t{1}, INT64_MAX, "POSITIVE");

struct BenchOptions {
  CommonOptions common;
  bool json = false;
  bool cpu_time = false;
  std::string preset = "124m";
  std::optional<std::int64_t> layers, heads, channels, vocab_size, context;
  std::string precision = "bf16";
  std::int64_t micro_batch = 1;
  std::optional<std::int64_t> batch_tokens;
  std::int64_t steps = 5;
  std::int64_t prompt_tokens = 512;
  std::int64_t depth = 0;
  std::int64_t tokens = 128;

  base::Clock clock() const { return cpu_time ? base::Clock::kThread : base::Clock::kWall; }
  base::DType type() const { return precision == "bf16" ? base::DType::kBf16 : base::DType::kF32; }
};

// ---- options ----------------------------------------------------------------------------------

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

void add_shape(CLI::App& command, BenchOptions& o) {
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
  command.add_option("--precision", o.precision, "bf16 or fp32")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
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

void check_memory(const model::Config& config, base::DType type, std::int64_t batch,
                  bool training) {
  const auto backend = kernels::make_backend(kernels::Device::kCpu, type);
  const std::size_t needed =
      model::Gpt2::plan(config, *backend, batch, config.context, training).total();
  const std::uint64_t free = base::free_memory_bytes();
  if (needed <= free) return;
  base::fail(
      "bench: this shape needs {:.2f} GB of memory, but {:.2f} GB are free; lower --micro-batch, "
      "--context or the model's size",
      static_cast<double>(needed) / kGiga, static_cast<double>(free) / kGiga);
}

// ---- what is told -----------------------------------------------------------------------------

double mebibytes(std::uint64_t bytes) { return static_cast<double>(bytes) / kMebi; }

Json shape_json(const char* what, const BenchOptions& o, const model::Config& config) {
  return {{"bench", what},
          {"preset", o.preset},
          {"layers", config.layers},
          {"heads", config.heads},
          {"channels", config.channels},
          {"vocab_size", config.vocab_size},
          {"context", config.context},
          {"parameters", config.parameter_count()},
          {"precision", o.precision},
          {"threads", base::thread_count()},
          {"isa", kernels::instruction_set()},
          {"clock", o.cpu_time ? "cpu" : "wall"}};
}

Json operations_json(const std::vector<measure::Operation>& operations) {
  Json rows = Json::array();
  for (const measure::Operation& row : operations) {
    rows.push_back({{"name", row.name},
                    {"calls", row.calls},
                    {"ms", row.milliseconds},
                    {"gflops", row.flops_per_second / kGiga},
                    {"gbytes_per_second", row.bytes_per_second / kGiga},
                    {"fraction_of_roofline", row.fraction_of_roofline}});
  }
  return rows;
}

void print_json(const Json& json) { write_output(json.dump() + "\n"); }

/// "-" where an operation has none of it.
std::string cell(double value, const char* format) {
  return value > 0 ? fmt::format(fmt::runtime(format), value) : "-";
}

std::string table_of(const std::vector<measure::Operation>& operations) {
  double all = 0;
  for (const measure::Operation& row : operations) all += row.milliseconds;
  std::string text = fmt::format("{:<30} {:>6} {:>10} {:>7} {:>9} {:>8} {:>9}\n", "operation",
                                 "calls", "ms", "share", "GFLOP/s", "GB/s", "roofline");
  for (const measure::Operation& row : operations) {
    text += fmt::format("{:<30} {:>6g} {:>10.3f} {:>6.1f}% {:>9} {:>8} {:>9}\n", row.name,
                        row.calls, row.milliseconds, 100 * row.milliseconds / std::max(all, 1e-12),
                        cell(row.flops_per_second / kGiga, "{:.0f}"),
                        cell(row.bytes_per_second / kGiga, "{:.1f}"),
                        cell(100 * row.fraction_of_roofline, "{:.1f}%"));
  }
  return text;
}

std::string line(const char* what, const std::string& text) {
  return fmt::format("{:<10} {}\n", what, text);
}

std::string shape_lines(const model::Config& c, const std::string& backend) {
  return line("model", fmt::format("{} parameters: {} layers, {} heads, {} channels, context {}, "
                                   "vocabulary {}; random weights",
                                   human_count(static_cast<double>(c.parameter_count())), c.layers,
                                   c.heads, c.channels, c.context, c.vocab_size)) +
         line("machine", fmt::format("{}, {} threads", backend, base::thread_count()));
}

std::string memory_line(std::uint64_t resident, std::uint64_t planned) {
  return line("memory", fmt::format("{:.0f} MiB resident at its highest, {:.0f} MiB planned",
                                    mebibytes(resident), mebibytes(planned)));
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

// ---- peak -------------------------------------------------------------------------------------

void run_peak(const BenchOptions& o) {
  const measure::Machine machine = measure::measure_machine(kPeakSeconds, o.clock());
  if (o.json) {
    print_json({{"bench", "peak"},
                {"threads", base::thread_count()},
                {"isa", machine.instruction_set},
                {"clock", o.cpu_time ? "cpu" : "wall"},
                {"f32_gflops", machine.f32 / kGiga},
                {"bf16_gflops", machine.bf16 / kGiga},
                {"int8_gops", machine.int8 / kGiga},
                {"read_bytes_per_second", machine.read},
                {"copy_bytes_per_second", machine.copy}});
    return;
  }
  write_output(
      line("machine",
           fmt::format("cpu, {}, {} threads", machine.instruction_set, base::thread_count())) +
      line("f32", fmt::format("{:.0f} GFLOP/s", machine.f32 / kGiga)) +
      line("bf16", fmt::format("{:.0f} GFLOP/s", machine.bf16 / kGiga)) +
      line("int8", fmt::format("{:.0f} GOP/s", machine.int8 / kGiga)) +
      line("read", fmt::format("{:.1f} GB/s", machine.read / kGiga)) +
      line("copy", fmt::format("{:.1f} GB/s, bytes read and written", machine.copy / kGiga)));
}

// ---- train and score --------------------------------------------------------------------------

void print_steps(const char* what, const BenchOptions& o, const model::Config& config,
                 const measure::Training& r, std::int64_t accumulation) {
  const double flops = r.tokens_per_second() * r.flops_per_token;
  const double best_fraction = r.best_tokens_per_second() * r.flops_per_token / r.peaks.median();
  if (o.json) {
    Json json = shape_json(what, o, config);
    json.update({{"backend", r.backend},
                 {"micro_batch", o.micro_batch},
                 {"batch_tokens", r.tokens_per_step},
                 {"steps", r.step_seconds.values().size()},
                 {"tokens_per_second", r.tokens_per_second()},
                 {"best_tokens_per_second", r.best_tokens_per_second()},
                 {"step_ms", r.step_seconds.median() * 1e3},
                 {"best_step_ms", r.step_seconds.smallest() * 1e3},
                 {"gflop_per_token", r.flops_per_token / kGiga},
                 {"gflops", flops / kGiga},
                 {"fraction_of_peak", r.fraction_of_peak()},
                 {"best_fraction_of_peak", best_fraction},
                 {"peak_gflops", r.peaks.median() / kGiga},
                 {"best_peak_gflops", r.peaks.largest() / kGiga},
                 {"read_bytes_per_second", r.read_bytes_per_second},
                 {"rss_mib", mebibytes(r.resident_bytes)},
                 {"planned_mib", mebibytes(r.planned_bytes)},
                 {"operations", operations_json(r.operations)}});
    return print_json(json);
  }
  write_output(
      shape_lines(config, r.backend) +
      line("step", fmt::format("{:.1f} ms median, {:.1f} best; {} steps of {:.0f} tokens ({} x "
                               "micro-batch {} x context {})",
                               r.step_seconds.median() * 1e3, r.step_seconds.smallest() * 1e3,
                               r.step_seconds.values().size(), r.tokens_per_step, accumulation,
                               o.micro_batch, config.context)) +
      line("speed", fmt::format("{:.1f} tokens/s median, {:.1f} best", r.tokens_per_second(),
                                r.best_tokens_per_second())) +
      line("peak", fmt::format("{:.1f} % median, {:.1f} % best: {:.0f} of {:.0f} GFLOP/s, {:.4g} "
                               "GFLOP a token; memory reads {:.1f} GB/s",
                               100 * r.fraction_of_peak(), 100 * best_fraction, flops / kGiga,
                               r.peaks.median() / kGiga, r.flops_per_token / kGiga,
                               r.read_bytes_per_second / kGiga)) +
      memory_line(r.resident_bytes, r.planned_bytes) + "\n" + table_of(r.operations));
}

void run_bench_train(const BenchOptions& o) {
  const model::Config config = config_of(o);
  const std::int64_t unit = o.micro_batch * config.context;
  const std::int64_t batch = o.batch_tokens.value_or(unit);
  if (batch % unit != 0) {
    base::fail("--batch-tokens {} is not a multiple of micro-batch x context = {} x {} = {}", batch,
               o.micro_batch, config.context, unit);
  }
  check_memory(config, o.type(), o.micro_batch, /*training=*/true);
  StatusLine status(o.common, /*plain_lines=*/false);
  const measure::Training result =
      measure::measure_training({.config = config,
                                 .length = config.context,
                                 .micro_batch = o.micro_batch,
                                 .accumulation = batch / unit,
                                 .precision = o.type(),
                                 .steps = o.steps,
                                 .clock = o.clock()},
                                show_steps(status, o.steps, static_cast<double>(batch)));
  status.finish();
  print_steps("train", o, config, result, batch / unit);
}

void run_bench_score(const BenchOptions& o) {
  const model::Config config = config_of(o);
  check_memory(config, o.type(), o.micro_batch, /*training=*/false);
  StatusLine status(o.common, /*plain_lines=*/false);
  const measure::Training result = measure::measure_scoring(
      {.config = config,
       .length = config.context,
       .batch = o.micro_batch,
       .precision = o.type(),
       .steps = o.steps,
       .clock = o.clock()},
      show_steps(status, o.steps, static_cast<double>(o.micro_batch * config.context)));
  status.finish();
  print_steps("score", o, config, result, 1);
}

// ---- generate ---------------------------------------------------------------------------------

void print_generation(const BenchOptions& o, const model::Config& config,
                      const measure::Generation& r) {
  if (o.json) {
    Json json = shape_json("generate", o, config);
    json.update({{"backend", r.backend},
                 {"prompt_tokens", r.prompt_tokens},
                 {"prompt_tokens_per_second", r.prompt_tokens_per_second()},
                 {"best_prompt_tokens_per_second", r.prompt_tokens / r.prompt_seconds.smallest()},
                 {"prompt_ms", r.prompt_seconds.median() * 1e3},
                 {"fraction_of_peak", r.prompt_fraction_of_peak()},
                 {"peak_gflops", r.peaks.median() / kGiga},
                 {"depth", o.depth},
                 {"steps", r.token_seconds.values().size()},
                 {"tokens_per_second", r.tokens_per_second()},
                 {"best_tokens_per_second", r.best_tokens_per_second()},
                 {"token_ms", r.token_seconds.median() * 1e3},
                 {"weight_bytes_per_token", r.weight_bytes},
                 {"bytes_per_second", r.bytes_per_second()},
                 {"read_bytes_per_second", r.reads.median()},
                 {"fraction_of_read_bandwidth", r.fractions.median()},
                 {"rss_mib", mebibytes(r.resident_bytes)},
                 {"planned_mib", mebibytes(r.planned_bytes)},
                 {"prompt_operations", operations_json(r.prompt_operations)},
                 {"operations", operations_json(r.operations)}});
    return print_json(json);
  }
  write_output(
      shape_lines(config, r.backend) +
      line("prompt",
           fmt::format("{:.1f} tokens/s median, {:.1f} best ({:.0f} tokens in {:.1f} ms): "
                       "{:.1f} % of the peak of {:.0f} GFLOP/s",
                       r.prompt_tokens_per_second(), r.prompt_tokens / r.prompt_seconds.smallest(),
                       r.prompt_tokens, r.prompt_seconds.median() * 1e3,
                       100 * r.prompt_fraction_of_peak(), r.peaks.median() / kGiga)) +
      line("tokens",
           fmt::format("{:.1f} tokens/s median, {:.1f} best ({} tokens after {}, {:.2f} ms "
                       "each)",
                       r.tokens_per_second(), r.best_tokens_per_second(), o.tokens, o.depth,
                       r.token_seconds.median() * 1e3)) +
      line("weights",
           fmt::format("{:.1f} MB a token: {:.1f} GB/s, {:.1f} % of reading's {:.1f} GB/s",
                       r.weight_bytes / 1e6, r.bytes_per_second() / kGiga,
                       100 * r.fractions.median(), r.reads.median() / kGiga)) +
      memory_line(r.resident_bytes, r.planned_bytes) + "\n" + "prompt\n" +
      table_of(r.prompt_operations) + "\na token\n" + table_of(r.operations));
}

void run_bench_generate(const BenchOptions& o) {
  const model::Config config = config_of(o);
  check_memory(config, o.type(), 1, /*training=*/false);
  const measure::Generation result = measure::measure_generation({.config = config,
                                                                  .precision = o.type(),
                                                                  .prompt_tokens = o.prompt_tokens,
                                                                  .depth = o.depth,
                                                                  .tokens = o.tokens,
                                                                  .clock = o.clock()});
  print_generation(o, config, result);
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App& bench = *app.add_subcommand(
      "bench", "Measure this machine, and training, generation and scoring on it");
  bench.require_subcommand(1);
  const auto options = std::make_shared<BenchOptions>();
  BenchOptions& o = *options;
  add_common(bench, o.common);

  CLI::App& peak = add_bench_command(
      bench, "peak", "What the machine can do: FLOP/s of f32, bf16, int8; bytes/s", o);
  peak.callback([options] { run_peak(*options); });

  CLI::App& train =
      add_bench_command(bench, "train", "Steps of training: forward, backward, clipping, AdamW", o);
  add_shape(train, o);
  train.add_option("--micro-batch", o.micro_batch, "Windows computed at once")
      ->check(kFromOne)
      ->capture_default_str();
  train.add_option("--batch-tokens", o.batch_tokens, "Tokens a step (one micro-batch)")
      ->check(kFromOne);
  train.add_option("--steps", o.steps, "Timed steps; an untimed one goes first")
      ->check(kFromOne)
      ->capture_default_str();
  train.callback([options] { run_bench_train(*options); });

  CLI::App& generate =
      add_bench_command(bench, "generate", "A prompt, and tokens one after another", o);
  add_shape(generate, o);
  generate.add_option("--prompt-tokens", o.prompt_tokens, "Tokens of the prompt")
      ->check(kFromOne)
      ->capture_default_str();
  generate.add_option("--depth", o.depth, "Tokens before the first one that is generated")
      ->check(kFromZero)
      ->capture_default_str();
  generate.add_option("-n,--max-tokens", o.tokens, "Tokens to generate")
      ->check(kFromOne)
      ->capture_default_str();
  generate.callback([options] { run_bench_generate(*options); });

  CLI::App& score = add_bench_command(bench, "score", "Losses of batches, without gradients", o);
  add_shape(score, o);
  score.add_option("--micro-batch,--batch", o.micro_batch, "Windows computed at once")
      ->check(kFromOne)
      ->capture_default_str();
  score.add_option("--steps", o.steps, "Timed batches; an untimed one goes first")
      ->check(kFromOne)
      ->capture_default_str();
  score.callback([options] { run_bench_score(*options); });
}

}  // namespace cli
