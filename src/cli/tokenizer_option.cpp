// --tokenizer, and lines of JSON.

#include "cli/tokenizer_option.h"

#include "base/error.h"

namespace cli {

void TokenizerOption::add(CLI::App& command) {
  command.add_option("--tokenizer", folder_,
                     "Folder with vocab.json and merges.txt (default: GPT-2's own, built in)");
}

const text::Tokenizer& TokenizerOption::get() {
  if (folder_.empty()) return text::Tokenizer::gpt2();
  if (!loaded_) {
    const base::Path folder(folder_);
    const bool run =
        !text::Tokenizer::present(folder) && text::Tokenizer::present(folder / "model");
    loaded_ = text::Tokenizer::load(run ? folder / "model" : folder);
  }
  return *loaded_;
}

std::string name_of_input(const std::string& input) { return input == "-" ? "stdin" : input; }

void answer_json_lines(const std::string& input,
                       const std::function<std::string(const nlohmann::json&)>& answer) {
  for_each_input_line(input, [&](std::string_view line, std::int64_t number) {
    if (line.find_first_not_of(" \t") == std::string_view::npos) return;
    std::string result;
    try {
      const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!object.is_object()) {
        base::fail("expected a JSON object, got {}",
                   object.is_discarded() ? "something that is not JSON" : object.type_name());
      }
      result = answer(object);
    } catch (const base::Error& error) {
      base::fail("{}:{}: {}", name_of_input(input), number, error.what());
    }
    write_output(result + "\n");
  });
}

}  // namespace cli
