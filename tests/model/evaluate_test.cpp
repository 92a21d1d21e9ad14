// Losses after what is cached, and logits of some rows, against whole sequences on their own.

#include <gtest/gtest.h>

#include <vector>

#include "expect_error.h"
#include "model/model.h"
#include "model/random_model.h"

namespace {

using Ids = std::vector<std::int32_t>;
using model::Gpt2;
using model::KvCache;

using model_test::random_ids;

constexpr model::Config kConfig = model_test::kSmallConfig;

std::vector<std::unique_ptr<Gpt2>> models() {
  std::vector<std::unique_ptr<Gpt2>> models;
  for (const auto device : {kernels::Device::kReference, kernels::Device::kCpu}) {
    models.push_back(std::make_unique<Gpt2>(
        kConfig, kernels::make_backend(device, base::DType::kF32), /*trainable=*/false));
    models.back()->initialize(3);
    models.push_back(std::make_unique<Gpt2>(Gpt2::for_inference(
        kConfig, kernels::make_inference_backend(device, kernels::WeightFormat::kF32))));
    models.back()->initialize(3);
  }
  return models;
}

/// Losses of ids[1..] of one sequence.
std::vector<float> losses_of(Gpt2& model, const Ids& ids) {
  const std::size_t rows = ids.size() - 1;
  std::vector<float> losses(rows);
  model.evaluate(std::span(ids).first(rows), std::span(ids).subspan(1), 1,
                 static_cast<std::int64_t>(rows), losses);
  return losses;
}

void append(Ids& to, std::span<const std::int32_t> ids) {
  to.insert(to.end(), ids.begin(), ids.end());
}

TEST(EvaluateCached, GoesOnFromPrefixesOfSeveralLengths) {
  const Ids a = random_ids(13, 1), b = random_ids(8, 2);  // after 5, 0 and 4 cached ids
  Ids c = b;
  c[5] = 17;
  for (const auto& model : models()) {
    std::vector<KvCache> caches;
    for (int i = 0; i < 3; ++i) caches.emplace_back(kConfig, base::DType::kF32, 2);
    const std::vector<KvCache*> first = {&caches[0], &caches[2]};
    Ids ids(a.begin(), a.begin() + 5);
    append(ids, std::span(c).first(4));
    std::vector<float> losses(9, -1);
    const Ids none(9, kernels::kIgnoredTarget);
    EXPECT_EQ(model->evaluate_cached(first, std::vector<std::int64_t>{5, 4}, ids, none, losses), 0);
    EXPECT_EQ(losses, std::vector<float>(9, 0));

    const std::vector<KvCache*> all = {&caches[0], &caches[1], &caches[2]};
    const std::vector<std::int64_t> counts = {7, 7, 3};
    Ids targets;
    ids.clear();
    append(ids, std::span(a).subspan(5, 7));
    append(ids, std::span(b).first(7));
    append(ids, std::span(c).subspan(4, 3));
    append(targets, std::span(a).subspan(6, 7));
    append(targets, std::span(b).subspan(1, 7));
    append(targets, std::span(c).subspan(5, 3));
    losses.assign(17, -1);
    model->evaluate_cached(all, counts, ids, targets, losses);
    EXPECT_EQ(caches[0].length(), 12);
    EXPECT_EQ(caches[1].length(), 7);
    EXPECT_EQ(caches[2].length(), 7);
    const auto of_a = losses_of(*model, a), of_b = losses_of(*model, b),
               of_c = losses_of(*model, c);
    for (std::size_t t = 0; t < 7; ++t) EXPECT_NEAR(losses[t], of_a[t + 5], 1e-5) << t;
    for (std::size_t t = 0; t < 7; ++t) EXPECT_NEAR(losses[7 + t], of_b[t], 1e-5) << t;
    for (std::size_t t = 0; t < 3; ++t) EXPECT_NEAR(losses[14 + t], of_c[t + 4], 1e-5) << t;

    // What a sequence gets has nothing to do with the others.
    caches[2].truncate(4);
    std::vector<float> alone(3);
    const std::vector<KvCache*> one = {&caches[2]};
    model->evaluate_cached(one, std::vector<std::int64_t>{3}, std::span(ids).last(3),
                           std::span(targets).last(3), alone);
    EXPECT_EQ(alone, std::vector<float>(losses.end() - 3, losses.end()));
  }
}

TEST(EvaluateCached, RefusesWhatDoesNotFit) {
  Gpt2 model(kConfig, kernels::make_backend(kernels::Device::kReference, base::DType::kF32), false);
  KvCache cache(kConfig, base::DType::kF32);
  const std::vector<KvCache*> caches = {&cache};
  const Ids ids = random_ids(13, 1);
  std::vector<float> losses(13);
  const auto run = [&](std::int64_t count, std::size_t given) {
    model.evaluate_cached(caches, {&count, 1}, std::span(ids).first(given),
                          std::span(ids).first(given), std::span(losses).first(given));
  };
  expect_error("decode: 13 ids after 0 go past the model's context of 12", [&] { run(13, 13); });
  expect_error("evaluate_cached: counts: expected 1 or more each, got 0", [&] { run(0, 0); });
  expect_error("ids: expected 3 values, got 2", [&] { run(3, 2); });
  EXPECT_EQ(cache.length(), 0);
}

TEST(LogitsAt, AreThoseOfTheWholeSequences) {
  const Ids ids = random_ids(20, 4);  // (2, 10)
  for (const auto& model : models()) {
    std::vector<float> whole(20 * 61);
    model->logits(std::span(ids).first(10), std::span(whole).first(610));
    model->logits(std::span(ids).last(10), std::span(whole).last(610));
    const std::vector<std::int64_t> rows = {2, 8, 9, 10, 12, 19};
    std::vector<float> logits(rows.size() * 61);
    model->logits_at(ids, 2, 10, rows, logits);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t v = 0; v < 61; ++v) {
        ASSERT_NEAR(logits[i * 61 + v], whole[static_cast<std::size_t>(rows[i]) * 61 + v], 1e-5)
            << "row " << rows[i];
      }
    }
    expect_error("logits_at: rows: expected 0 to 19, ascending", [&] {
      model->logits_at(ids, 2, 10, std::vector<std::int64_t>{3, 3}, std::span(logits).first(122));
    });
    expect_error("logits_at: rows: expected 0 to 19, ascending", [&] {
      model->logits_at(ids, 2, 10, std::vector<std::int64_t>{20}, std::span(logits).first(61));
    });
  }
}

}  // namespace
