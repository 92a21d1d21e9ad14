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

double BackendMeter::measure(kernels::Limit limit, double seconds, Clock clock) {
  if (!is_device()) {
    if (!processor_) processor_.emplace();
    return processor_->measure(limit, seconds, clock);
  }
  if (limit != kernels::Limit::kRead) {
    if (product_ == 0) product_ = measure_product_peak(backend_);
    return product_;
  }
  if (read_ > 0) return read_;
  constexpr std::int64_t kElements = std::int64_t{1} << 28;
  constexpr int kRuns = 4;
  base::View values;
  const base::Arena arena =
      base::make_arena([&](base::Arena& memory) { values = memory.take(DType::kF32, {kElements}); },
                       backend_.memory());
  for (int run = 0; run < kRuns; ++run) {
    const double begun = base::seconds(Clock::kWall);
    (void)backend_.squared_norm(values);
    const double took = base::seconds(Clock::kWall) - begun;
    read_ = std::max(read_, static_cast<double>(values.bytes()) / took);
  }
  return read_;
}

double measure_product_peak(kernels::Backend& backend, std::int64_t side) {
  constexpr int kRuns = 6;  // the first chooses an algorithm
  const base::DType type = backend.compute_type();
  const base::Shape square{side, side};
  kernels::PackedWeight weight{.inputs = side, .outputs = side};
  base::View numbers, inp, out, bias;
  const base::Arena arena = base::make_arena(
      [&](base::Arena& memory) {
        numbers = memory.take(DType::kF32, square);
        inp = memory.take(type, square);
        out = memory.take(type, square);
        bias = memory.take(DType::kF32, {side});
        const std::size_t bytes =
            backend.packed_bytes(side, side, kernels::WeightOrder::kInOut, false).forward;
        weight.forward = static_cast<std::byte*>(memory.take_bytes(bytes));
      },
      backend.memory());
  backend.fill_uniform(numbers, -1, 1, 1, 0);
  backend.pack_weight(weight, numbers);
  backend.convert(inp, numbers);
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    backend.finish();
    const double begun = base::seconds(Clock::kWall);
    backend.linear_forward(out, {}, inp, weight, bias, kernels::Epilogue::kNone);
    backend.finish();
    const double seconds = base::seconds(Clock::kWall) - begun;
    const auto n = static_cast<double>(side);
    best = std::max(best, 2 * n * n * n / seconds);
  }
  return best;
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
