// Choosing one token: temperature, top-k, top-p, min-p, in this order.
//
// Law: a pure function of logits, settings and one uniform number. Candidates are put in order only
// as far as they are looked at: of 50,257 tokens a draw usually needs the first few dozen.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "generate/generate.h"

namespace generate {
namespace {

/// Refuses what no sound model produces. Minus infinity is allowed: a token that cannot come.
float checked(float logit, std::size_t id) {
  if (std::isnan(logit) || logit == HUGE_VALF) {
    base::fail(
        "sampling: logit of token {}: expected a finite number, got {}; the model's weights are "
        "damaged",
        id, logit);
  }
  return logit;
}

[[noreturn]] void fail_all_impossible() {
  base::fail("sampling: every logit is -inf; the model's weights are damaged");
}

std::int32_t most_likely(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (checked(logits[id], id) > logits[best]) best = id;  // strict: a tie stays with the lower id
  }
  if (logits[best] == -HUGE_VALF) fail_all_impossible();
  return static_cast<std::int32_t>(best);
}

/// The tokens of a distribution, most likely first, sorted as far as they were asked for.
class Ranking {
 public:
  /// Weights exp((logit - maximum) / temperature), not normalised; the `top_k` most likely only.
  Ranking(std::span<const float> logits, const Sampling& sampling) {
    entries_.resize(logits.size());
    float maximum = -HUGE_VALF;
    for (std::size_t id = 0; id < logits.size(); ++id) {
      entries_[id] = {static_cast<std::int32_t>(id), checked(logits[id], id), 0};
      maximum = std::max(maximum, logits[id]);
    }
    if (maximum == -HUGE_VALF) fail_all_impossible();
    if (sampling.top_k > 0 && static_cast<std::size_t>(sampling.top_k) < entries_.size()) {
      sort_until(static_cast<std::size_t>(sampling.top_k));
      entries_.resize(sorted_);
    }
    const double top = maximum;
    for (Entry& entry : entries_) {
      entry.weight = std::exp((static_cast<double>(entry.logit) - top) / sampling.temperature);
      mass_ += entry.weight;
    }
  }

  std::size_t size() const { return entries_.size(); }
  /// Sum of all weights.
  double mass() const { return mass_; }
  std::int32_t id(std::size_t rank) { return at(rank).id; }
  double weight(std::size_t rank) { return at(rank).weight; }

 private:
  struct Entry {
    std::int32_t id;
    float logit;
    double weight;
  };

  const Entry& at(std::size_t rank) {
    constexpr std::size_t kFirst = 256;  // sorted at first, then 16 times more: few passes over V
    if (rank >= sorted_) sort_until(std::min(std::max(kFirst, 16 * (rank + 1)), entries_.size()));
    return entries_[rank];
  }

  void sort_until(std::size_t count) {
    const auto before = [](const Entry& a, const Entry& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    };
    const auto first = entries_.begin() + static_cast<std::ptrdiff_t>(sorted_);
    const auto last = entries_.begin() + static_cast<std::ptrdiff_t>(count);
    if (last != entries_.end()) std::nth_element(first, last, entries_.end(), before);
    std::sort(first, last, before);
    sorted_ = count;
  }

  std::vector<Entry> entries_;
  std::size_t sorted_ = 0;
  double mass_ = 0;
};

/// The kept tokens: the first `count` of the ranking, whose weights sum to `mass`.
struct Kept {
  std::size_t count = 0;
  double mass = 0;
};

Kept apply_top_p(Ranking& ranking, double top_p) {
  if (top_p >= 1) return {ranking.size(), ranking.mass()};
  const double wanted = top_p * ranking.mass();
  Kept kept{1, ranking.weight(0)};
  while (kept.mass < wanted && kept.count < ranking.size())
    kept.mass += ranking.weight(kept.count++);
  return kept;
}

Kept apply_min_p(Ranking& ranking, Kept kept, double min_p) {
  if (min_p <= 0) return kept;
  const double least = min_p * ranking.weight(0);
  Kept result;
  while (result.count < kept.count && ranking.weight(result.count) >= least) {
    result.mass += ranking.weight(result.count++);
  }
  return result;
}

Kept filter(Ranking& ranking, const Sampling& sampling) {
  return apply_min_p(ranking, apply_top_p(ranking, sampling.top_p), sampling.min_p);
}

void check_size(std::span<const float> logits) {
  if (logits.empty()) base::fail("sampling: expected the logits of at least one token, got none");
}

}  // namespace

void validate(const Sampling& sampling) {
  // Written so that NaN fails each of them.
  if (!(sampling.temperature >= 0) || std::isinf(sampling.temperature)) {
    base::fail("temperature: expected a number of at least 0, got {}", sampling.temperature);
  }
  if (sampling.top_k < 0) base::fail("top-k: expected 0 (all) or more, got {}", sampling.top_k);
  if (!(sampling.top_p >= 0 && sampling.top_p <= 1)) {
    base::fail("top-p: expected a number from 0 to 1, got {}", sampling.top_p);
  }
  if (!(sampling.min_p >= 0 && sampling.min_p <= 1)) {
    base::fail("min-p: expected a number from 0 to 1, got {}", sampling.min_p);
  }
}

std::vector<Candidate> distribution(std::span<const float> logits, const Sampling& sampling) {
  validate(sampling);
  check_size(logits);
  if (sampling.temperature == 0) return {{most_likely(logits), 1.0}};
  Ranking ranking(logits, sampling);
  const Kept kept = filter(ranking, sampling);
  std::vector<Candidate> candidates;
  for (std::size_t rank = 0; rank < kept.count && ranking.weight(rank) > 0; ++rank) {
    candidates.push_back({ranking.id(rank), ranking.weight(rank) / kept.mass});
  }
  return candidates;
}

std::int32_t sample(std::span<const float> logits, const Sampling& sampling, double uniform) {
  validate(sampling);
  check_size(logits);
  if (sampling.temperature == 0) return most_likely(logits);
  Ranking ranking(logits, sampling);
  const Kept kept = filter(ranking, sampling);
  double left = uniform * kept.mass;
  std::size_t rank = 0;
  // The last token with any weight takes what rounding leaves over.
  while (rank + 1 < kept.count && left >= ranking.weight(rank) && ranking.weight(rank + 1) > 0) {
    left -= ranking.weight(rank++);
  }
  return ranking.id(rank);
}

}  // namespace generate
