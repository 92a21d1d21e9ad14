#pragma once
/// One token after another: sampling and the loop around the KV cache.
///
/// Law: token ids in, token ids out; the only room that draws a random token; no strings, no
/// sockets.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "model/model.h"

namespace generate {

/// How the next token is chosen. Applied in this order: temperature, top-k, top-p, min-p.
struct Sampling {
  double temperature = 0.8;  ///< 0: the most likely token (ties to the lower id)
  std::int64_t top_k = 0;    ///< keep the k most likely; 0: all
  double top_p = 1.0;        ///< keep the smallest prefix whose probability (of what top-k left)
                             ///< reaches p, at least one; 1: all
  double min_p = 0.0;        ///< keep tokens with at least min_p times the largest probability
};

/// Throws Error naming the value when a setting is outside its range.
void validate(const Sampling& sampling);

/// A token that can be drawn, and its probability after filtering.
struct Candidate {
  std::int32_t id = 0;
  double probability = 0;
};

/// The filtered, renormalised distribution, most likely first (ties: the lower id first).
/// Tokens whose probability underflows to 0 are left out.
/// With temperature 0 it is the single most likely token. logits: (V).
/// Throws Error for a logit that is NaN or +infinity, naming its token.
std::vector<Candidate> distribution(std::span<const float> logits, const Sampling& sampling);

/// Draws from distribution() by inverting its cumulative sum; `uniform` in [0, 1) decides.
std::int32_t sample(std::span<const float> logits, const Sampling& sampling, double uniform);

/// sample() from what a backend gives of a row of V logits; nothing where it takes more of them: a
/// nearly even distribution, a large top_k, damaged weights. The same token, but for draws within
/// 1e-6 of the border between two.
std::optional<std::int32_t> sample(const kernels::TopLogits& top, std::int64_t vocab,
                                   const Sampling& sampling, double uniform);
/// What TopLogits::mass has to be of for sample().
float inverse_temperature_for(const Sampling& sampling);

/// Why a generation ended.
enum class Stop : std::uint8_t { kMaxTokens, kEndOfText, kContextFull, kCallback };

struct Options {
  Sampling sampling;
  std::int64_t max_tokens = 128;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  ///< one a sample, so that samples differ at one seed
  bool ignore_end_of_text = false;
  /// Past the context go on with the last n_positions tokens fed again from position 0, each step
  /// (the exact sliding window). False: stop with kContextFull.
  bool slide = false;
};

/// Throws the Error that run() would throw for these arguments, without making anything: a setting
/// out of range, an empty prompt, an id outside the vocabulary (naming its position, from 0), a
/// prompt longer than the context without `slide`.
void check(const model::Config& config, std::span<const std::int32_t> prompt,
           const Options& options);

/// One sequence to make.
struct Request {
  std::vector<std::int32_t> prompt;
  Options options;
};

/// Continues all prompts, up to `slots` of them in one pass over the weights at a time; when one
/// ends, the next takes its place. Each gets the very tokens that it gets alone. `on_token` gets
/// each new id with its request's index as it is made and returns false to stop that request;
/// `on_end` gets every request's end once, in the order of the requests. Nothing is made before
/// every request has passed check(); the Error says which did not ("request 3: ...", from 0).
/// A prompt that equals the one before is fed once.
void run_batch(model::Gpt2& model, std::span<const Request> requests, std::int64_t slots,
               const std::function<bool(std::size_t, std::int32_t)>& on_token,
               const std::function<void(std::size_t, Stop)>& on_end);

/// Continues `prompt` (at least one id). `on_token` gets each new id as it is made and returns
/// false to stop; an end-of-text that ends the generation is not handed over. A prompt longer than
/// the context keeps its last n_positions ids with `slide`, else it is an Error naming both
/// lengths. Without `slide` the last token made is the one after a full context. New token i is
/// decided by base::random_uniform(seed, stream, i).
Stop run(model::Gpt2& model, std::span<const std::int32_t> prompt, const Options& options,
         const std::function<bool(std::int32_t)>& on_token);

}  // namespace generate
