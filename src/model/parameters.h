#pragma once
/// Inside the model room: the list of parameters before any memory exists.

#include <vector>

#include "model/model.h"

namespace model {

/// What GPT2LMHeadModel's names begin with.
inline constexpr std::string_view kNamePrefix = "transformer.";
/// The same tensor as wte.weight.
inline constexpr std::string_view kHeadName = "lm_head.weight";

/// Every parameter of a GPT-2 in its fixed order: wte, wpe, block after block, the last LayerNorm,
/// the adapters block after block. Throws Error for a `tuning` that cannot be.
std::vector<ParameterInfo> parameter_list(const Config& config, const Tuning& tuning = {});

/// Sets ParameterInfo::trained of a list as `tuning` says. Throws Error for a name that means no
/// parameter, and where nothing is left.
void apply(const Tuning& tuning, const Config& config, std::vector<ParameterInfo>& list);

/// The lowest place of what is trained.
std::int64_t lowest_trained_place(const std::vector<ParameterInfo>& list);
/// The block that a place is in; -1 for the embedding, L for the last LayerNorm.
inline std::int64_t layer_of(std::int64_t place) {
  return place == 0 ? -1 : (place - 1) / kBlockOperations;
}
/// Place of the first operation of a block.
inline std::int64_t first_place(std::int64_t layer) { return 1 + layer * kBlockOperations; }

/// Elements of the largest weight that has an adapter; 0 where none has.
std::int64_t largest_adapted(const std::vector<ParameterInfo>& list);
/// What products use of parameter `index`: itself, or its adapter merged into it, which is then
/// written to `staging` (largest_adapted() f32 values).
ConstView merged(const ParameterSet& set, std::size_t index, float* staging);

/// Whether a parameter has memory in a set of such contents.
bool is_in(Contents contents, const ParameterInfo& info);

}  // namespace model
