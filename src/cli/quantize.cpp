// gpt2 quantize: a model directory in a smaller number format, for generate and score.

#include <array>
#include <memory>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/model_input.h"

namespace cli {
namespace {

struct QuantizeOptions {
  CommonOptions common;
  std::string model, precision, out;
};

/// What goes along with the weights, where the directory has it.
constexpr std::array kCompanions = {"config.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "tokenizer.json",
                                    "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "generation_config.json"};

std::uint64_t weight_bytes(const base::Path& folder) {
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") bytes += entry.file_size();
  }
  return bytes;
}

void run_quantize(const QuantizeOptions& options) {
  const base::Path from = find_model_folder(options.model);
  if (std::filesystem::exists(options.out)) {
    base::fail("{} exists already; choose a new folder for --out", options.out);
  }
  load_tokenizer(from);  // refuses half a tokenizer before the work
  base::AtomicFolder folder(options.out);
  model::quantize_model(from, folder.temporary(), format_of(options.precision));
  for (const char* name : kCompanions) {
    if (!std::filesystem::exists(from / name)) continue;
    base::write_file(folder.temporary() / name, base::read_file(from / name));
  }
  folder.commit();
  note(options.common, fmt::format("wrote {}: {} weights, {} of {}", options.out, options.precision,
                                   human_bytes(static_cast<double>(weight_bytes(options.out))),
                                   human_bytes(static_cast<double>(weight_bytes(from)))));
}

}  // namespace

void add_quantize(CLI::App& app) {
  CLI::App& command =
      *app.add_subcommand("quantize", "Write a model in a smaller format, for generate and score");
  const auto options = std::make_shared<QuantizeOptions>();
  command
      .add_option("-m,--model", options->model,
                  "Model directory, or a run directory of 'gpt2 train'")
      ->required();
  command.add_option("--precision", options->precision, "Number format: bf16, int8 or int4")
      ->required()
      ->check(CLI::IsMember({"bf16", "int8", "int4"}));
  command.add_option("-o,--out", options->out, "Folder to make")->required();
  add_threads(command);
  add_common(command, options->common);
  command.callback([options] { run_quantize(*options); });
}

}  // namespace cli
