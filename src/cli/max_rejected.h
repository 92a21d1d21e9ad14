#pragma once
/// --max-rejected, which prepare and train-tokenizer share. Private to the room.

#include <CLI/CLI.hpp>
#include <string>

namespace cli {

/// Adds --max-rejected SHARE, "0.01" or "1%". `share`, in [0, 1], holds the default and must
/// outlive parsing.
void add_max_rejected(CLI::App& command, double& share, const std::string& help);

}  // namespace cli
