#pragma once
/// Small data and small runs for the tests of this room.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "data/data.h"
#include "temporary_folder.h"
#include "train/log.h"
#include "train/train.h"

namespace train {

/// Token i of a made-up language in which most words follow from the one before.
inline std::vector<data::TokenId> made_up_tokens(std::int64_t count, std::uint64_t vocabulary,
                                                 std::uint64_t seed) {
  std::vector<data::TokenId> tokens;
  std::uint64_t word = 1;
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(count); ++i) {
    const bool free_choice = base::random_below(4, seed, 0, i) == 0;
    word = free_choice ? base::random_below(vocabulary, seed, 1, i) : (word * 5 + 3) % vocabulary;
    tokens.push_back(static_cast<data::TokenId>(word));
  }
  return tokens;
}

struct DataShape {
  std::int64_t train_tokens = 209;  // 26 windows of 8
  std::int64_t shards = 3;
  std::int64_t validation_tokens = 41;
  std::int64_t vocabulary = 50;
  std::uint64_t seed = 7;
};

/// Writes a prepared folder: shards that share one token, and a manifest.
inline void make_data(const base::Path& folder, const DataShape& shape = {}) {
  base::create_folders(folder);
  data::Manifest manifest;
  manifest.documents = 1;
  manifest.train_tokens = shape.train_tokens;
  manifest.validation_tokens = shape.validation_tokens;
  manifest.vocab_size = shape.vocabulary;
  manifest.vocab_hash = "0123456789abcdef";
  manifest.end_of_text = 0;
  const auto vocabulary = static_cast<std::uint64_t>(shape.vocabulary);
  const auto tokens = made_up_tokens(shape.train_tokens, vocabulary, shape.seed);
  const std::int64_t step = (shape.train_tokens - 1) / shape.shards;
  manifest.shard_tokens = step;
  const auto write = [&](const std::string& name, std::span<const data::TokenId> part) {
    data::ShardWriter writer(folder / name);
    writer.append(part);
    const std::int64_t count = writer.tokens();
    return data::ShardInfo{name, count, writer.commit()};
  };
  for (std::int64_t i = 0; i < shape.shards; ++i) {
    const std::int64_t first = i * step;
    const std::int64_t last = i + 1 == shape.shards ? shape.train_tokens : first + step + 1;
    manifest.train.push_back(
        write(fmt::format("train_{:06}.bin", i),
              std::span(tokens).subspan(static_cast<std::size_t>(first),
                                        static_cast<std::size_t>(last - first))));
  }
  if (shape.validation_tokens > 0) {
    const auto held_out = made_up_tokens(shape.validation_tokens, vocabulary, shape.seed + 1);
    manifest.validation.push_back(write("val_000000.bin", held_out));
  }
  data::write_manifest(folder, manifest);
}

/// A run that takes milliseconds: 15 steps of 4 windows, so that steps 6 and 13 cross an epoch.
inline Options small_run(const base::Path& data, const base::Path& out) {
  Options o;
  o.data = data;
  o.out = out;
  o.layers = 1;
  o.heads = 2;
  o.channels = 16;
  o.context = 8;
  o.micro_batch = 2;
  o.batch_tokens = 32;
  o.steps = 15;
  o.learning_rate = 1e-2;
  o.precision = base::DType::kF32;
  o.threads = 2;
  o.validate_every = 5;
  o.sample_every = 0;
  o.histogram_every = 0;
  o.checkpoint_every = 0;
  return o;
}

/// Runs to the end, or until `steps` more steps are done.
inline Outcome run_steps(const Options& options, std::int64_t steps = INT64_MAX) {
  Trainer trainer(options);
  Callbacks callbacks;
  std::int64_t done = 0;
  callbacks.on_step = [&](const StepReport&) { ++done; };
  callbacks.stop_requested = [&] { return done >= steps; };
  return trainer.run(callbacks);
}

/// Losses, gradient norms and validation losses of a run: what must not differ by a bit.
inline std::vector<double> numbers_of(const base::Path& run) {
  std::vector<double> numbers;
  std::int64_t next = 0;
  for (const StepReport& step : read_log(run / "log.jsonl").steps) {
    EXPECT_EQ(step.step, next++);
    numbers.insert(numbers.end(),
                   {step.loss, step.grad_norm, step.learning_rate, static_cast<double>(step.tokens),
                    step.validation_loss.value_or(-1)});
  }
  return numbers;
}

}  // namespace train
