#pragma once
/// A small shape, and random ids and weights for it, for the tests of this room.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/rng.h"
#include "model/model.h"

namespace model_test {

/// Sizes without common divisors worth the name, so that swapped ones show.
inline constexpr model::Config kSmallConfig = {.vocab_size = 61,
                                               .context = 12,
                                               .channels = 24,
                                               .heads = 3,
                                               .layers = 2,
                                               .end_of_text = std::nullopt};

/// The truth: the reference in f32.
inline std::unique_ptr<kernels::Backend> reference() {
  return kernels::make_backend(kernels::Device::kReference, base::DType::kF32);
}

/// Ids in kSmallConfig's vocabulary, a pure function of the seed.
inline std::vector<std::int32_t> random_ids(std::size_t count, std::uint64_t seed) {
  std::vector<std::int32_t> ids(count);
  for (std::size_t i = 0; i < count; ++i) {
    ids[i] = static_cast<std::int32_t>(
        base::random_below(static_cast<std::uint64_t>(kSmallConfig.vocab_size), seed, 0, i));
  }
  return ids;
}

/// Makes every parameter random, biases and gains too, large enough to matter; packs.
inline void randomize(model::Gpt2& model) {
  model::ParameterSet& p = model.parameters();
  for (std::size_t i = 0; i < p.size(); ++i) {
    const float mean = p.info(i).init == model::Init::kOnes ? 1.0F : 0.0F;
    model.backend().fill_normal(p.view(i).rows(0, p.info(i).file_rows), mean, 0.2F, 5, i);
  }
  model.pack();
}

}  // namespace model_test
