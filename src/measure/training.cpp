// Steps of training and of scoring, in turns with the machine's peak.

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "base/rng.h"
#include "measure/measure.h"

namespace measure {
namespace {

constexpr double kPeakSeconds = 0.05;  // of a window between two steps
constexpr double kReadSeconds = 0.03;
constexpr int kReads = 5;
constexpr std::uint64_t kSeed = 1;
// GPT-2's usual optimizer: only its cost matters here.
constexpr float kLearningRate = 1e-4F;
constexpr float kWeightDecay = 0.1F;
constexpr double kClip = 1;

std::vector<std::int32_t> random_ids(std::int64_t count, std::int64_t vocab, std::uint64_t stream) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<std::int32_t>(
        base::random_below(static_cast<std::uint64_t>(vocab), kSeed, stream, i));
  }
  return ids;
}

/// One untimed call of `step`, then `steps` timed ones with a look at the peak around each.
void run_steps(Training& result, kernels::Backend& backend, std::int64_t steps, Clock clock,
               const std::function<void()>& step, const OnStep& on_step) {
  const kernels::Limit limit = limit_of(backend.weight_format());
  BackendMeter meter(backend);
  const bool on_device = backend.memory() != nullptr;
  const auto timed = [&](std::int64_t number) {
    const double begun = base::seconds(clock);
    step();
    backend.finish();  // the update belongs to it
    const double seconds = base::seconds(clock) - begun;
    if (on_step) on_step(number, seconds);
    return seconds;
  };
  timed(0);
  if (!on_device) backend.start_profile(clock);
  result.peaks.add(meter.measure(limit, kPeakSeconds, clock));
  for (std::int64_t number = 1; number <= steps; ++number) {
    result.step_seconds.add(timed(number));
    result.peaks.add(meter.measure(limit, kPeakSeconds, clock));
  }
  double profiled = result.step_seconds.sum();
  std::int64_t profiled_steps = steps;
  if (on_device) {  // apart, since a profile waits for every operation
    backend.start_profile(clock);
    const double begun = base::seconds(clock);
    step();
    profiled = base::seconds(clock) - begun;
    profiled_steps = 1;
  }
  result.resident_bytes = base::peak_memory_bytes();  // before the memory that is read below
  const std::vector<kernels::OperationTotals> profile = backend.profile();
  Series reads;
  for (int i = 0; i < kReads; ++i) {
    reads.add(meter.measure(kernels::Limit::kRead, kReadSeconds, clock));
  }
  result.read_bytes_per_second = reads.median();
  result.backend = backend.description();
  result.operations = operations_of(profile, profiled_steps, profiled, result.peaks.median(),
                                    result.read_bytes_per_second);
}

}  // namespace

Training measure_training(const TrainingOptions& options, const OnStep& on_step) {
  const model::Config& config = options.config;
  auto backend = kernels::make_backend(options.device, options.precision,
                                       options.cpu ? &*options.cpu : nullptr, options.device_index,
                                       options.tf32);
  Training result;
  result.planned_bytes = model::Gpt2::plan(config, *backend, options.micro_batch, options.length,
                                           true, options.recompute)
                             .total();
  result.tokens_per_step =
      static_cast<double>(options.micro_batch * options.length * options.accumulation);
  result.flops_per_token = training_flops_per_token(config, options.length);

  model::Gpt2 model(config, std::move(backend), /*trainable=*/true);
  model.initialize(kSeed);
  model.prepare_training(options.micro_batch, options.length, options.recompute);
  base::MemorySource* const memory = model.backend().memory();
  model::ParameterSet m(config, model::Contents::kAll, {}, memory);
  model::ParameterSet v(config, model::Contents::kAll, {}, memory);
  const std::int64_t rows = options.micro_batch * options.length;
  const std::vector<std::int32_t> ids = random_ids(rows, config.vocab_size, 0);
  const std::vector<std::int32_t> targets = random_ids(rows, config.vocab_size, 1);
  const auto scale = static_cast<float>(1 / result.tokens_per_step);
  std::int64_t done = 0;
  const auto step = [&] {
    model.zero_gradients();
    for (std::int64_t i = 0; i < options.accumulation; ++i) {
      model.queue_forward_backward(ids, targets, scale);
    }
    const double norm = model.gradient_norm();  // the step's one wait, as in training
    (void)model.take_losses();
    const kernels::AdamW hyper{
        .learning_rate = kLearningRate,
        .weight_decay = kWeightDecay,
        .gradient_scale = static_cast<float>(std::min(1.0, kClip / (norm + 1e-6))),
        .step = ++done};
    model.adamw_step(m, v, hyper);
  };
  run_steps(result, model.backend(), options.steps, options.clock, step, on_step);
  return result;
}

Training measure_scoring(const ScoringOptions& options, const OnStep& on_step) {
  const model::Config& config = options.config;
  auto backend = kernels::make_inference_backend(options.device, options.format,
                                                 options.cpu ? &*options.cpu : nullptr,
                                                 options.device_index, options.tf32);
  Training result;
  const model::MemoryPlan plan =
      model::Gpt2::plan(config, *backend, options.batch, options.length, false);
  result.planned_bytes = plan.total() - plan.parameters;  // there are no f32 masters
  result.tokens_per_step = static_cast<double>(options.batch * options.length);
  result.flops_per_token = scoring_flops_per_token(config, options.length);

  model::Gpt2 model = model::Gpt2::for_inference(config, std::move(backend));
  model.initialize(kSeed);
  const std::int64_t rows = options.batch * options.length;
  const std::vector<std::int32_t> ids = random_ids(rows, config.vocab_size, 0);
  const std::vector<std::int32_t> targets = random_ids(rows, config.vocab_size, 1);
  std::vector<float> losses(static_cast<std::size_t>(rows));
  const auto step = [&] { model.evaluate(ids, targets, options.batch, options.length, losses); };
  run_steps(result, model.backend(), options.steps, options.clock, step, on_step);
  return result;
}

}  // namespace measure
