#pragma once
/// Many prompts from lines of JSON, and their continuations as lines of JSON.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/model_input.h"
#include "generate/generate.h"

namespace cli {

/// A line of the input: {"prompt": text} or {"prompt_ids": [...]}, and where given {"id": anything,
/// "max_tokens", "temperature", "top_k", "top_p", "min_p", "seed": numbers, "stop": text or list of
/// texts}. Other keys are ignored.
struct PromptLine {
  std::optional<nlohmann::ordered_json> id;
  nlohmann::ordered_json prompt;  ///< {"prompt": ...} or {"prompt_ids": ...}, as it came
  generate::Request request;
  std::vector<std::string> stops;
};

/// What a line does not say for itself.
struct PromptDefaults {
  generate::Options options;
  std::vector<std::string> stops;
};

/// Reads every line of a file or of stdin ("-"); blank lines are skipped.
/// Throws Error naming file and line where one is wrong or the model cannot continue its prompt.
std::vector<PromptLine> read_prompts(const std::string& path_or_dash, const LoadedModel& loaded,
                                     const PromptDefaults& defaults);

}  // namespace cli
