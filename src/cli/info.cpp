// gpt2 info: what lies at a path.
//
// A table for people on stdout, or with --json one object. Nothing is loaded beyond headers, except
// that a single shard is read through for its largest id.

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/cpu_choice.h"
#include "cli/model_input.h"
#include "data/data.h"
#include "formats/formats.h"
#include "model/model.h"
#include "train/train.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

/// What is known: rows for people, and the same for scripts.
struct Report {
  Json json;
  std::vector<std::pair<std::string, std::string>> rows;

  void row(std::string label, std::string value) {
    rows.emplace_back(std::move(label), std::move(value));
  }
};

std::string exact_count(std::int64_t count) {
  return count < 1000 ? fmt::format("{}", count)
                      : fmt::format("{} ({})", count, human_count(static_cast<double>(count)));
}

void add_config(Report& report, const model::Config& config) {
  report.json["layers"] = config.layers;
  report.json["heads"] = config.heads;
  report.json["channels"] = config.channels;
  report.json["context"] = config.context;
  report.json["vocab_size"] = config.vocab_size;
  report.json["end_of_text"] = config.end_of_text ? Json(*config.end_of_text) : Json();
  report.json["parameters"] = config.parameter_count();
  report.row("shape", fmt::format("{} layers, {} heads, {} channels", config.layers, config.heads,
                                  config.channels));
  report.row("context", fmt::format("{} tokens", config.context));
  report.row("vocabulary", fmt::format("{} tokens", config.vocab_size));
  report.row("end of text", config.end_of_text ? fmt::format("{}", *config.end_of_text) : "none");
  report.row("parameters", exact_count(config.parameter_count()));
}

void add_tensors(Report& report, const formats::TensorFile& file) {
  std::size_t bytes = 0;
  std::int64_t elements = 0;
  std::set<std::string> types;
  for (const formats::Tensor& tensor : file.tensors()) {
    bytes += tensor.bytes.size();
    elements += tensor.elements();
    types.insert(tensor.type_name);
  }
  std::string names;
  for (const std::string& type : types) names += (names.empty() ? "" : " ") + type;
  report.json["tensors"] = file.tensors().size();
  report.json["elements"] = elements;
  report.json["types"] = types;
  report.json["bytes"] = bytes;
  report.row("weights", fmt::format("{} tensors, {}, {}", file.tensors().size(), names,
                                    human_bytes(static_cast<double>(bytes))));
}

std::string hex(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

void add_tokenizer(Report& report, const base::Path& folder) {
  const std::optional<text::Tokenizer> tokenizer = load_tokenizer(folder);
  if (!tokenizer) {
    report.json["tokenizer"] = nullptr;
    report.row("tokenizer", "none: works with token ids only");
    return;
  }
  report.json["tokenizer"] = {{"vocab_size", tokenizer->vocab_size()},
                              {"hash", hex(tokenizer->hash())}};
  const bool is_gpt2 = tokenizer->hash() == text::Tokenizer::gpt2().hash();
  report.row("tokenizer", fmt::format("{} entries, hash {}{}", tokenizer->vocab_size(),
                                      hex(tokenizer->hash()), is_gpt2 ? " (GPT-2's own)" : ""));
}

/// The packed files that `gpt2 quantize` made, each in a row.
void add_packed(Report& report, const base::Path& folder) {
  for (const auto format : {kernels::WeightFormat::kInt8, kernels::WeightFormat::kInt4}) {
    const base::Path path = folder / model::packed_file_name(format);
    if (!std::filesystem::exists(path)) continue;
    const formats::TensorFile file = formats::TensorFile::open(path);
    const std::string name(name_of(format));
    std::size_t bytes = 0;
    for (const formats::Tensor& tensor : file.tensors()) bytes += tensor.bytes.size();
    report.json["packed"][name] = {{"tensors", file.tensors().size()}, {"bytes", bytes}};
    report.row("packed", fmt::format("{}: {} tensors, {}", name, file.tensors().size(),
                                     human_bytes(static_cast<double>(bytes))));
  }
}

Report describe_model(const base::Path& folder) {
  Report report;
  report.json["kind"] = "model";
  report.row("kind", "model directory");
  add_config(report, model::read_config(folder));
  const kernels::WeightFormat format = model::stored_format(folder);
  if (!is_integer(format)) add_tensors(report, formats::TensorFile::open_model(folder));
  add_packed(report, folder);
  report.json["precision"] = name_of(format);
  report.row("runs in", fmt::format("{} unless --precision says otherwise", name_of(format)));
  add_tokenizer(report, folder);
  return report;
}

Report describe_checkpoint(const base::Path& folder) {
  const train::CheckpointInfo checkpoint = train::read_checkpoint(folder);
  Report report;
  report.json["kind"] = "checkpoint";
  report.row("kind", "checkpoint of a training run");
  add_config(report, checkpoint.config);
  report.json["steps_done"] = checkpoint.steps_done;
  report.json["tokens"] = checkpoint.tokens;
  report.json["backend"] = checkpoint.backend;
  report.json["threads"] = checkpoint.threads;
  report.row("steps", fmt::format("{} done, {} tokens", checkpoint.steps_done,
                                  exact_count(checkpoint.tokens)));
  report.row("written by", fmt::format("{}, {} thread{}", checkpoint.backend, checkpoint.threads,
                                       checkpoint.threads == 1 ? "" : "s"));
  return report;
}

void add_split(Report& report, const base::Path& folder, data::Split split,
               const std::string& name) {
  const data::TokenStream stream = data::TokenStream::open(folder, split);
  report.json[name] = {{"shards", stream.shard_count()}, {"tokens", stream.tokens()}};
  report.row(name, fmt::format("{} tokens in {} shard{}", exact_count(stream.tokens()),
                               stream.shard_count(), stream.shard_count() == 1 ? "" : "s"));
}

/// The share of the tokens that is learnt, where there are masks.
void add_learnt(Report& report, const data::Manifest& manifest) {
  report.json["mask"] = manifest.mask;
  if (manifest.mask == "none") return;
  report.json["train_learnt"] = manifest.train_learnt;
  report.json["validation_learnt"] = manifest.validation_learnt;
  const auto share = [](std::int64_t learnt, std::int64_t tokens) {
    const double part =
        static_cast<double>(learnt) / static_cast<double>(std::max<std::int64_t>(tokens, 1));
    return fmt::format("{} of {} ({:.1f} %)", learnt, tokens, 100 * part);
  };
  report.row("learnt", share(manifest.train_learnt, manifest.train_tokens) + " in training, " +
                           share(manifest.validation_learnt, manifest.validation_tokens) +
                           " in validation");
}

Report describe_shards(const base::Path& folder) {
  Report report;
  report.json["kind"] = "shards";
  report.row("kind", "shard folder");
  add_split(report, folder, data::Split::kTrain, "train");
  add_split(report, folder, data::Split::kValidation, "validation");
  const bool has_manifest = std::filesystem::exists(folder / data::kManifestName);
  report.json["manifest"] = has_manifest;
  if (!has_manifest) {
    report.row("manifest", "none");
    return report;
  }
  const data::Manifest manifest = data::read_manifest(folder);
  report.json["documents"] = manifest.documents;
  report.json["inputs"] = manifest.inputs.size();
  report.json["vocab_size"] = manifest.vocab_size;
  report.json["vocab_hash"] = manifest.vocab_hash;
  report.json["shard_tokens"] = manifest.shard_tokens;
  report.json["overlap"] = manifest.overlap;
  report.json["format"] = data::kFormatNames[static_cast<int>(manifest.format)];
  report.json["rejected"] = manifest.rejected;
  report.json["duplicates"] = manifest.duplicates;
  report.json["validation_fraction"] = manifest.validation_fraction;
  report.row("documents",
             fmt::format("{} from {} input{}", exact_count(manifest.documents),
                         manifest.inputs.size(), manifest.inputs.size() == 1 ? "" : "s"));
  report.row("vocabulary",
             fmt::format("{} tokens, hash {}", manifest.vocab_size, manifest.vocab_hash));
  add_learnt(report, manifest);
  report.row("full shard", exact_count(manifest.shard_tokens) + " tokens");
  return report;
}

Report describe_shard(const base::Path& path) {
  const data::Shard shard(path, std::nullopt);
  const auto tokens = shard.tokens();
  Report report;
  report.json = {{"kind", "shard"}, {"tokens", tokens.size()}};
  report.row("kind", "token shard");
  report.row("tokens", exact_count(static_cast<std::int64_t>(tokens.size())));
  if (!tokens.empty()) {
    const data::TokenId largest = *std::ranges::max_element(tokens);
    report.json["largest_id"] = largest;
    report.row("largest id", fmt::format("{}", largest));
  }
  return report;
}

Report describe_safetensors(const base::Path& path) {
  const formats::TensorFile file = formats::TensorFile::open(path);
  Report report;
  report.json["kind"] = "safetensors";
  report.row("kind", "safetensors file");
  add_tensors(report, file);
  report.json["metadata"] = file.metadata();
  report.row("elements", exact_count(report.json["elements"].get<std::int64_t>()));
  return report;
}

Report describe_run(const base::Path& folder) {
  const train::RunInfo run = train::read_run(folder);
  Report report;
  report.json["kind"] = "run";
  report.row("kind", "run directory");
  add_config(report, run.config);
  const std::int64_t done = run.last_step ? run.last_step->step + 1 : 0;
  report.json["steps_planned"] = run.steps_planned;
  report.json["steps_done"] = done;
  report.row("steps", fmt::format("{} of {} done", done, run.steps_planned));
  const char* const state = run.running ? "running" : run.finished ? "finished" : "stopped";
  report.json["state"] = state;
  report.row("state",
             run.running || run.finished
                 ? std::string(state)
                 : fmt::format("{}; go on: gpt2 train --out {} --resume", state, folder.string()));
  report.json["tokens_per_second"] = run.tokens_per_second ? Json(*run.tokens_per_second) : Json();
  report.json["seconds_left"] = run.seconds_left ? Json(*run.seconds_left) : Json();
  if (run.tokens_per_second && !run.finished) {
    report.row("speed", fmt::format("{} tokens/s, {} left", human_count(*run.tokens_per_second),
                                    human_duration(*run.seconds_left)));
  }
  if (run.last_step) {
    report.json["last_step"] = {{"step", run.last_step->step},
                                {"loss", run.last_step->loss},
                                {"tokens", run.last_step->tokens}};
    report.row("last loss", fmt::format("{:.4f} at step {}, after {} tokens", run.last_step->loss,
                                        run.last_step->step, exact_count(run.last_step->tokens)));
  } else {
    report.json["last_step"] = nullptr;
  }
  report.json["last_validation_loss"] =
      run.last_validation_loss ? Json(*run.last_validation_loss) : Json();
  if (run.last_validation_loss) {
    report.row("validation", fmt::format("{:.4f} (last loss)", *run.last_validation_loss));
  }
  report.json["cpu"] =
      run.cpu ? Json{{"isa", run.cpu->isa}, {"products", run.cpu->products}} : Json();
  if (run.cpu) report.row("computes on", text_of(*run.cpu));
  report.json["checkpoints"] = run.checkpoints;
  report.row("checkpoints",
             run.checkpoints.empty()
                 ? "none"
                 : fmt::format("{}, newest {}", run.checkpoints.size(), run.checkpoints.back()));
  return report;
}

bool holds_shards(const base::Path& folder) {
  if (std::filesystem::exists(folder / data::kManifestName) ||
      std::filesystem::exists(folder / data::kUnfinishedName)) {
    return true;
  }
  return std::ranges::any_of(std::filesystem::directory_iterator(folder),
                             [](const auto& entry) { return entry.path().extension() == ".bin"; });
}

bool holds_model(const base::Path& folder) {
  return std::filesystem::exists(folder / "config.json") ||
         std::filesystem::exists(folder / "model-int8.safetensors") ||
         std::filesystem::exists(folder / "model-int4.safetensors") ||
         std::filesystem::exists(folder / "model.safetensors") ||
         std::filesystem::exists(folder / "model.safetensors.index.json");
}

Report describe(const base::Path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    base::fail("{}: no such file or folder", path.string());
  }
  if (std::filesystem::is_directory(path)) {
    if (train::is_run(path)) return describe_run(path);
    if (train::is_checkpoint(path)) return describe_checkpoint(path);
    if (holds_model(path)) return describe_model(path);
    if (holds_shards(path)) return describe_shards(path);
    base::fail(
        "{}: neither a model directory (config.json), nor a shard folder (manifest.json or "
        "*.bin), nor a run directory or one of its checkpoints",
        path.string());
  }
  if (path.extension() == ".safetensors") return describe_safetensors(path);
  if (path.extension() == ".bin") return describe_shard(path);
  base::fail("{}: expected a model, shard or run folder, a .bin shard or a .safetensors file",
             path.string());
}

void print(const std::string& path, const Report& report) {
  std::size_t width = 0;
  for (const auto& [label, value] : report.rows) width = std::max(width, label.size());
  std::string text = path + "\n";
  for (const auto& [label, value] : report.rows) {
    text += "  " + label + std::string(width + 2 - label.size(), ' ') + value + "\n";
  }
  write_output(text);
}

struct InfoOptions {
  CommonOptions common;
  std::string path;
  bool json = false;
};

}  // namespace

void add_info(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("info", "Tell what a model, shard or run folder holds");
  const auto options = std::make_shared<InfoOptions>();
  command
      .add_option(
          "PATH", options->path,
          "Model directory, shard folder, run directory, checkpoint, .bin shard or .safetensors "
          "file")
      ->required();
  command.add_flag("--json", options->json, "Print one JSON object instead of a table");
  add_common(command, options->common);
  command.callback([options] {
    Report report = describe(options->path);
    report.json["path"] = options->path;
    if (options->json) {
      write_output(report.json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    } else {
      print(options->path, report);
    }
  });
}

}  // namespace cli
