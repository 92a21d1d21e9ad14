#pragma once
/// How fast a machine is, and how much of it training and generation use.
///
/// Law: random weights and random tokens in, seconds and shares out; no printing. A speed is always
/// told beside the limit that was measured in the same run, in turns with it: on a shared machine
/// both swing together.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "text/text.h"

namespace measure {

using base::Clock;
using base::DType;

/// Measurements of one quantity.
class Series {
 public:
  void add(double value) { values_.push_back(value); }
  bool empty() const { return values_.empty(); }
  const std::vector<double>& values() const { return values_; }
  /// 0 where there are none.
  double median() const;
  double smallest() const;
  double largest() const;
  double sum() const;

 private:
  std::vector<double> values_;
};

// ---- the machine ------------------------------------------------------------------------------

/// What bounds it: operations and bytes a second, on base::thread_count() threads.
struct Machine {
  double f32 = 0;
  double bf16 = 0;
  double int8 = 0;
  double read = 0;
  double copy = 0;
  std::string instruction_set;  ///< in force
};

/// Measures all of it, each as the best of windows spread over about `seconds`.
Machine measure_machine(double seconds, Clock clock);

/// Limits of what a backend runs on: the processor's by kernels::LimitMeter, whose memory is taken
/// at the first use; a device's by its own operations, products of random numbers and a sum over a
/// gibibyte, measured once.
class BackendMeter {
 public:
  explicit BackendMeter(kernels::Backend& backend) : backend_(backend) {}
  double measure(kernels::Limit limit, double seconds, Clock clock);

 private:
  bool is_device() const { return backend_.memory() != nullptr; }
  kernels::Backend& backend_;
  std::optional<kernels::LimitMeter> processor_;
  double product_ = 0, read_ = 0;
};

/// FLOP/s of a product of two (side, side) matrices of random numbers, the best of a few: the peak
/// that shares refer to on a device, for which there is no kernels::LimitMeter.
double measure_product_peak(kernels::Backend& backend, std::int64_t side = 8192);

/// The limit of products in a compute type.
kernels::Limit limit_of(DType compute_type);
/// That of products with weights in a format: int8's for the integers.
kernels::Limit limit_of(kernels::WeightFormat format);

// ---- choosing by measurement ------------------------------------------------------------------

/// Where a choice comes from.
enum class Origin : std::uint8_t {
  kOnly,      ///< there is nothing to choose from, or nothing to measure
  kForced,    ///< GPT2_CPU_ISA
  kCached,    ///< measured before, on this machine by this version
  kMeasured,  ///< just now
};

struct CpuChoices {
  kernels::CpuChoice choice;  ///< what to make a backend with
  Origin origin = Origin::kOnly;
  std::vector<kernels::CpuChoice> choices;  ///< it was one of these
  std::vector<double> rates;                ///< FLOP/s of each, where measured
};

/// $XDG_CACHE_HOME/gpt2 or ~/.cache/gpt2; nothing where there is no home.
std::optional<base::Path> cache_folder();

/// What to compute `compute_type` with on this machine: bf16 instructions are slower than f32's on
/// some processors. Measures for about a second the first time and keeps the result in `folder`
/// (docs/formats.md); a file there that is broken or another machine's counts as none, and one that
/// cannot be written is done without.
CpuChoices choose_cpu(DType compute_type, const std::optional<base::Path>& folder);

// ---- what has to be computed ------------------------------------------------------------------

/// Multiplications and additions of training on one token in a window of T: 6N + 6LCT, where N are
/// the parameters of products, the head's among them (12 L C^2 + V C). A product costs 2 forward
/// and 4 backward; causal attention's two products over half of (T, T) cost 2LCT and twice that.
double training_flops_per_token(const model::Config& config, std::int64_t length);
/// The forward pass alone with every token's loss: a third of it.
double scoring_flops_per_token(const model::Config& config, std::int64_t length);
/// A prompt of T tokens with the logits of its last one.
double prompt_flops(const model::Config& config, std::int64_t length);

// ---- operations -------------------------------------------------------------------------------

/// One row of the table by operation, for one step.
struct Operation {
  std::string name;  ///< "linear_forward 768x2304"; "other": what is no operation of a backend
  double calls = 0;
  double milliseconds = 0;
  double flops_per_second = 0;
  double bytes_per_second = 0;
  /// The time that its arithmetic takes at the peak, or its bytes at the read bandwidth, whichever
  /// is longer, over the time it took. May pass 1 where operands come from a cache.
  double fraction_of_roofline = 0;
};

/// A backend's profile of `steps` steps that took `seconds` together.
std::vector<Operation> operations_of(const std::vector<kernels::OperationTotals>& profile,
                                     std::int64_t steps, double seconds, double peak, double read);

// ---- training ---------------------------------------------------------------------------------

struct TrainingOptions {
  model::Config config;
  std::optional<kernels::CpuChoice> cpu = {};  ///< absent: the first of kernels::cpu_choices()
  kernels::Device device = kernels::Device::kCpu;
  int device_index = 0;
  bool tf32 = true;         ///< as kernels::make_backend() says
  std::int64_t length = 0;  ///< T, at most config.context
  std::int64_t micro_batch = 1;
  std::int64_t accumulation = 1;  ///< micro-batches a step
  DType precision = DType::kBf16;
  model::Recompute recompute = model::Recompute::kNone;
  std::int64_t steps = 3;  ///< timed ones; another goes first
  Clock clock = Clock::kWall;
};

struct Training {
  double tokens_per_step = 0;
  double flops_per_token = 0;
  Series step_seconds;
  Series peaks;  ///< operations a second: before, between and after the steps
  double read_bytes_per_second = 0;
  std::uint64_t planned_bytes = 0;
  std::uint64_t resident_bytes = 0;  ///< at its highest
  std::string backend;
  std::vector<Operation> operations;

  double tokens_per_second() const { return tokens_per_step / step_seconds.median(); }
  double best_tokens_per_second() const { return tokens_per_step / step_seconds.smallest(); }
  double fraction_of_peak() const { return tokens_per_second() * flops_per_token / peaks.median(); }
};

/// Told after each step: 0 is the untimed one.
using OnStep = std::function<void(std::int64_t step, double seconds)>;

/// Steps of training on random weights and tokens: forward, backward, clipping, AdamW.
Training measure_training(const TrainingOptions& options, const OnStep& on_step);

// ---- generation -------------------------------------------------------------------------------

struct GenerationOptions {
  model::Config config;
  std::optional<kernels::CpuChoice> cpu = {};  ///< absent: the first of kernels::cpu_choices()
  kernels::Device device = kernels::Device::kCpu;
  int device_index = 0;
  bool tf32 = true;  ///< as kernels::make_backend() says
  kernels::WeightFormat format = kernels::WeightFormat::kBf16;
  std::int64_t batch = 1;            ///< sequences that are continued at once
  std::int64_t prompt_tokens = 512;  ///< of the prompt that is timed
  std::int64_t depth = 0;            ///< tokens in the cache before the first one is generated
  std::int64_t tokens = 128;         ///< to generate
  Clock clock = Clock::kWall;
};

struct Generation {
  double prompt_flops = 0;
  double prompt_tokens = 0;
  Series prompt_seconds;
  Series peaks;             ///< in turns with the prompts
  double weight_bytes = 0;  ///< that one step reads
  double batch = 1;
  Series token_seconds;  ///< of steps, each a token of every sequence
  Series reads;          ///< bytes a second, in turns with groups of tokens
  Series fractions;      ///< of each group: weight bytes a second over the reads beside it
  std::uint64_t planned_bytes = 0;
  std::uint64_t resident_bytes = 0;
  std::string backend;
  std::vector<Operation> prompt_operations;
  std::vector<Operation> operations;  ///< of a token

  double prompt_tokens_per_second() const { return prompt_tokens / prompt_seconds.median(); }
  double prompt_fraction_of_peak() const {
    return prompt_flops / prompt_seconds.median() / peaks.median();
  }
  double tokens_per_second() const { return batch / token_seconds.median(); }
  double best_tokens_per_second() const { return batch / token_seconds.smallest(); }
  double bytes_per_second() const { return weight_bytes / token_seconds.median(); }
};

/// Prompts and single tokens through a key-value cache, on random weights.
Generation measure_generation(const GenerationOptions& options);

// ---- scoring ----------------------------------------------------------------------------------

struct ScoringOptions {
  model::Config config;
  std::optional<kernels::CpuChoice> cpu = {};  ///< absent: the first of kernels::cpu_choices()
  kernels::Device device = kernels::Device::kCpu;
  int device_index = 0;
  bool tf32 = true;  ///< as kernels::make_backend() says
  std::int64_t length = 0;
  std::int64_t batch = 1;
  kernels::WeightFormat format = kernels::WeightFormat::kBf16;
  std::int64_t steps = 3;  ///< batches
  Clock clock = Clock::kWall;
};

/// Batches of losses without gradients; the same figures as of training.
Training measure_scoring(const ScoringOptions& options, const OnStep& on_step);

// ---- the tokenizer ----------------------------------------------------------------------------

struct Tokenizing {
  double bytes = 0;
  double tokens = 0;
  double cold_seconds = 0;  ///< the first pass: an empty cache, memory that nobody has touched
  Series encode_seconds;    ///< passes of the same encoder after that
  Series decode_seconds;
  Series
      parallel_seconds;  ///< passes of base::thread_count() encoders, each with a part; wall time
  std::string instruction_set;
};

/// Encodes `bytes` and decodes the ids, on one thread and on all, `passes` times each.
/// Throws Error where decoding does not give the text back, or threads give other ids.
Tokenizing measure_tokenizer(const text::Tokenizer& tokenizer, std::string_view bytes,
                             std::int64_t passes, Clock clock);

/// A text of `bytes` bytes or a little more: tokens that begin with a space, the n-th of them drawn
/// with a probability like 1/n. Throws Error where there are none.
std::string text_of_tokens(const text::Tokenizer& tokenizer, std::size_t bytes);

}  // namespace measure
