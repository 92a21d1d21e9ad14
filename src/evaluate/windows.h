#pragma once
/// Windows over a long sequence of ids, for the files of this room.

#include <cstdint>
#include <span>
#include <vector>

#include "model/model.h"

namespace evaluate {

/// Inputs [begin, end) of a sequence, of which those from `scored_from` on count; input i predicts
/// id i + 1.
struct Window {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t scored_from = 0;
  std::int64_t length() const { return end - begin; }
};

/// Evaluates windows of one length together.
class WindowBatch {
 public:
  /// Both must outlive it.
  WindowBatch(model::Gpt2& model, std::span<const std::int32_t> ids) : model_(model), ids_(ids) {}

  /// Losses (windows, length), 0 where an input does not count; valid until the next call.
  std::span<const float> losses(std::span<const Window> windows) {
    const std::int64_t length = windows.front().length();
    inputs_.clear();
    targets_.clear();
    for (const Window& window : windows) {
      for (std::int64_t i = window.begin; i < window.end; ++i) {
        inputs_.push_back(ids_[static_cast<std::size_t>(i)]);
        targets_.push_back(i < window.scored_from ? kernels::kIgnoredTarget
                                                  : ids_[static_cast<std::size_t>(i + 1)]);
      }
    }
    losses_.resize(inputs_.size());
    model_.evaluate(inputs_, targets_, static_cast<std::int64_t>(windows.size()), length, losses_);
    return losses_;
  }

 private:
  model::Gpt2& model_;
  std::span<const std::int32_t> ids_;
  std::vector<std::int32_t> inputs_;   // (B, T)
  std::vector<std::int32_t> targets_;  // (B, T)
  std::vector<float> losses_;          // (B, T)
};

}  // namespace evaluate
