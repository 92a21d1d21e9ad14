// The loop around the KV cache: feed, choose, hand over, feed what was chosen.
//
// Law: ids in, ids out. The number that decides token i is a pure function of (seed, stream, i), so
// a sample does not depend on threads or on the samples made before it.

#include "generate/generate.h"

#include "base/error.h"
#include "base/rng.h"

namespace generate {
namespace {

std::size_t context_of(const model::Config& config) {
  return static_cast<std::size_t>(config.context);
}

/// What the cache holds, and the ids behind it, for the day the window has to slide.
class Sequence {
 public:
  Sequence(model::Gpt2& model, std::span<const std::int32_t> prompt)
      : model_(model),
        cache_(model.config(), model.backend().compute_type()),
        context_(context_of(model.config())),
        logits_(static_cast<std::size_t>(model.config().vocab_size)) {
    ids_.assign(prompt.begin(), prompt.end());
    refill();
  }

  bool full() const { return cache_.length() == model_.config().context; }
  std::span<const float> logits() const { return logits_; }

  /// Appends one id. A full window is fed anew from position 0, because every position in it
  /// changes.
  void push(std::int32_t id) {
    ids_.push_back(id);
    if (full()) {
      refill();
    } else {
      model_.decode(cache_, {&id, 1}, logits_);
    }
  }

 private:
  /// Feeds the last n_positions ids from position 0.
  void refill() {
    if (ids_.size() > context_)
      ids_.erase(ids_.begin(), ids_.end() - static_cast<std::ptrdiff_t>(context_));
    cache_.truncate(0);
    model_.decode(cache_, ids_, logits_);
  }

  model::Gpt2& model_;
  model::KvCache cache_;
  std::size_t context_;
  std::vector<std::int32_t> ids_;
  std::vector<float> logits_;  // (V)
};

}  // namespace

void check(const model::Config& config, std::span<const std::int32_t> prompt,
           const Options& options) {
  validate(options.sampling);
  if (options.max_tokens < 0) {
    base::fail("max-tokens: expected 0 or more, got {}", options.max_tokens);
  }
  if (prompt.empty()) base::fail("prompt: expected at least one token, got none");
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= config.vocab_size) {
      base::fail("prompt: id at position {}: expected 0 to {}, got {}", i, config.vocab_size - 1,
                 prompt[i]);
    }
  }
  if (prompt.size() > context_of(config) && !options.slide) {
    base::fail(
        "prompt: expected at most {} tokens (the model's context), got {}; shorten it, or slide "
        "the "
        "window (--slide)",
        config.context, prompt.size());
  }
}

Stop run(model::Gpt2& model, std::span<const std::int32_t> prompt, const Options& options,
         const std::function<bool(std::int32_t)>& on_token) {
  const model::Config& config = model.config();
  check(config, prompt, options);
  if (options.max_tokens == 0) return Stop::kMaxTokens;

  Sequence sequence(model, prompt);
  for (std::int64_t index = 0;; ++index) {
    const double uniform =
        base::random_uniform(options.seed, options.stream, static_cast<std::uint64_t>(index));
    const std::int32_t id = sample(sequence.logits(), options.sampling, uniform);
    if (!options.ignore_end_of_text && config.end_of_text == id) return Stop::kEndOfText;
    if (!on_token(id)) return Stop::kCallback;
    if (index + 1 == options.max_tokens) return Stop::kMaxTokens;
    if (sequence.full() && !options.slide) return Stop::kContextFull;
    sequence.push(id);
  }
}

}  // namespace generate
