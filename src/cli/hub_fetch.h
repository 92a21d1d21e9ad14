#pragma once
/// What the commands that fetch from the Hugging Face hub share: the environment, the status line.

#include <string>
#include <vector>

#include "cli/cli.h"
#include "hub/hub.h"

namespace cli {

/// Fetches a model or data set into the user's cache, with a status line, and says what came.
hub::Fetched fetch(const hub::Spec& spec, const CommonOptions& common);

/// `inputs` with the fetched files in place of each "hf:OWNER/NAME[@revision][:glob]".
std::vector<std::string> with_fetched(const std::vector<std::string>& inputs,
                                      const CommonOptions& common);

}  // namespace cli
