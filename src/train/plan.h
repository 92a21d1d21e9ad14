#pragma once
/// The rules that turn options and data into a plan, for the files of this room and their tests.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "train/train.h"

namespace train {

inline constexpr double kGiga = 1e9;  ///< bytes of a gigabyte

/// What the rules need to know of the data.
struct DataFacts {
  std::string folder;  ///< for messages
  std::int64_t train_tokens = 0;
  std::int64_t validation_tokens = 0;
  std::optional<std::int64_t> vocab_size;   ///< the manifest's
  std::optional<std::int32_t> end_of_text;  ///< the manifest's
  /// Each folder of a mixture; none: there is one folder, of the tokens above.
  struct Part {
    std::string folder;
    std::int64_t train_tokens = 0;
    std::int64_t validation_tokens = 0;
    double share = 1;  ///< of the windows; the sum is 1
  };
  std::vector<Part> parts = {};
};

/// Replaces every absent option (but init, epochs and max_seconds) by its effective value and says
/// what follows from all of them. `init`: the shape of the model to start from, where there is one.
///
/// Defaults that data lowers, with N training tokens:
///   micro-batch 16       to at most a hundredth of N and the batch-tokens given, in whole windows,
///                        and to a divisor of the batch-tokens given; at least 1
///   batch-tokens 524288  to at most a hundredth of N, in whole micro-batches; at least one
///   warmup-steps 700     to a twentieth of the steps
/// Throws Error naming the option for a value out of range and for every contradiction; a value
/// that was given is never changed.
Plan resolve(Options& options, const DataFacts& facts, const std::optional<model::Config>& init);

/// With several folders an epoch is as many windows as all of them hold; validation takes windows
/// of each by its share, at least one where it has one.
///
/// Steps that so many epochs come to: the last batch of the last epoch may reach into the next one.
std::int64_t steps_of_epochs(double epochs, std::int64_t train_windows, std::int64_t length,
                             std::int64_t batch_tokens);

/// Throws Error when training by `plan` needs more than `free_bytes`, with both figures and the
/// flag to change. `needed(B)` is what a micro-batch of B would need.
void check_memory(const Plan& plan, std::uint64_t free_bytes,
                  const std::function<model::MemoryPlan(std::int64_t)>& needed);

}  // namespace train
