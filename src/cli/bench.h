#pragma once
/// What the parts of `gpt2 bench` share: its options, and how its results are printed.

#include <optional>
#include <string>

#include "cli/cli.h"
#include "cli/device.h"
#include "measure/measure.h"
#include "train/train.h"

namespace cli {

inline constexpr double kGiga = 1e9;  ///< of bytes, of operations

/// Options of all of its commands.
struct BenchOptions {
  CommonOptions common;
  bool json = false;
  bool cpu_time = false;
  std::string preset = "124m";
  std::optional<std::int64_t> layers, heads, channels, vocab_size, context;
  std::string precision = "bf16";
  std::string recompute = "none";
  std::int64_t micro_batch = 1;
  std::optional<std::int64_t> batch_tokens;
  std::int64_t steps = 5;
  std::int64_t prompt_tokens = 512;
  std::int64_t depth = 0;
  std::int64_t tokens = 128;
  std::int64_t streams = 1;

  std::string device_word;
  bool tf32 = true;
  DeviceChoice device;                    ///< this and `cpu` are chosen when a command runs
  std::optional<kernels::CpuChoice> cpu;  ///< what the processor computes with

  base::Clock clock() const { return cpu_time ? base::Clock::kThread : base::Clock::kWall; }
  model::Recompute recomputed() const { return train::recompute_names().at(recompute); }
  /// The compute type: integers are weights only.
  base::DType type() const { return precision == "fp32" ? base::DType::kF32 : base::DType::kBf16; }
};

/// Adds FILE, options and callback of `gpt2 bench tokenizer` to its command. `bench` must live as
/// long as the program.
void add_bench_tokenizer(CLI::App& command, BenchOptions& bench);

/// Each prints a table, or one JSON object where the options ask for it, to stdout.
void print_peak(const BenchOptions& options, const measure::Machine& machine);
/// `what`: "train" or "score". `accumulation`: micro-batches a step.
void print_steps(const char* what, const BenchOptions& options, const model::Config& config,
                 const measure::Training& result, std::int64_t accumulation);
void print_generation(const BenchOptions& options, const model::Config& config,
                      const measure::Generation& result);

}  // namespace cli
