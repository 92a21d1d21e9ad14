#pragma once
/// Inside the model room: the list of parameters before any memory exists.

#include <vector>

#include "model/model.h"

namespace model {

/// Every parameter of a GPT-2 in its fixed order: wte, wpe, block after block, the last LayerNorm.
std::vector<ParameterInfo> parameter_list(const Config& config);

/// Whether a parameter has memory in a set of such contents.
bool is_in(Contents contents, const ParameterInfo& info);

}  // namespace model
