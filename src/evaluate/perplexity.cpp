// Log-probabilities of one sequence, and the perplexity of a long text by a strided window.
//
// Law: ids in, numbers out; sums are double and in the text's order.

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "evaluate/evaluate.h"
#include "evaluate/windows.h"

namespace evaluate {
namespace {

void check_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      base::fail("id at position {} (from 0): expected 0 to {}, got {}", i, vocab_size - 1, ids[i]);
    }
  }
}

/// Rows evaluated together: enough to keep the products busy, little enough memory at any model
/// size.
constexpr std::int64_t kRows = 4096;

/// The windows over `inputs` inputs: input i predicts id i + 1.
std::vector<Window> cut_windows(std::int64_t inputs, std::int64_t context, std::int64_t stride) {
  std::vector<Window> windows;
  std::int64_t scored = 0;
  for (std::int64_t begin = 0; scored < inputs; begin += stride) {
    const std::int64_t end = std::min(begin + context, inputs);
    windows.push_back({begin, end, scored});
    scored = end;
  }
  return windows;
}

/// Evaluates sequences of similar length together: shorter ones are padded at their end, which
/// causality keeps from them, and the padding is not scored.
class PaddedBatch {
 public:
  PaddedBatch(model::Gpt2& model, std::span<const std::vector<std::int32_t>> sequences)
      : model_(model), sequences_(sequences) {}

  /// `members`: indices, the longest sequence first.
  void score(std::span<const std::size_t> members, std::vector<std::vector<double>>& result) {
    const std::size_t length = sequences_[members.front()].size() - 1;
    inputs_.assign(members.size() * length, 0);
    targets_.assign(members.size() * length, kernels::kIgnoredTarget);
    losses_.resize(members.size() * length);
    for (std::size_t row = 0; row < members.size(); ++row) {
      const std::vector<std::int32_t>& ids = sequences_[members[row]];
      const auto at = static_cast<std::ptrdiff_t>(row * length);
      std::copy(ids.begin(), ids.end() - 1, inputs_.begin() + at);
      std::copy(ids.begin() + 1, ids.end(), targets_.begin() + at);
    }
    model_.evaluate(inputs_, targets_, static_cast<std::int64_t>(members.size()),
                    static_cast<std::int64_t>(length), losses_);
    for (std::size_t row = 0; row < members.size(); ++row) {
      const std::size_t count = sequences_[members[row]].size() - 1;
      std::vector<double>& own = result[members[row]];
      for (const float loss : std::span(losses_).subspan(row * length, count)) {
        own.push_back(0.0 - static_cast<double>(loss));  // never "-0"
      }
    }
  }

 private:
  model::Gpt2& model_;
  std::span<const std::vector<std::int32_t>> sequences_;
  std::vector<std::int32_t> inputs_;   // (B, T)
  std::vector<std::int32_t> targets_;  // (B, T)
  std::vector<float> losses_;          // (B, T)
};

/// How many of `order`, sequences from the longest on, go together: kRows rows at most, of which
/// little is padding.
std::size_t alike(std::span<const std::size_t> order,
                  std::span<const std::vector<std::int32_t>> sequences) {
  const std::size_t length = sequences[order.front()].size() - 1;
  const std::size_t shortest = length - length / 8;
  std::size_t count = 1;
  while (count < order.size() && (count + 1) * length <= static_cast<std::size_t>(kRows) &&
         sequences[order[count]].size() - 1 >= shortest) {
    ++count;
  }
  return count;
}

/// Windows from `first` on that can go together: of one length, together at most kRows rows.
std::size_t batch_end(const std::vector<Window>& windows, std::size_t first) {
  const std::int64_t length = windows[first].length();
  std::size_t last = first + 1;
  while (last < windows.size() && windows[last].length() == length &&
         static_cast<std::int64_t>(last + 1 - first) * length <= kRows) {
    ++last;
  }
  return last;
}

}  // namespace

void check(const model::Config& config, std::span<const std::int32_t> ids) {
  const auto count = static_cast<std::int64_t>(ids.size());
  if (count > config.context + 1) {
    base::fail("expected at most {} tokens (the model's context and one), got {}",
               config.context + 1, count);
  }
  check_ids(ids, config.vocab_size);
}

std::vector<double> log_probabilities(model::Gpt2& model, std::span<const std::int32_t> ids) {
  const std::vector<std::int32_t> one(ids.begin(), ids.end());
  return std::move(log_probabilities_each(model, {&one, 1}).front());
}

std::vector<std::vector<double>> log_probabilities_each(
    model::Gpt2& model, std::span<const std::vector<std::int32_t>> sequences) {
  std::vector<std::vector<double>> result(sequences.size());
  std::vector<std::size_t> order;  // those with something to score, longest first
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    check(model.config(), sequences[i]);
    if (sequences[i].size() > 1) order.push_back(i);
  }
  std::ranges::stable_sort(order, std::greater(),
                           [&](std::size_t i) { return sequences[i].size(); });
  PaddedBatch batch(model, sequences);
  for (std::span<const std::size_t> rest = order; !rest.empty();) {
    const auto count = alike(rest, sequences);
    batch.score(rest.first(count), result);
    rest = rest.subspan(count);
  }
  return result;
}

Perplexity perplexity(model::Gpt2& model, std::span<const std::int32_t> ids, std::int64_t stride,
                      const std::function<void(std::int64_t, std::int64_t)>& progress) {
  const model::Config& config = model.config();
  if (stride < 1 || stride > config.context) {
    base::fail("stride: expected 1 to {} (the model's context), got {}", config.context, stride);
  }
  if (ids.size() < 2) {
    base::fail("perplexity: expected at least 2 tokens, got {}", ids.size());
  }
  check_ids(ids, config.vocab_size);

  const auto inputs = static_cast<std::int64_t>(ids.size()) - 1;
  const std::vector<Window> windows = cut_windows(inputs, config.context, stride);
  WindowBatch batch(model, ids);
  double sum = 0;
  for (std::size_t first = 0; first < windows.size();) {
    const std::size_t last = batch_end(windows, first);
    for (const float loss : batch.losses(std::span(windows).subspan(first, last - first))) {
      sum += static_cast<double>(loss);
    }
    if (progress) progress(windows[last - 1].end, inputs);
    first = last;
  }
  const double loss = sum / static_cast<double>(inputs);
  return {inputs, loss, std::exp(loss)};
}

}  // namespace evaluate
