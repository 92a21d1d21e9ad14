// How gpt2 bench prints what was measured: a table for people, or one JSON object.

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "cli/bench.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kMebi = 1024 * 1024;

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
          {"device", o.device.is_cuda() ? "cuda" : "cpu"},
          {"isa", o.cpu ? o.cpu->isa : "cuda"},
          {"products", o.cpu ? o.cpu->products : "cublaslt"},
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

}  // namespace

void print_peak(const BenchOptions& o, const measure::Machine& machine) {
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

void print_steps(const char* what, const BenchOptions& o, const model::Config& config,
                 const measure::Training& r, std::int64_t accumulation) {
  const double flops = r.tokens_per_second() * r.flops_per_token;
  const double best_fraction = r.best_tokens_per_second() * r.flops_per_token / r.peaks.median();
  if (o.json) {
    Json json = shape_json(what, o, config);
    json.update({{"backend", r.backend},
                 {"micro_batch", o.micro_batch},
                 {"recompute", o.recompute},
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
                 {"batch", o.streams},
                 {"steps", r.token_seconds.values().size()},
                 {"tokens_per_second", r.tokens_per_second()},
                 {"best_tokens_per_second", r.best_tokens_per_second()},
                 {"token_ms", r.token_seconds.median() * 1e3},
                 {"weight_bytes_per_token", r.weight_bytes / r.batch},
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
           fmt::format("{:.1f} MB a step: {:.1f} GB/s, {:.1f} % of reading's {:.1f} GB/s",
                       r.weight_bytes / 1e6, r.bytes_per_second() / kGiga,
                       100 * r.fractions.median(), r.reads.median() / kGiga)) +
      memory_line(r.resident_bytes, r.planned_bytes) + "\n" + "prompt\n" +
      table_of(r.prompt_operations) + "\na token\n" + table_of(r.operations));
}

}  // namespace cli
