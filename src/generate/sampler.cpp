// Choosing one token: temperature, top-k, top-p, min-p, in this order.
//
// Law: a pure function of logits, settings and one uniform number. Candidates are put in order only
// as far as they are looked at: of 50,257 tokens a draw usually needs the first few dozen.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "generate/generate.h"

namespace generate {
namespace {

constexpr std::size_t kLanes = 16;  // independent chains, so that loops over logits vectorise

[[noreturn]] void fail_damaged(std::span<const float> logits) {
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (!std::isnan(logits[id]) && logits[id] != HUGE_VALF) continue;
    base::fail(
        "sampling: logit of token {}: expected a finite number, got {}; the model's weights are "
        "damaged",
        id, logits[id]);
  }
  base::fail("sampling: every logit is -inf; the model's weights are damaged");
}

/// The largest logit. Refuses what no sound model produces: NaN, infinity, or -inf alone, which
/// elsewhere is allowed: a token that cannot come.
float checked_maximum(std::span<const float> logits) {
  std::array<float, kLanes> largest;
  largest.fill(-HUGE_VALF);
  std::array<std::int32_t, kLanes> nans{};
  std::size_t id = 0;
  for (; id + kLanes <= logits.size(); id += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float logit = logits[id + lane];
      largest[lane] = logit > largest[lane] ? logit : largest[lane];
      nans[lane] |= static_cast<std::int32_t>(logit != logit);
    }
  }
  for (; id < logits.size(); ++id) {
    largest[0] = logits[id] > largest[0] ? logits[id] : largest[0];
    nans[0] |= static_cast<std::int32_t>(std::isnan(logits[id]));
  }
  const float maximum = *std::ranges::max_element(largest);
  const bool nan = std::ranges::any_of(nans, [](std::int32_t any) { return any != 0; });
  if (nan || std::isinf(maximum)) fail_damaged(logits);
  return maximum;
}

std::int32_t most_likely(std::span<const float> logits) {
  const float maximum = checked_maximum(logits);
  return static_cast<std::int32_t>(std::ranges::find(logits, maximum) - logits.begin());
}

/// e^x for x <= 0 within 2e-7 of its value, 0 or nearly so below -87; made of operations that
/// vectorise. x = n ln 2 + r with |r| <= ln 2 / 2; e^r is its Taylor polynomial of degree 7.
float quick_exp(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to a whole number
  x = x > -87.0F ? x : -87.0F;
  const float n = (x * 1.44269504F + kMagic) - kMagic;
  const float r = (x - n * 0.693145752F) - n * 1.42860677e-6F;  // ln 2 in two parts: Cody, Waite
  float p = 1.0F / 5040.0F;
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  return p * std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
}

/// Sum of e^((logit - maximum) / temperature) over all tokens, within about 1e-7 of itself.
double quick_mass(std::span<const float> logits, float maximum, float inverse_temperature) {
  std::array<float, 1024> weights;  // a part of them, summed in f32 before double takes over
  double mass = 0;
  for (std::size_t begin = 0; begin < logits.size(); begin += weights.size()) {
    const float* part = logits.data() + begin;
    const std::size_t count = std::min(weights.size(), logits.size() - begin);
    for (std::size_t i = 0; i < count; ++i) {
      weights[i] = quick_exp((part[i] - maximum) * inverse_temperature);
    }
    std::fill(weights.begin() + static_cast<std::ptrdiff_t>(count), weights.end(), 0.0F);
    std::array<float, kLanes> sums{};
    for (std::size_t i = 0; i < weights.size(); i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += weights[i + lane];
    }
    for (const float sum : sums) mass += static_cast<double>(sum);
  }
  return mass;
}

/// Temperatures whose inverse f32 holds well.
bool is_usual(double temperature) { return temperature > 1e-6 && temperature < 1e6; }

/// How exact the sum over tokens that nobody looks at has to be.
enum class Mass : std::uint8_t { kExact, kQuick };

/// The tokens of a distribution, most likely first, sorted as far as they were asked for.
class Ranking {
 public:
  /// Weights exp((logit - maximum) / temperature), not normalised; the `top_k` most likely only.
  Ranking(std::span<const float> logits, const Sampling& sampling, Mass exactness)
      : logits_(logits),
        temperature_(sampling.temperature),
        maximum_(checked_maximum(logits)),
        size_(logits.size()) {
    if (sampling.top_k > 0 && static_cast<std::size_t>(sampling.top_k) < size_) {
      size_ = static_cast<std::size_t>(sampling.top_k);
      sort_until(size_);
      for (const Entry& entry : entries_) mass_ += entry.weight;
      return;
    }
    // The quick one multiplies by 1 / temperature in f32.
    if (exactness == Mass::kQuick && is_usual(temperature_)) {
      mass_ = quick_mass(logits, maximum_, static_cast<float>(1 / temperature_));
    } else {
      for (const float logit : logits) mass_ += weight_of(logit);
    }
  }

  std::size_t size() const { return size_; }
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

  double weight_of(float logit) const {
    return std::exp((static_cast<double>(logit) - static_cast<double>(maximum_)) / temperature_);
  }

  const Entry& at(std::size_t rank) {
    constexpr std::size_t kFirst = 256;  // sorted at first, then 16 times more: few passes over V
    if (rank >= entries_.size()) sort_until(std::min(std::max(kFirst, 16 * (rank + 1)), size_));
    return entries_[rank];
  }

  /// Puts the `count` most likely tokens in order.
  void sort_until(std::size_t count) {
    const float threshold = threshold_for(count);
    entries_.clear();
    for (std::size_t id = 0; id < logits_.size(); ++id) {
      if (logits_[id] >= threshold)
        entries_.push_back({static_cast<std::int32_t>(id), logits_[id], 0});
    }
    const auto before = [](const Entry& a, const Entry& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    };
    const auto last = entries_.begin() + static_cast<std::ptrdiff_t>(count);
    if (last != entries_.end()) std::nth_element(entries_.begin(), last, entries_.end(), before);
    entries_.resize(count);
    std::sort(entries_.begin(), entries_.end(), before);
    for (Entry& entry : entries_) entry.weight = weight_of(entry.logit);
  }

  /// A logit that at least `count` tokens reach, and not many more where logits are spread out.
  float threshold_for(std::size_t count) const {
    if (count >= logits_.size()) return -HUGE_VALF;
    constexpr float kBuckets = 1024, kPerUnit = 32;  // the 32 units below the maximum
    std::array<std::size_t, static_cast<std::size_t>(kBuckets)> histogram{};
    for (const float logit : logits_) {
      const float below = std::min((maximum_ - logit) * kPerUnit, kBuckets - 1);
      ++histogram[static_cast<std::size_t>(below)];
    }
    std::size_t reached = 0;
    for (std::size_t bucket = 0; bucket + 1 < histogram.size(); ++bucket) {
      reached += histogram[bucket];
      // A bucket's lower border, and one more for what rounding moved over it.
      if (reached >= count) return maximum_ - static_cast<float>(bucket + 2) / kPerUnit;
    }
    return -HUGE_VALF;
  }

  std::span<const float> logits_;
  double temperature_;
  float maximum_;
  std::size_t size_;
  std::vector<Entry> entries_;  // the most likely, in order
  double mass_ = 0;
};

/// The kept tokens: the first `count` of the ranking, whose weights sum to `mass`.
struct Kept {
  std::size_t count = 0;
  double mass = 0;
};

template <class AnyRanking>
Kept apply_top_p(AnyRanking& ranking, double top_p) {
  if (top_p >= 1) return {ranking.size(), ranking.mass()};
  const double wanted = top_p * ranking.mass();
  Kept kept{1, ranking.weight(0)};
  while (kept.mass < wanted && kept.count < ranking.size())
    kept.mass += ranking.weight(kept.count++);
  return kept;
}

template <class AnyRanking>
Kept apply_min_p(AnyRanking& ranking, Kept kept, double min_p) {
  if (min_p <= 0) return kept;
  const double least = min_p * ranking.weight(0);
  Kept result;
  while (result.count < kept.count && ranking.weight(result.count) >= least) {
    result.mass += ranking.weight(result.count++);
  }
  return result;
}

template <class AnyRanking>
Kept filter(AnyRanking& ranking, const Sampling& sampling) {
  return apply_min_p(ranking, apply_top_p(ranking, sampling.top_p), sampling.min_p);
}

template <class AnyRanking>
std::int32_t draw(AnyRanking& ranking, const Sampling& sampling, double uniform) {
  const Kept kept = filter(ranking, sampling);
  double left = uniform * kept.mass;
  std::size_t rank = 0;
  // The last token with any weight takes what rounding leaves over.
  while (rank + 1 < kept.count && left >= ranking.weight(rank) && ranking.weight(rank + 1) > 0) {
    left -= ranking.weight(rank++);
  }
  return ranking.id(rank);
}

/// The first tokens of a Ranking; whoever asks for more gets none, and is_short() tells.
class TopRanking {
 public:
  TopRanking(const kernels::TopLogits& top, std::size_t vocab, const Sampling& sampling)
      : top_(top), size_(vocab), mass_(top.mass), temperature_(sampling.temperature) {
    if (sampling.top_k <= 0 || static_cast<std::size_t>(sampling.top_k) >= vocab) return;
    size_ = static_cast<std::size_t>(sampling.top_k);
    mass_ = 0;
    for (std::size_t rank = 0; rank < size_ && !short_; ++rank) mass_ += weight(rank);
  }
  std::size_t size() const { return size_; }
  double mass() const { return mass_; }
  std::int32_t id(std::size_t rank) const { return top_.ids[rank]; }
  double weight(std::size_t rank) {
    if (rank >= top_.ids.size()) {
      short_ = true;
      size_ = rank;  // ends whoever goes on until there are no more
      return 0;
    }
    return std::exp((static_cast<double>(top_.logits[rank]) - static_cast<double>(top_.logits[0])) /
                    temperature_);
  }
  bool is_short() const { return short_; }

 private:
  const kernels::TopLogits& top_;
  std::size_t size_;
  double mass_;
  double temperature_;
  bool short_ = false;
};

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
  Ranking ranking(logits, sampling, Mass::kExact);
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
  Ranking ranking(logits, sampling, Mass::kQuick);
  return draw(ranking, sampling, uniform);
}

std::optional<std::int32_t> sample(const kernels::TopLogits& top, std::int64_t vocab,
                                   const Sampling& sampling, double uniform) {
  validate(sampling);
  if (!std::isfinite(top.logits[0])) return std::nullopt;
  if (sampling.temperature == 0) return top.ids[0];
  if (!is_usual(sampling.temperature)) return std::nullopt;
  TopRanking ranking(top, static_cast<std::size_t>(vocab), sampling);
  const std::int32_t id = draw(ranking, sampling, uniform);
  if (ranking.is_short()) return std::nullopt;
  return id;
}

float inverse_temperature_for(const Sampling& sampling) {
  return is_usual(sampling.temperature) ? static_cast<float>(1 / sampling.temperature) : 1.0F;
}

}  // namespace generate
