#pragma once
/// How likely a text is: log-probabilities and perplexity.
///
/// Law: token ids in, numbers out.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/model.h"

namespace evaluate {

/// Natural log-probability of each id given those before it; entry i belongs to ids[i + 1], so
/// there are ids.size() - 1 of them. ids.size() <= context + 1; throws Error with both numbers
/// otherwise, and for an id outside the vocabulary (naming its position).
std::vector<double> log_probabilities(model::Gpt2& model, std::span<const std::int32_t> ids);

/// The same for many sequences, those of similar length evaluated together; entry i of the result
/// belongs to sequences[i] and does not depend on the others. Errors do not say which one is wrong:
/// call check() on each before.
std::vector<std::vector<double>> log_probabilities_each(
    model::Gpt2& model, std::span<const std::vector<std::int32_t>> sequences);

/// Throws the Error that log_probabilities() would throw for `ids`.
void check(const model::Config& config, std::span<const std::int32_t> ids);

/// Loss over a long text.
struct Perplexity {
  std::int64_t tokens = 0;  ///< scored ones: all but the first
  double loss = 0;          ///< mean negative log-probability, nats
  double perplexity = 0;    ///< exp(loss)
};

/// Strided window: windows of up to `context` inputs that advance by `stride`; in each only the
/// tokens not scored before count, so every token but the first is scored once, with at least
/// context - stride tokens of history where the text has them.
/// Source: Hugging Face, "Perplexity of fixed-length models" (the procedure).
/// A window of `context` inputs predicts `context` ids, so unlike there nothing is left unscored at
/// a border when stride equals context.
/// `progress` gets (scored, to score) now and then; may be empty.
/// Throws Error unless 1 <= stride <= context, for fewer than two ids, and for an id outside the
/// vocabulary (naming its position).
Perplexity perplexity(model::Gpt2& model, std::span<const std::int32_t> ids, std::int64_t stride,
                      const std::function<void(std::int64_t, std::int64_t)>& progress);

}  // namespace evaluate
