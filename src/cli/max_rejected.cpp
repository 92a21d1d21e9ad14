// A share of the records, as a number or a percentage.

#include "cli/max_rejected.h"

#include <fmt/format.h>

namespace cli {
namespace {

double share_of(std::string word) {
  const bool percent = word.ends_with('%');
  if (percent) word.pop_back();
  double value = 0;
  const bool valid = CLI::detail::lexical_cast(word, value);
  if (percent) value /= 100;
  if (!valid || !(value >= 0 && value <= 1)) {
    throw CLI::ValidationError("--max-rejected",
                               "expected a share from 0 to 1 or a percentage, got " + word);
  }
  return value;
}

}  // namespace

void add_max_rejected(CLI::App& command, double& share, const std::string& help) {
  command
      .add_option_function<std::string>(
          "--max-rejected", [&share](const std::string& word) { share = share_of(word); }, help)
      ->default_str(fmt::format("{}", share));
}

}  // namespace cli
