#pragma once
/// Inside the model room: what a pass keeps of a (B, T) batch, and where it lies.
/// A is the backend's compute type; the residual stream and the statistics are f32.

#include <vector>

#include "model/model.h"

namespace model {

/// What one block's forward pass writes; in training it is kept for the backward pass, but for the
/// buffers that Recompute lets all blocks share.
struct BlockActivations {
  View res;                 // (N, C) f32: the residual entering the block
  View ln1;                 // (N, C) A
  View ln1_mean, ln1_rstd;  // (N)
  View qkv;                 // (N, 3C) A
  View att;                 // (N, C) A
  View lse;                 // (B, H, T) f32
  View mid;                 // (N, C) f32: the residual after attention
  View ln2;                 // (N, C) A
  View ln2_mean, ln2_rstd;  // (N)
  View pre;                 // (N, 4C) A: before GELU; absent in inference
  View hidden;              // (N, 4C) A
};

/// A forward pass. Inference has the buffers of a single block, which all blocks use in turn; there
/// the residuals are one buffer, updated in place.
struct Activations {
  std::vector<BlockActivations> blocks;
  View branch;      // (N, C) A: what the next add_layernorm adds
  View res;         // (N, C) f32: the residual after the last block
  View normed;      // (N, C) A
  View mean, rstd;  // (N)
  View losses;      // (N); training only

  const BlockActivations& block(std::size_t layer) const {
    return blocks[blocks.size() == 1 ? 0 : layer];
  }
};

/// What the backward pass uses up on its way.
struct BackwardBuffers {
  View dres;       // (N, C) f32: the residual stream's gradient, for the whole network
  View dres_copy;  // (N, C) A; absent where A is f32 and nothing is dropped
  View dbranch;    // the gradient of a branch's output in A: dres_copy, or dres itself
  View dnormed;    // (N, C) A
  View wide;       // (N, 4C) A

  /// The first (N, multiple C) elements of `wide`.
  View dwide(std::int64_t multiple) const {
    return {wide.data(), wide.type(), {dnormed.dim(0), multiple * dnormed.dim(1)}};
  }
};

/// Both passes' memory for micro-batches of (batch, length).
struct TrainingActivations {
  std::int64_t batch = 0, length = 0;
  Recompute recompute = Recompute::kNone;
  bool dropout = false;
  std::int64_t first_kept = 0;  // layer; what the blocks below leave is not kept
  Activations forward;
  BackwardBuffers backward;
  base::Arena arena;
};

TrainingActivations make_training_activations(const Config& config, DType type, std::int64_t batch,
                                              std::int64_t length, Recompute recompute,
                                              bool dropout, std::int64_t first_kept,
                                              base::MemorySource* memory = nullptr);

/// The lowest block that a backward pass goes into; the last one where it goes into none.
std::int64_t first_kept_layer(std::int64_t lowest_place, const Config& config);

/// Memory for forward passes of any size: grows when a larger one comes, else is used again.
class InferenceActivations {
 public:
  /// Buffers for (batch, length) in a backend's type and memory; valid until the next call.
  const Activations& use(const Config& config, kernels::Backend& backend, std::int64_t batch,
                         std::int64_t length);

 private:
  std::int64_t capacity_rows_ = 0;
  std::int64_t batch_ = 0, length_ = 0;
  Activations activations_;
  base::Arena arena_;
  std::byte* memory_ = nullptr;
};

/// Bytes of either, without taking them.
std::size_t training_activation_bytes(const Config& config, DType type, std::int64_t batch,
                                      std::int64_t length, Recompute recompute, bool dropout,
                                      std::int64_t first_kept);
std::size_t inference_activation_bytes(const Config& config, DType type, std::int64_t batch,
                                       std::int64_t length);

}  // namespace model
