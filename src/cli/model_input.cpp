// Model directories and ids, as generate and score take them from the command line.

#include "cli/model_input.h"

#include <charconv>
#include <chrono>
#include <memory>

#include "base/error.h"
#include "kernels/kernels.h"

namespace cli {

void add_model_options(CLI::App& command, ModelOptions& options) {
  command
      .add_option("-m,--model", options.path, "Model directory, or a run directory of 'gpt2 train'")
      ->required();
  command.add_option("--precision", options.precision, "Number format: fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
}

base::Path find_model_folder(const std::string& path) {
  const base::Path folder(path);
  if (!std::filesystem::exists(folder)) base::fail("model {}: no such folder", path);
  if (!std::filesystem::is_directory(folder)) {
    base::fail("model {}: expected a folder with config.json and model.safetensors, got a file",
               path);
  }
  if (std::filesystem::exists(folder / "config.json")) return folder;
  if (std::filesystem::exists(folder / "model" / "config.json")) return folder / "model";
  base::fail("model {}: the folder has no config.json, nor a model/config.json inside", path);
}

std::optional<text::Tokenizer> load_tokenizer(const base::Path& folder) {
  const bool any = std::filesystem::exists(folder / "vocab.json") ||
                   std::filesystem::exists(folder / "merges.txt");
  if (!any) return std::nullopt;
  return text::Tokenizer::load(folder);
}

LoadedModel load_for_inference(const ModelOptions& options, const CommonOptions& common) {
  const base::DType type = options.precision == "bf16" ? base::DType::kBf16 : base::DType::kF32;
  const base::Path folder = find_model_folder(options.path);
  std::optional<text::Tokenizer> tokenizer = load_tokenizer(folder);
  auto backend = kernels::make_backend(kernels::Device::kCpu, type);
  if (type == base::DType::kBf16 && !kernels::bf16_products_in_hardware()) {
    note(common, "this processor has no bf16 products: bf16 is converted to fp32 on the way in");
  }
  const auto start = std::chrono::steady_clock::now();
  model::Gpt2 model = model::load_model(folder, std::move(backend), /*trainable=*/false);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return {folder, std::move(tokenizer), std::move(model), options.precision, took.count()};
}

std::vector<std::int32_t> parse_ids(std::string_view words, std::string_view origin) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  std::vector<std::int32_t> ids;
  for (std::size_t at = words.find_first_not_of(kSpace); at != std::string_view::npos;) {
    const std::size_t end = std::min(words.find_first_of(kSpace, at), words.size());
    const std::string_view word = words.substr(at, end - at);
    std::int32_t id = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || stop != word.data() + word.size()) {
      base::fail("{}: position {} (from 0): expected a token id, got '{}'", origin, ids.size(),
                 word);
    }
    ids.push_back(id);
    at = words.find_first_not_of(kSpace, end);
  }
  return ids;
}

std::vector<std::int32_t> encode_text(const text::Tokenizer& tokenizer, std::string_view bytes) {
  const std::vector<text::TokenId> ids =
      text::encode(tokenizer, bytes, text::SpecialTokens::kAsText);
  return {ids.begin(), ids.end()};
}

}  // namespace cli
