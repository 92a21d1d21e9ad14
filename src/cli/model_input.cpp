// Model directories and ids, as generate and score take them from the command line.

#include "cli/model_input.h"

#include <charconv>
#include <chrono>
#include <memory>

#include "base/error.h"
#include "cli/cpu_choice.h"
#include "cli/device.h"
#include "kernels/kernels.h"

namespace cli {

void add_model_options(CLI::App& command, ModelOptions& options) {
  command
      .add_option("-m,--model", options.path, "Model directory, or a run directory of 'gpt2 train'")
      ->required();
  command
      .add_option("--precision", options.precision,
                  "Number format to compute with: fp32, bf16, int8 or int4 (default: fp32, or what "
                  "'gpt2 quantize' made)")
      ->check(CLI::IsMember({"fp32", "bf16", "int8", "int4"}));
  add_device(command, options.device);
  add_tf32(command, options.tf32);
}

kernels::WeightFormat format_of(std::string_view precision) {
  using enum kernels::WeightFormat;
  for (const kernels::WeightFormat format : {kF32, kBf16, kInt8, kInt4}) {
    if (name_of(format) == precision) return format;
  }
  base::fail("precision: expected fp32, bf16, int8 or int4, got {}", precision);
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
  const base::Path folder = find_model_folder(options.path);
  std::optional<text::Tokenizer> tokenizer = load_tokenizer(folder);
  const auto start = std::chrono::steady_clock::now();
  const kernels::WeightFormat format =
      options.precision ? format_of(*options.precision) : model::stored_format(folder);
  const bool is_bf16 = format == kernels::WeightFormat::kBf16;
  const bool has_floats = is_bf16 || format == kernels::WeightFormat::kF32;
  const DeviceChoice device = choose_device(options.device, /*fits=*/has_floats);
  // Only bf16 has more than one way that could be the fastest.
  std::optional<kernels::CpuChoice> cpu;
  if (is_bf16 && !device.is_cuda()) cpu = choose_cpu(common, base::DType::kBf16);
  auto backend = kernels::make_inference_backend(device.device, format, cpu ? &*cpu : nullptr,
                                                 device.index, options.tf32);
  if (is_bf16 && !device.is_cuda() && !kernels::bf16_products_in_hardware()) {
    note(common, "this processor has no bf16 products: bf16 is converted to fp32 on the way in");
  }
  model::Gpt2 model = model::load_for_inference(folder, std::move(backend));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return {folder, std::move(tokenizer), std::move(model), std::string(name_of(format)),
          took.count()};
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
