#pragma once
/// Inside the model room: what a Gpt2 consists of, for the files of its passes.

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "model/activations.h"
#include "model/model.h"
#include "model/parameters.h"

namespace model {

/// The masks of one pass: in evaluation none.
class Masks {
 public:
  Masks() = default;
  Masks(const Regularization& regularization, const StepRows& rows);
  kernels::Dropout embedding() const { return place(0); }
  kernels::Dropout attention(std::size_t layer) const { return place(1 + 3 * layer); }
  /// Of a block's two branches, before they are added.
  kernels::Dropout attention_branch(std::size_t layer) const { return place(2 + 3 * layer); }
  kernels::Dropout mlp_branch(std::size_t layer) const { return place(3 + 3 * layer); }

 private:
  kernels::Dropout place(std::size_t number) const;
  float probability_ = 0;
  std::uint64_t key_ = 0;  // of the step
  std::int64_t first_row_ = 0;
};

struct Gpt2::State {
  std::unique_ptr<kernels::Backend> backend;
  bool trainable = false;
  bool masters = true;
  ParameterSet parameters;
  base::Arena copies_arena;
  std::vector<kernels::PackedWeight> copies;  // by ParameterInfo::packed
  float* staging = nullptr;                   // largest_adapted() values, in the same arena
  std::int64_t lowest_place = 0;              // of what is trained
  std::unique_ptr<ParameterSet> gradients;
  bool gradients_begin_anew = false;  // what they hold is void: read as zero
  bool odd_micro_batch = false;       // of those that were queued
  std::vector<ConstView> gradient_views;
  TrainingActivations training;
  Regularization regularization;
  InferenceActivations inference;
  // Of the pass that is being computed:
  std::vector<std::int32_t> positions;     // (N)
  std::vector<kernels::CacheRows> cached;  // (S), of one layer; empty: whole sequences
  std::vector<std::int64_t> ones;          // (S), of decode_batch()
  struct Range {
    std::int64_t row, count;
  };
  std::vector<Range> scored;                 // of evaluate(): the rows with targets
  std::vector<std::int32_t> scored_targets;  // theirs, side by side

  State(const Config& config, std::unique_ptr<kernels::Backend> own_backend, bool is_trainable,
        bool has_masters, const Tuning& tuning);
  const Config& config() const { return parameters.config(); }
  /// Renews the copy of one parameter, where it has one.
  void pack(std::size_t index);
  /// Embedding and all blocks of whole sequences of `length`. The last block's branch stays in
  /// a.branch, not yet added.
  void blocks_forward(const Activations& a, ConstView ids, std::int64_t length,
                      const Masks& masks = {});
  /// The same for counts[i] new positions of each cached sequence; rows of `ids` in their order.
  void blocks_forward_cached(const Activations& a, ConstView ids, std::span<KvCache* const> caches,
                             std::span<const std::int64_t> counts);
  /// Checks a cache, and gives it room for `rows` more positions.
  void make_room(KvCache& cache, std::int64_t rows) const;
  void block(const Activations& a, std::size_t layer, const Masks& masks = {});
  template <class Head>
  void step_sequences(std::span<KvCache* const> caches, std::span<const std::int32_t> ids,
                      Head&& head);
  void micro_batch(std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                   float scale, const StepRows& step_rows, double* loss);
  /// The blocks' gradients of a training pass, from the last block to the lowest that has any.
  void blocks_backward(kernels::Gradient gradient, const Masks& masks);
  /// Adds that branch and normalizes, for `count` rows from `first`. Gives (count, C) in A, the
  /// rows of a.normed from `to` on.
  ConstView final_norm(const Activations& a, std::int64_t to, std::int64_t first,
                       std::int64_t count, const kernels::Dropout& dropout = {});
  /// Losses of the rows that have a target, 0 for the others; returns their sum.
  double scored_losses(const Activations& a, std::span<const std::int32_t> targets,
                       std::int64_t length, std::span<float> losses);
  /// The gradients for what is queued next; host code wants gradients(). Throws Error without
  /// prepare_training().
  ParameterSet& queued_gradients();
  /// One step of the optimizer `name` on every parameter; `muon` null: AdamW alone.
  void step(std::string_view name, ParameterSet& m, ParameterSet& v, const kernels::AdamW& adamw,
            const kernels::Muon* muon, const MovingAverage& average);
  /// The residual stream as the last block left it.
  static View last_residual(const Activations& a) { return a.blocks.back().mid; }
};

/// Ids come from outside; one in the padding would pass the kernels' checks and mean nothing.
inline void check_ids(std::string_view what, std::span<const std::int32_t> ids, std::int32_t low,
                      std::int64_t vocab_size) {
  const auto wrong =
      std::ranges::find_if(ids, [&](std::int32_t id) { return id < low || id >= vocab_size; });
  if (wrong == ids.end()) return;
  base::fail("{} {} at position {}: expected {} to {}", what, *wrong, wrong - ids.begin(), low,
             vocab_size - 1);
}

inline void check_count(std::string_view what, std::size_t got, std::int64_t expected) {
  if (std::cmp_equal(got, expected)) return;
  base::fail("{}: expected {} values, got {}", what, expected, got);
}

inline void check_length(std::int64_t length, const Config& config) {
  if (length < 1 || length > config.context) {
    base::fail("sequence length: expected 1 to the model's context of {}, got {}", config.context,
               length);
  }
}

inline ConstView ids_view(std::span<const std::int32_t> ids) {
  return {ids.data(), DType::kI32, {static_cast<std::int64_t>(ids.size())}};
}

inline View floats_view(std::span<float> values, Shape shape) {
  return {values.data(), DType::kF32, shape};
}

}  // namespace model
