// The machine's limits, and what a model asks of it.

#include <algorithm>
#include <array>
#include <numeric>

#include "measure/measure.h"

namespace measure {

// ---- series -----------------------------------------------------------------------------------

double Series::median() const {
  if (values_.empty()) return 0;
  std::vector<double> sorted = values_;
  std::ranges::sort(sorted);
  const std::size_t half = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
double Series::smallest() const { return values_.empty() ? 0 : std::ranges::min(values_); }
double Series::largest() const { return values_.empty() ? 0 : std::ranges::max(values_); }
double Series::sum() const { return std::accumulate(values_.begin(), values_.end(), 0.0); }

// ---- the machine ------------------------------------------------------------------------------

Machine measure_machine(double seconds, Clock clock) {
  using kernels::Limit;
  constexpr int kRounds = 8;  // the limits in turns, so that a busy moment does not hit one alone
  Machine machine;
  machine.instruction_set = kernels::instruction_set();
  const std::array limits = {
      std::pair(Limit::kF32, &machine.f32), std::pair(Limit::kBf16, &machine.bf16),
      std::pair(Limit::kInt8, &machine.int8), std::pair(Limit::kRead, &machine.read),
      std::pair(Limit::kCopy, &machine.copy)};
  const double window = seconds / (kRounds * static_cast<double>(limits.size()));
  kernels::LimitMeter meter;
  for (int round = 0; round < kRounds; ++round) {
    for (const auto& [limit, best] : limits) {
      *best = std::max(*best, meter.measure(limit, window, clock));
    }
  }
  return machine;
}

kernels::Limit limit_of(DType compute_type) {
  return compute_type == DType::kF32 ? kernels::Limit::kF32 : kernels::Limit::kBf16;
}

kernels::Limit limit_of(kernels::WeightFormat format) {
  if (kernels::is_integer(format)) return kernels::Limit::kInt8;
  return limit_of(format == kernels::WeightFormat::kF32 ? DType::kF32 : DType::kBf16);
}

// ---- what has to be computed ------------------------------------------------------------------

namespace {

double block_parameters(const model::Config& config) {
  const auto channels = static_cast<double>(config.channels);
  return 12 * static_cast<double>(config.layers) * channels * channels;
}
double head_parameters(const model::Config& config) {
  return static_cast<double>(config.vocab_size) * static_cast<double>(config.channels);
}
double attention_flops_per_token(const model::Config& config, std::int64_t length) {
  return 2 * static_cast<double>(config.layers) * static_cast<double>(config.channels) *
         static_cast<double>(length);
}

}  // namespace

double scoring_flops_per_token(const model::Config& config, std::int64_t length) {
  return 2 * (block_parameters(config) + head_parameters(config)) +
         attention_flops_per_token(config, length);
}

double training_flops_per_token(const model::Config& config, std::int64_t length) {
  return 3 * scoring_flops_per_token(config, length);
}

double prompt_flops(const model::Config& config, std::int64_t length) {
  return static_cast<double>(length) *
             (2 * block_parameters(config) + attention_flops_per_token(config, length)) +
         2 * head_parameters(config);
}

}  // namespace measure
