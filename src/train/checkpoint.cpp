// Checkpoints: complete under their names or absent.

#include "train/checkpoint.h"

#include <unistd.h>

#include <algorithm>

#include "base/error.h"

namespace train {
namespace {

constexpr int kVersion = 1;
constexpr std::string_view kPrefix = "step_";
constexpr const char* kParameters = "parameters.safetensors";
constexpr const char* kAdamM = "adam_m.safetensors";
constexpr const char* kAdamV = "adam_v.safetensors";
constexpr const char* kState = "state.json";

std::optional<std::int64_t> step_of_name(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string digits = name.substr(kPrefix.size());
  if (digits.empty() || digits.size() > 18) return std::nullopt;
  if (digits.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return std::stoll(digits);
}

std::string hex(std::uint32_t checksum) { return fmt::format("{:08x}", checksum); }

data::LoaderState loader_from(const Json& json) {
  return {json.at("seed").get<std::uint64_t>(), json.at("epoch").get<std::int64_t>(),
          json.at("window").get<std::int64_t>()};
}

Json to_json(const data::LoaderState& loader) {
  return {{"seed", loader.seed}, {"epoch", loader.epoch}, {"window", loader.window}};
}

CheckpointState state_from(const Json& json, const base::Path& file) {
  if (json.at("version").get<int>() != kVersion) {
    base::fail("{}: expected version {}, got {}; it was written by another version of gpt2",
               file.string(), kVersion, json.at("version").dump());
  }
  CheckpointState state;
  state.step = json.at("step").get<std::int64_t>();
  state.tokens = json.at("tokens").get<std::int64_t>();
  if (json.contains("loaders")) {
    for (const Json& loader : json["loaders"]) state.loaders.push_back(loader_from(loader));
  } else {
    state.loaders = {loader_from(json.at("loader"))};
  }
  state.config = config_from_json(json.at("config"), file);
  state.backend = json.at("choices").at("backend").get<std::string>();
  state.threads = json.at("choices").at("threads").get<int>();
  return state;
}

}  // namespace

Json config_to_json(const model::Config& config) {
  Json json = {{"vocab_size", config.vocab_size},
               {"n_positions", config.context},
               {"n_embd", config.channels},
               {"n_head", config.heads},
               {"n_layer", config.layers}};
  if (config.end_of_text) json["eos_token_id"] = *config.end_of_text;
  return json;
}

model::Config config_from_json(const Json& json, const base::Path& file) {
  model::Config config;
  try {
    config.vocab_size = json.at("vocab_size").get<std::int64_t>();
    config.context = json.at("n_positions").get<std::int64_t>();
    config.channels = json.at("n_embd").get<std::int64_t>();
    config.heads = json.at("n_head").get<std::int64_t>();
    config.layers = json.at("n_layer").get<std::int64_t>();
    config.end_of_text.reset();
    if (json.contains("eos_token_id")) {
      config.end_of_text = json.at("eos_token_id").get<std::int32_t>();
    }
  } catch (const Json::exception& error) {
    base::fail("{}: broken configuration: {}", file.string(), error.what());
  }
  model::validate(config);
  return config;
}

std::vector<Checkpoint> list_checkpoints(const base::Path& run) {
  std::vector<Checkpoint> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(run / "checkpoints", error)) {
    const auto step = step_of_name(entry.path().filename().string());
    if (step && entry.is_directory()) found.push_back({entry.path(), *step});
  }
  std::sort(found.begin(), found.end(),
            [](const Checkpoint& a, const Checkpoint& b) { return a.step < b.step; });
  return found;
}

base::Path save_checkpoint(const base::Path& run, const CheckpointState& state,
                           const model::ParameterSet& parameters, const model::ParameterSet& m,
                           const model::ParameterSet& v) {
  base::create_folders(run / "checkpoints");
  const base::Path path = run / "checkpoints" / fmt::format("{}{:08}", kPrefix, state.step);
  base::AtomicFolder folder(path);
  Json checksums = Json::object();
  checksums[kParameters] =
      hex(model::save_parameters(folder.temporary() / kParameters, parameters));
  checksums[kAdamM] = hex(model::save_parameters(folder.temporary() / kAdamM, m));
  checksums[kAdamV] = hex(model::save_parameters(folder.temporary() / kAdamV, v));
  Json json = {{"version", kVersion}, {"step", state.step}, {"tokens", state.tokens}};
  if (state.loaders.size() == 1) {
    json["loader"] = to_json(state.loaders.front());
  } else {
    json["loaders"] = Json::array();
    for (const data::LoaderState& loader : state.loaders) {
      json["loaders"].push_back(to_json(loader));
    }
  }
  json["config"] = config_to_json(state.config);
  json["choices"] = {{"backend", state.backend}, {"threads", state.threads}};
  json["crc32c"] = checksums;
  base::write_file(folder.temporary() / kState, json.dump(2) + "\n");
  folder.commit(/*replace=*/true);
  return path;
}

bool is_checkpoint(const base::Path& folder) {
  return std::filesystem::exists(folder / kState) && std::filesystem::exists(folder / kParameters);
}

CheckpointInfo read_checkpoint(const base::Path& folder) {
  const base::Path file = folder / kState;
  CheckpointState state;
  try {
    state = state_from(Json::parse(base::read_file(file)), file);
  } catch (const Json::exception& error) {
    base::fail("{}: broken checkpoint state: {}", file.string(), error.what());
  }
  for (const char* name : {kParameters, kAdamM, kAdamV}) {
    if (std::filesystem::exists(folder / name)) continue;
    base::fail("{}: {} is missing", folder.string(), name);
  }
  return {state.config, state.step, state.tokens, state.backend, state.threads};
}

CheckpointState check_checkpoint(const base::Path& folder) {
  const base::Path file = folder / kState;
  const Json json = Json::parse(base::read_file(file), nullptr, /*allow_exceptions=*/false);
  CheckpointState state;
  try {
    state = state_from(json, file);
    for (const char* name : {kParameters, kAdamM, kAdamV}) {
      const base::MappedFile content(folder / name);
      const auto expected = json.at("crc32c").at(name).get<std::string>();
      const std::string got = hex(base::crc32c(content.bytes()));
      if (got != expected) {
        base::fail("{}: expected checksum {}, got {}: the file is damaged",
                   (folder / name).string(), expected, got);
      }
    }
  } catch (const Json::exception& error) {
    base::fail("{}: broken checkpoint state: {}", file.string(), error.what());
  }
  return state;
}

std::optional<Checkpoint> newest_checkpoint(const base::Path& run, CheckpointState& state,
                                            std::vector<std::string>& skipped) {
  const std::vector<Checkpoint> all = list_checkpoints(run);
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    try {
      state = check_checkpoint(it->folder);
      if (state.step != it->step) {
        base::fail("{}: state.json says step {}", it->folder.string(), state.step);
      }
      return *it;
    } catch (const base::Error& error) {
      skipped.push_back(fmt::format("skipped a checkpoint: {}", error.what()));
    }
  }
  if (!all.empty()) {
    base::fail(
        "{}: none of the {} checkpoints can be used; the newest good one would be needed ({})",
        (run / "checkpoints").string(), all.size(), skipped.front());
  }
  return std::nullopt;
}

void load_checkpoint(const base::Path& folder, model::ParameterSet& parameters,
                     model::ParameterSet& m, model::ParameterSet& v) {
  model::load_parameters(folder / kParameters, parameters);
  model::load_parameters(folder / kAdamM, m);
  model::load_parameters(folder / kAdamV, v);
}

void prune_checkpoints(const base::Path& run, std::int64_t keep) {
  const std::vector<Checkpoint> all = list_checkpoints(run);
  const auto kept = static_cast<std::size_t>(keep);
  if (keep == 0 || all.size() <= kept) return;
  for (std::size_t i = 0; i < all.size() - kept; ++i) {
    // Renamed first: whoever looks in between finds it complete or not at all.
    const base::Path doomed =
        all[i].folder.string() + ".tmp." + std::to_string(static_cast<long>(::getpid()));
    std::error_code error;
    std::filesystem::rename(all[i].folder, doomed, error);
    if (error) base::fail("cannot remove {}: {}", all[i].folder.string(), error.message());
    std::filesystem::remove_all(doomed, error);
  }
}

void save_run_model(const base::Path& run, const model::ParameterSet& parameters,
                    const std::optional<base::Path>& tokenizer) {
  base::AtomicFolder folder(run / "model");
  model::save_model(folder.temporary(), parameters);
  if (tokenizer) {
    for (const char* name : {"vocab.json", "merges.txt"}) {
      base::write_file(folder.temporary() / name, base::read_file(*tokenizer / name));
    }
  }
  folder.commit(/*replace=*/true);
}

}  // namespace train
