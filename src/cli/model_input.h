#pragma once
/// What the commands that read a model share: the folder, its tokenizer, ids typed by the user.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/cli.h"
#include "model/model.h"
#include "text/text.h"

namespace cli {

/// Options of a command that runs a model.
struct ModelOptions {
  std::string path;
  std::optional<std::string> precision;  ///< nothing: as the directory's weights are
  std::string device;
  bool tf32 = true;
};
/// Adds --model, --precision, --device and --tf32. `options` must live as long as the program.
void add_model_options(CLI::App& command, ModelOptions& options);

/// The format that "fp32", "bf16", "int8" or "int4" names.
kernels::WeightFormat format_of(std::string_view precision);

/// A model directory, or the model/ inside a run directory. Throws Error when there is neither.
base::Path find_model_folder(const std::string& path);

/// A model ready to run, and its tokenizer where the folder has one.
struct LoadedModel {
  base::Path folder;
  std::optional<text::Tokenizer> tokenizer;
  model::Gpt2 model;
  std::string precision;  ///< of its weights: "fp32", "bf16", "int8", "int4"
  double seconds = 0;     ///< that loading the weights took
};
LoadedModel load_for_inference(const ModelOptions& options, const CommonOptions& common);

/// The tokenizer of a model directory, or nothing where it has neither vocab.json nor merges.txt.
/// Throws Error when it has one of them, or when they are inconsistent.
std::optional<text::Tokenizer> load_tokenizer(const base::Path& folder);

/// Whitespace-separated ids. `origin` names them in messages ("--prompt-ids", a file).
/// Throws Error naming the position (from 0) of a word that is not a number of 32 bits; whether the
/// ids fit a model is left to its users.
std::vector<std::int32_t> parse_ids(std::string_view words, std::string_view origin);

/// Text -> ids, with special tokens spelled out in it staying ordinary text.
std::vector<std::int32_t> encode_text(const text::Tokenizer& tokenizer, std::string_view bytes);

}  // namespace cli
