// Draws from what a device gives of its logits, on the CUDA backend, whose kernels the host plays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "helpers.h"

namespace {

using generate::Sampling;
using generate_testing::golden;

model::Gpt2 load() {
  return model::load_model(
      golden("small"),
      kernels::make_inference_backend(kernels::Device::kCuda, kernels::WeightFormat::kBf16), false);
}

/// Token by token from all logits, each sequence alone.
std::vector<std::int32_t> from_all_logits(model::Gpt2& model, std::vector<std::int32_t> ids,
                                          const generate::Options& options) {
  std::vector<float> logits(static_cast<std::size_t>(model.config().vocab_size));
  model::KvCache cache = model.make_cache();
  std::vector<std::int32_t> made;
  for (std::int64_t i = 0; i < options.max_tokens; ++i) {
    model.decode(cache, ids, logits);
    const double uniform =
        base::random_uniform(options.seed, options.stream, static_cast<std::uint64_t>(i));
    ids = {generate::sample(logits, options.sampling, uniform)};
    made.push_back(ids.front());
  }
  return made;
}

TEST(GenerateCuda, TokensAreThoseOfAllLogits) {
  const std::vector<std::int32_t> prompt = {5, 6, 7};
  const std::vector<Sampling> samplings = {
      {.temperature = 0},
      {.temperature = 0.8},
      {.temperature = 1, .top_k = 5},
      {.temperature = 1.3, .top_p = 0.9},
      {.temperature = 1, .top_k = 300},  // more than candidates
      {.temperature = 1e7},              // nearly even: more than candidates
      {.temperature = 0.9, .top_p = 0.95, .min_p = 0.05}};
  model::Gpt2 model = load();
  ASSERT_TRUE(model.backend().has_candidates());
  std::vector<generate::Request> requests;
  std::vector<std::vector<std::int32_t>> expected, made(samplings.size());
  for (std::size_t i = 0; i < samplings.size(); ++i) {
    const generate::Options options{.sampling = samplings[i],
                                    .max_tokens = 4,
                                    .seed = 3,
                                    .stream = i,
                                    .ignore_end_of_text = true};
    expected.push_back(from_all_logits(model, prompt, options));
    requests.push_back({prompt, options});
  }
  for (const std::int64_t slots : {1, 3}) {
    for (auto& ids : made) ids.clear();
    generate::run_batch(
        model, requests, slots,
        [&](std::size_t request, std::int32_t id) {
          made[request].push_back(id);
          return true;
        },
        [](std::size_t, generate::Stop) {});
    EXPECT_EQ(made, expected) << slots;
  }
}

}  // namespace
