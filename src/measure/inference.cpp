// A prompt and single tokens through a key-value cache, in turns with the limits that bound them:
// arithmetic for the prompt, reading for the tokens.

#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "base/rng.h"
#include "measure/measure.h"

namespace measure {
namespace {

constexpr double kProductSeconds = 0.05;
constexpr double kBandwidthSeconds = 0.02;
constexpr int kPrompts = 5;          // timed ones; another goes first
constexpr std::int64_t kGroup = 8;   // tokens between two windows of reading
constexpr std::int64_t kWarmUp = 2;  // tokens that are not timed
constexpr std::uint64_t kInferenceSeed = 1;

/// Bytes of all packed weights, the head's among them: what a token reads once.
double packed_weight_bytes(const model::Config& config, const kernels::Backend& backend) {
  using kernels::WeightOrder;
  const std::int64_t c = config.channels;
  std::size_t block = 0;
  for (const auto& [k, n] :
       {std::pair(c, 3 * c), std::pair(c, c), std::pair(c, 4 * c), std::pair(4 * c, c)}) {
    block += backend.packed_bytes(k, n, WeightOrder::kInOut, false).forward;
  }
  const std::size_t head =
      backend.packed_bytes(c, config.padded_vocab(), WeightOrder::kOutIn, false).forward;
  return static_cast<double>(block) * static_cast<double>(config.layers) +
         static_cast<double>(head);
}

class Bench {
 public:
  explicit Bench(const GenerationOptions& options)
      : options_(options),
        model_(model::Gpt2::for_inference(
            options.config, kernels::make_inference_backend(options.device, options.format,
                                                            options.cpu ? &*options.cpu : nullptr,
                                                            options.device_index, options.tf32))),
        meter_(model_.backend()),
        logits_(static_cast<std::size_t>(options.config.vocab_size * options.batch)),
        temperatures_(static_cast<std::size_t>(options.batch), 1.0F),
        tops_(static_cast<std::size_t>(options.batch)),
        ids_(static_cast<std::size_t>(options.batch)) {
    for (std::int64_t i = 0; i < options.batch; ++i) {
      caches_.push_back(model_.make_cache());
    }
    for (model::KvCache& cache : caches_) pointers_.push_back(&cache);
    result_.batch = static_cast<double>(options.batch);
    model_.initialize(kInferenceSeed);
    result_.backend = model_.backend().description();
    result_.weight_bytes = packed_weight_bytes(options.config, model_.backend());
    result_.prompt_tokens = static_cast<double>(options.prompt_tokens);
    result_.prompt_flops = prompt_flops(options.config, options.prompt_tokens);
    const model::MemoryPlan plan =
        model::Gpt2::plan(options.config, model_.backend(), 1, options.prompt_tokens, false);
    result_.planned_bytes = plan.total() - plan.parameters;  // there are no f32 masters
  }

  Generation run() {
    prompts();
    result_.resident_bytes = base::peak_memory_bytes();  // before the memory that is read
    tokens();
    const double peak = result_.peaks.median();
    const double read = result_.reads.median();
    result_.prompt_operations =
        operations_of(prompt_profile_, kPrompts, result_.prompt_seconds.sum(), peak, read);
    std::int64_t profiled = options_.tokens;
    double seconds = result_.token_seconds.sum();
    if (on_device()) {
      model_.backend().start_profile(options_.clock);
      profiled = 1;
      seconds = step();
    }
    result_.operations = operations_of(model_.backend().profile(), profiled, seconds, peak, read);
    return result_;
  }

 private:
  void draw(std::span<std::int32_t> ids) {
    for (std::int32_t& id : ids) {
      id = static_cast<std::int32_t>(base::random_below(
          static_cast<std::uint64_t>(options_.config.vocab_size), kInferenceSeed, 0, drawn_++));
    }
  }

  /// Seconds of feeding one sequence `count` random tokens.
  double feed(model::KvCache& cache, std::int64_t count) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
    draw(ids);
    const std::span logits =
        std::span(logits_).first(static_cast<std::size_t>(options_.config.vocab_size));
    const double begun = base::seconds(options_.clock);
    model_.decode(cache, ids, logits);
    return base::seconds(options_.clock) - begun;
  }

  /// Seconds of one token for every sequence.
  double step() {
    draw(ids_);
    const double begun = base::seconds(options_.clock);
    if (model_.backend().has_candidates()) {  // as generation does it
      model_.decode_batch(pointers_, ids_, temperatures_, tops_);
    } else if (pointers_.size() == 1) {
      model_.decode(caches_.front(), ids_, logits_);
    } else {
      model_.decode_batch(pointers_, ids_, logits_);
    }
    return base::seconds(options_.clock) - begun;
  }

  void prompts() {
    const kernels::Limit limit = limit_of(options_.format);
    model::KvCache& cache = caches_.front();
    feed(cache, options_.prompt_tokens);
    if (!on_device()) model_.backend().start_profile(options_.clock);
    for (int i = 0; i < kPrompts; ++i) {
      result_.peaks.add(meter_.measure(limit, kProductSeconds, options_.clock));
      cache.truncate(0);
      result_.prompt_seconds.add(feed(cache, options_.prompt_tokens));
    }
    result_.peaks.add(meter_.measure(limit, kProductSeconds, options_.clock));
    prompt_profile_ = model_.backend().profile();
  }

  void tokens() {
    for (model::KvCache& cache : caches_) {
      cache.truncate(0);
      if (options_.depth > 0) feed(cache, options_.depth);
    }
    for (std::int64_t i = 0; i < kWarmUp; ++i) step();
    for (model::KvCache& cache : caches_) cache.truncate(options_.depth);
    if (!on_device()) model_.backend().start_profile(options_.clock);
    const auto look = [&] {
      return meter_.measure(kernels::Limit::kRead, kBandwidthSeconds, options_.clock);
    };
    double before = look();
    result_.reads.add(before);
    for (std::int64_t done = 0; done < options_.tokens;) {
      const std::int64_t group = std::min(kGroup, options_.tokens - done);
      double seconds = 0;
      for (std::int64_t i = 0; i < group; ++i, ++done) {
        const double own = step();
        result_.token_seconds.add(own);
        seconds += own;
      }
      const double after = look();
      result_.reads.add(after);
      const double bytes = result_.weight_bytes * static_cast<double>(group);
      result_.fractions.add(bytes / seconds / ((before + after) / 2));
      before = after;
    }
  }

  /// Where a profile waits for every operation; there it is made of one step more.
  bool on_device() { return model_.backend().memory() != nullptr; }

  const GenerationOptions& options_;
  model::Gpt2 model_;
  BackendMeter meter_;
  std::vector<model::KvCache> caches_;
  std::vector<model::KvCache*> pointers_;
  std::vector<float> logits_;  // (batch, V)
  std::vector<float> temperatures_;
  std::vector<kernels::TopLogits> tops_;
  std::vector<std::int32_t> ids_;  // (batch)
  std::uint64_t drawn_ = 0;
  std::vector<kernels::OperationTotals> prompt_profile_;
  Generation result_;
};

}  // namespace

Generation measure_generation(const GenerationOptions& options) {
  const std::int64_t context = options.config.context;
  if (options.batch < 1) base::fail("batch: expected 1 or more, got {}", options.batch);
  if (options.tokens < 1) base::fail("tokens: expected 1 or more, got {}", options.tokens);
  if (options.prompt_tokens < 1 || options.prompt_tokens > context) {
    base::fail("prompt of {} tokens: expected 1 to the model's context of {}",
               options.prompt_tokens, context);
  }
  const std::int64_t most = options.depth + std::max(options.tokens, kWarmUp);
  if (options.depth < 0 || most > context) {
    base::fail("{} tokens after {}: expected at most the model's context of {}", options.tokens,
               options.depth, context);
  }
  return Bench(options).run();
}

}  // namespace measure
