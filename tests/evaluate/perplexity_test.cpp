// Log-probabilities against golden losses; the strided window against its definition.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "evaluate/evaluate.h"

namespace {

using Ids = std::vector<std::int32_t>;

// Source: two checkpoints with random weights and what an independent float64 program computes from
// them, with the conventions spelled out in each ref.json.
base::Path golden(const std::string& name) {
  return base::Path(GPT2_SOURCE_DIR "/tests/golden/model_golden") / name;
}

model::Gpt2 load(const std::string& name, kernels::Device device) {
  return model::load_model(golden(name), kernels::make_backend(device, base::DType::kF32), false);
}

template <class F>
void expect_error(const std::string& part, F&& function) {
  try {
    function();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

struct GoldenCase {
  const char* model;
  kernels::Device device;
};

class LogProbabilitiesGolden : public testing::TestWithParam<GoldenCase> {};

TEST_P(LogProbabilitiesGolden, AreTheReferencesLosses) {
  const auto [name, device] = GetParam();
  model::Gpt2 model = load(name, device);
  const auto reference = nlohmann::json::parse(base::read_file(golden(name) / "ref.json"));
  for (std::size_t row = 0; row < reference.at("inputs").size(); ++row) {
    const auto losses = reference.at("token_losses_f64").at(row).get<std::vector<double>>();
    const auto targets = reference.at("targets").at(row).get<Ids>();
    Ids ids = reference.at("inputs").at(row).get<Ids>();
    if (!std::equal(targets.begin(), targets.end() - 1, ids.begin() + 1)) {
      // A row may have a target that is not its next input: score each position on its own.
      for (std::size_t t = 0; t < targets.size(); ++t) {
        Ids prefix(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(t + 1));
        prefix.push_back(targets[t]);
        EXPECT_NEAR(evaluate::log_probabilities(model, prefix).back(), -losses[t], 2e-5);
      }
      continue;
    }
    ids.push_back(targets.back());
    const std::vector<double> got = evaluate::log_probabilities(model, ids);
    ASSERT_EQ(got.size(), losses.size());
    for (std::size_t t = 0; t < got.size(); ++t) EXPECT_NEAR(got[t], -losses[t], 2e-5);
  }
}
INSTANTIATE_TEST_SUITE_P(Models, LogProbabilitiesGolden,
                         testing::Values(GoldenCase{"tiny", kernels::Device::kReference},
                                         GoldenCase{"tiny", kernels::Device::kCpu},
                                         GoldenCase{"small", kernels::Device::kCpu}),
                         [](const auto& one) {
                           const bool cpu = one.param.device == kernels::Device::kCpu;
                           return std::string(one.param.model) + (cpu ? "Cpu" : "Reference");
                         });

class Evaluate : public testing::Test {
 protected:
  model::Gpt2 model_ = load("tiny", kernels::Device::kReference);  // context 16, 97 tokens

  static Ids random_ids(std::size_t count) {
    Ids ids(count);
    for (std::size_t i = 0; i < count; ++i) {
      ids[i] = static_cast<std::int32_t>(base::random_below(97, 1, 2, i));
    }
    return ids;
  }
};

TEST(LogProbabilities, OfManySequencesAreThoseOfEachAlone) {
  model::Gpt2 model = load("small", kernels::Device::kCpu);
  const auto longest = static_cast<std::uint64_t>(model.config().context) + 1;
  std::vector<Ids> sequences = {{}, {5}};
  for (std::uint64_t i = 0; i < 40; ++i) {  // lengths in no order, some of them equal
    Ids ids(2 + base::random_below(longest - 1, 3, 0, i));
    for (std::size_t t = 0; t < ids.size(); ++t) {
      ids[t] = static_cast<std::int32_t>(
          base::random_below(static_cast<std::uint64_t>(model.config().vocab_size), 4, i, t));
    }
    sequences.push_back(ids);
  }
  const auto together = evaluate::log_probabilities_each(model, sequences);
  ASSERT_EQ(together.size(), sequences.size());
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_EQ(together[i], evaluate::log_probabilities(model, sequences[i])) << "sequence " << i;
  }
}

TEST_F(Evaluate, LogProbabilitiesAreThoseOfTheLogits) {
  const Ids ids = random_ids(17);
  std::vector<float> logits(16 * 97);
  model_.logits(std::span(ids).first(16), logits);
  const std::vector<double> got = evaluate::log_probabilities(model_, ids);
  ASSERT_EQ(got.size(), 16U);
  for (std::size_t t = 0; t < 16; ++t) {
    double sum = 0;
    for (std::size_t v = 0; v < 97; ++v) sum += std::exp(static_cast<double>(logits[t * 97 + v]));
    const double logit = logits[t * 97 + static_cast<std::size_t>(ids[t + 1])];
    EXPECT_NEAR(got[t], logit - std::log(sum), 1e-5);
  }
}

TEST_F(Evaluate, FewerThanTwoIdsHaveNothingToScore) {
  EXPECT_TRUE(evaluate::log_probabilities(model_, {}).empty());
  EXPECT_TRUE(evaluate::log_probabilities(model_, Ids{3}).empty());
}

TEST_F(Evaluate, PerplexityFollowsTheStridedWindow) {
  for (const std::size_t count : {2U, 5U, 16U, 17U, 18U, 33U, 100U}) {
    const Ids ids = random_ids(count);
    const auto inputs = static_cast<std::int64_t>(count) - 1;
    for (const std::int64_t stride : {1, 3, 8, 16}) {
      // The definition, a window at a time.
      double sum = 0;
      std::int64_t scored = 0;
      for (std::int64_t begin = 0; scored < inputs; begin += stride) {
        const std::int64_t end = std::min<std::int64_t>(begin + 16, inputs);
        const auto window = evaluate::log_probabilities(
            model_, std::span(ids).subspan(static_cast<std::size_t>(begin),
                                           static_cast<std::size_t>(end - begin + 1)));
        for (; scored < end; ++scored) sum -= window[static_cast<std::size_t>(scored - begin)];
      }
      const auto got = evaluate::perplexity(model_, ids, stride, {});
      EXPECT_EQ(got.tokens, inputs);
      EXPECT_NEAR(got.loss, sum / static_cast<double>(inputs), 1e-6) << count << " " << stride;
      EXPECT_DOUBLE_EQ(got.perplexity, std::exp(got.loss));
    }
  }
}

TEST_F(Evaluate, ProgressCountsUpToAllTokens) {
  std::vector<std::int64_t> done;
  evaluate::perplexity(model_, random_ids(5000), 16, [&](std::int64_t scored, std::int64_t all) {
    EXPECT_EQ(all, 4999);
    done.push_back(scored);
  });
  ASSERT_GE(done.size(), 3U);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), 4999);
}

TEST_F(Evaluate, BadArgumentsAreNamed) {
  const auto perplexity = [this](const Ids& ids, std::int64_t stride) {
    evaluate::perplexity(model_, ids, stride, {});
  };
  expect_error("expected at most 17 tokens (the model's context and one), got 18",
               [&] { evaluate::log_probabilities(model_, Ids(18, 1)); });
  expect_error("id at position 1 (from 0): expected 0 to 96, got 97", [&] {
    evaluate::log_probabilities(model_, Ids{1, 97});
  });
  expect_error("id at position 0 (from 0): expected 0 to 96, got -1",
               [&] { evaluate::log_probabilities(model_, Ids{-1}); });
  expect_error("id at position 2 (from 0): expected 0 to 96, got 300", [&] {
    perplexity({1, 2, 300}, 4);
  });
  expect_error("stride: expected 1 to 16 (the model's context), got 17", [&] {
    perplexity({1, 2}, 17);
  });
  expect_error("stride: expected 1 to 16 (the model's context), got 0", [&] {
    perplexity({1, 2}, 0);
  });
  expect_error("perplexity: expected at least 2 tokens, got 1", [&] { perplexity({1}, 4); });
}

}  // namespace
