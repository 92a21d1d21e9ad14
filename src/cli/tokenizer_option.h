#pragma once
/// What encode and decode share: --tokenizer, and lines of JSON.

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "cli/cli.h"
#include "text/text.h"

namespace cli {

/// The tokenizer to use: GPT-2's own unless a folder names another.
class TokenizerOption {
 public:
  /// Adds --tokenizer to `command`; this object must live as long as the program.
  void add(CLI::App& command);
  /// The tokenizer; a folder is read at the first call. It may be a model or data folder, or a run
  /// directory that holds one as model/. Throws Error naming what is missing.
  const text::Tokenizer& get();

 private:
  std::string folder_;
  std::optional<text::Tokenizer> loaded_;
};

/// How messages call an input.
std::string name_of_input(const std::string& input);

/// Writes answer(object) as a line for each line of JSON in the input; blank lines are skipped.
/// Throws Error naming file and line where a line is no JSON object or `answer` throws.
void answer_json_lines(const std::string& input,
                       const std::function<std::string(const nlohmann::json&)>& answer);

}  // namespace cli
