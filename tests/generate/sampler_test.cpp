// Distributions against golden ones, draws against distributions.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/rng.h"
#include "helpers.h"

namespace {

using generate::Candidate;
using generate::Sampling;
using generate_testing::expect_error;

std::vector<float> random_logits(std::size_t count, std::uint64_t seed) {
  std::vector<float> logits(count);
  for (std::size_t i = 0; i < count; ++i) {
    logits[i] = static_cast<float>(2.5 * base::random_normal(seed, 0, i));
  }
  return logits;
}

/// The definition, spelled out: sort everything, then cut.
std::vector<Candidate> slow_distribution(const std::vector<float>& logits,
                                         const Sampling& sampling) {
  std::vector<Candidate> all;
  const float top = *std::max_element(logits.begin(), logits.end());
  for (std::size_t id = 0; id < logits.size(); ++id) {
    const double distance = static_cast<double>(logits[id]) - static_cast<double>(top);
    all.push_back({static_cast<std::int32_t>(id), std::exp(distance / sampling.temperature)});
  }
  std::stable_sort(all.begin(), all.end(), [&](const Candidate& a, const Candidate& b) {
    return logits[static_cast<std::size_t>(a.id)] > logits[static_cast<std::size_t>(b.id)];
  });
  const auto normalise = [&all] {
    double sum = 0;
    for (const Candidate& c : all) sum += c.probability;
    for (Candidate& c : all) c.probability /= sum;
  };
  if (sampling.top_k > 0 && static_cast<std::size_t>(sampling.top_k) < all.size()) {
    all.resize(static_cast<std::size_t>(sampling.top_k));
  }
  normalise();
  if (sampling.top_p < 1) {
    std::size_t count = 0;
    for (double sum = 0; count < all.size() && (count == 0 || sum < sampling.top_p);) {
      sum += all[count++].probability;
    }
    all.resize(count);
    normalise();
  }
  const double best = all.front().probability;
  std::erase_if(all, [&](const Candidate& c) { return c.probability < sampling.min_p * best; });
  normalise();
  return all;
}

class SamplingGolden : public testing::TestWithParam<const char*> {};

TEST_P(SamplingGolden, DistributionsAreTheReferences) {
  const auto cases = generate_testing::reference(GetParam()).at("sampling");
  int checked = 0;
  for (const auto& one : cases.at("cases")) {
    const auto logits =
        cases.at("logits").at(one.at("logits_index").get<std::size_t>()).get<std::vector<float>>();
    const Sampling sampling{
        .temperature = one.at("temperature"), .top_k = one.at("top_k"), .top_p = one.at("top_p")};
    auto candidates = generate::distribution(logits, sampling);
    std::ranges::sort(candidates, {}, &Candidate::id);
    const auto& expected = one.at("probs");
    ASSERT_EQ(candidates.size(), expected.size()) << one.dump();
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      EXPECT_EQ(candidates[i].id, expected[i][0].get<std::int32_t>()) << one.dump();
      // The logits went through f32: six decimals of up to 1000 are 3e-5 apart, at 1/0.25.
      EXPECT_NEAR(candidates[i].probability, expected[i][1].get<double>(), 1e-6) << one.dump();
    }
    ++checked;
  }
  EXPECT_EQ(checked, 70);
}
INSTANTIATE_TEST_SUITE_P(Models, SamplingGolden, testing::Values("tiny", "small"));

TEST(Sampler, SortsOnlyAsFarAsNeededAndStillFindsTheSameDistribution) {
  const std::vector<float> logits = random_logits(3001, 7);
  for (const std::int64_t top_k : {0, 1, 2, 64, 65, 1000, 3000, 3001, 9999}) {
    for (const double top_p : {0.0, 0.1, 0.9, 0.9999, 1.0}) {
      for (const double min_p : {0.0, 0.05, 1.0}) {
        const Sampling sampling{.temperature = 0.9, .top_k = top_k, .top_p = top_p, .min_p = min_p};
        const auto got = generate::distribution(logits, sampling);
        const auto expected = slow_distribution(logits, sampling);
        ASSERT_EQ(got.size(), expected.size()) << top_k << " " << top_p << " " << min_p;
        for (std::size_t i = 0; i < got.size(); ++i) {
          ASSERT_EQ(got[i].id, expected[i].id);
          ASSERT_NEAR(got[i].probability, expected[i].probability, 1e-12);
        }
      }
    }
  }
}

TEST(Sampler, TiesGoToTheLowerId) {
  const std::vector<float> logits = {0, 3, 1, 3, 3};
  EXPECT_EQ(generate::sample(logits, {.temperature = 0}, 0.99), 1);
  const auto kept = generate::distribution(logits, {.temperature = 1, .top_k = 2});
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept[0].id, 1);
  EXPECT_EQ(kept[1].id, 3);
}

TEST(Sampler, MinPComparesWithTheLargestProbability) {
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.15F),
                                     std::log(0.05F)};
  const auto kept = generate::distribution(logits, {.temperature = 1, .min_p = 0.25});
  ASSERT_EQ(kept.size(), 3U);  // 0.15 >= 0.25 * 0.5 > 0.05
  EXPECT_NEAR(kept[0].probability, 0.5 / 0.95, 1e-6);
}

TEST(Sampler, DrawsInvertTheCumulativeSum) {
  const std::vector<float> logits = random_logits(500, 3);
  const Sampling sampling{.temperature = 0.8, .top_p = 0.95};
  const auto candidates = generate::distribution(logits, sampling);
  ASSERT_GT(candidates.size(), 20U);
  double below = 0;
  for (const Candidate& candidate : candidates) {
    EXPECT_EQ(generate::sample(logits, sampling, below + candidate.probability / 2), candidate.id);
    below += candidate.probability;
  }
  EXPECT_EQ(generate::sample(logits, sampling, 0), candidates.front().id);
  EXPECT_EQ(generate::sample(logits, sampling, std::nextafter(1.0, 0.0)), candidates.back().id);
}

TEST(Sampler, FrequenciesFollowTheProbabilities) {
  const std::vector<float> logits = random_logits(12, 11);
  for (const Sampling& sampling :
       {Sampling{.temperature = 1}, Sampling{.temperature = 1.7, .top_k = 6, .top_p = 0.9}}) {
    constexpr int kDraws = 200'000;
    std::vector<int> seen(logits.size());
    for (int i = 0; i < kDraws; ++i) {
      const double uniform = base::random_uniform(5, 1, static_cast<std::uint64_t>(i));
      ++seen[static_cast<std::size_t>(generate::sample(logits, sampling, uniform))];
    }
    const auto candidates = generate::distribution(logits, sampling);
    double chi_square = 0;
    int drawn = 0;
    for (const Candidate& candidate : candidates) {
      const int count = seen[static_cast<std::size_t>(candidate.id)];
      const double expected = candidate.probability * kDraws;
      chi_square += (count - expected) * (count - expected) / expected;
      drawn += count;
    }
    EXPECT_EQ(drawn, kDraws) << "a token outside the distribution was drawn";
    // 99.99 % quantile of chi-square with 11 degrees of freedom: 37.4; fewer degrees have less.
    EXPECT_LT(chi_square, 37.4);
  }
}

/// What a backend gives of a row.
kernels::TopLogits top_of(const std::vector<float>& logits, double temperature) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::ranges::stable_sort(order, std::ranges::greater(), logit);
  kernels::TopLogits top;
  top.logits.fill(-HUGE_VALF);
  top.ids.fill(-1);
  for (std::size_t i = 0; i < std::min(order.size(), top.ids.size()); ++i) {
    top.ids[i] = order[i];
    top.logits[i] = logit(order[i]);
  }
  for (const float value : logits) {
    top.mass += std::exp((static_cast<double>(value) - static_cast<double>(top.logits[0])) /
                         (temperature > 0 ? temperature : 1));
  }
  return top;
}

TEST(Sampler, DrawsFromCandidatesAreThoseFromAllLogits) {
  for (const std::size_t vocab : {std::size_t{5}, std::size_t{256}, std::size_t{5000}}) {
    const std::vector<float> logits = random_logits(vocab, 21);
    const auto size = static_cast<std::int64_t>(vocab);
    int answered = 0;
    for (const Sampling& sampling :
         {Sampling{.temperature = 0}, Sampling{.temperature = 0.7}, Sampling{.temperature = 3},
          Sampling{.temperature = 1, .top_k = 40}, Sampling{.temperature = 1, .top_k = 256},
          Sampling{.temperature = 0.8, .top_p = 0.9},
          Sampling{.temperature = 1, .top_k = 50, .top_p = 0.95, .min_p = 0.02},
          Sampling{.temperature = 1, .min_p = 0.1}}) {
      const kernels::TopLogits top = top_of(logits, sampling.temperature);
      for (std::uint64_t i = 0; i < 500; ++i) {
        const double uniform = base::random_uniform(6, 2, i);
        const auto id = generate::sample(top, size, sampling, uniform);
        if (!id) continue;
        ++answered;
        EXPECT_EQ(*id, generate::sample(logits, sampling, uniform)) << uniform;
      }
    }
    EXPECT_GT(answered, vocab <= 256 ? 3999 : 3000);
  }
}

TEST(Sampler, CandidatesThatDoNotSufficeSaySo) {
  const std::vector<float> even(5000, 1.0F);
  const kernels::TopLogits top = top_of(even, 1);
  EXPECT_FALSE(generate::sample(top, 5000, {.temperature = 1}, 0.5));
  EXPECT_FALSE(generate::sample(top, 5000, {.temperature = 1, .top_k = 257}, 0.5));
  EXPECT_FALSE(generate::sample(top, 5000, {.temperature = 1, .top_p = 0.5}, 0.001));
  EXPECT_FALSE(generate::sample(top, 5000, {.temperature = 1, .min_p = 0.5}, 0.001));
  EXPECT_FALSE(generate::sample(top, 5000, {.temperature = 1e-9}, 0.5));
  EXPECT_EQ(generate::sample(top, 5000, {.temperature = 1, .top_k = 256}, 0.999), 255);
  EXPECT_EQ(generate::sample(top, 5000, {.temperature = 0}, 0.999), 0);
  kernels::TopLogits damaged = top;
  damaged.logits[0] = NAN;
  EXPECT_FALSE(generate::sample(damaged, 5000, {.temperature = 0}, 0));
}

TEST(Sampler, ImpossibleTokensAreNeverDrawn) {
  const float never = -std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {never, 1, never, 1000, -1000};
  EXPECT_EQ(generate::distribution(logits, {.temperature = 1}).size(), 1U);
  for (const double uniform : {0.0, 0.5, std::nextafter(1.0, 0.0)}) {
    EXPECT_EQ(generate::sample(logits, {.temperature = 1}, uniform), 3);
  }
  EXPECT_EQ(generate::sample(logits, {.temperature = 1e-300}, 0.5), 3);
}

TEST(Sampler, DamagedLogitsAreRefusedByToken) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    const Sampling sampling{.temperature = temperature};
    expect_error("logit of token 1: expected a finite number, got nan", [&] {
      generate::sample(std::vector<float>{0, nan}, sampling, 0.5);
    });
    expect_error("logit of token 0: expected a finite number, got inf", [&] {
      generate::distribution(std::vector<float>{infinity, 0}, sampling);
    });
    expect_error("every logit is -inf", [&] {
      generate::sample(std::vector<float>{-infinity, -infinity}, sampling, 0.5);
    });
    expect_error("expected the logits of at least one token",
                 [&] { generate::sample({}, sampling, 0.5); });
  }
}

TEST(Sampler, SettingsOutOfRangeAreNamed) {
  const double nan = std::nan("");
  expect_error("temperature: expected a number of at least 0, got -0.1",
               [] { generate::validate({.temperature = -0.1}); });
  expect_error("temperature: ", [&] { generate::validate({.temperature = nan}); });
  expect_error("temperature: ", [&] { generate::validate({.temperature = HUGE_VAL}); });
  expect_error("top-k: expected 0 (all) or more, got -1",
               [] { generate::validate({.top_k = -1}); });
  expect_error("top-p: expected a number from 0 to 1, got 1.5",
               [] { generate::validate({.top_p = 1.5}); });
  expect_error("top-p: ", [&] { generate::validate({.top_p = nan}); });
  expect_error("min-p: expected a number from 0 to 1, got -1",
               [] { generate::validate({.min_p = -1}); });
  expect_error("min-p: ", [&] { generate::validate({.min_p = nan}); });
  EXPECT_NO_THROW(generate::validate({.temperature = 0, .top_k = 0, .top_p = 0, .min_p = 1}));
}

}  // namespace
