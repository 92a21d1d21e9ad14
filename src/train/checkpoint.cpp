// Checkpoints: complete under their names or absent.

#include "train/checkpoint.h"

#include <unistd.h>

#include <algorithm>

#include "base/error.h"

namespace train {
namespace {

constexpr int kVersion = 2;
constexpr int kFirstVersion = 1;  // without optimizer, best, spikes and state_crc32c
constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kSuffix = ".safetensors";
constexpr const char* kFolder = "checkpoints";
constexpr const char* kLatest = "latest";
constexpr const char* kState = "state.json";
constexpr const char* kChecksum = "state_crc32c";  // of state.json without this key

std::string file_of(std::string_view set) { return fmt::format("{}{}", set, kSuffix); }

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

Json to_json(const SpikeHistory& spikes) {
  return {{"losses", spikes.losses}, {"norms", spikes.norms}, {"in_a_row", spikes.in_a_row}};
}

SpikeHistory spikes_from(const Json& json) {
  return {json.at("losses").get<std::deque<double>>(), json.at("norms").get<std::deque<double>>(),
          json.at("in_a_row").get<std::int64_t>()};
}

/// What state.json says, from version 1 on. Throws Json::exception where a key is missing.
CheckpointState state_from(const Json& json, const base::Path& file) {
  const int version = json.at("version").get<int>();
  if (version < kFirstVersion || version > kVersion) {
    base::fail("{}: expected version {} to {}, got {}; it was written by another version of gpt2",
               file.string(), kFirstVersion, kVersion, json.at("version").dump());
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
  if (version == kFirstVersion) return state;
  state.optimizer = json.at("optimizer").get<std::string>();
  if (json.contains("best")) {
    state.best = BestLoss{json["best"].at("step").get<std::int64_t>(),
                          json["best"].at("val_loss").get<double>()};
  }
  state.spikes = spikes_from(json.at("spikes"));
  state.products = json.at("choices").value("products", "");
  return state;
}

Json state_to_json(const CheckpointState& state, const Json& checksums) {
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
  if (!state.products.empty()) json["choices"]["products"] = state.products;
  json["optimizer"] = state.optimizer;
  if (state.best) json["best"] = {{"step", state.best->step}, {"val_loss", state.best->loss}};
  json["spikes"] = to_json(state.spikes);
  json["crc32c"] = checksums;
  return json;
}

/// Checksum of what a state.json says, whatever its white space.
std::string checksum_of(Json json) {
  json.erase(kChecksum);
  return hex(base::crc32c(base::as_bytes(text_of(json))));
}

Json read_state(const base::Path& file) {
  Json json = Json::parse(base::read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    base::fail("{}: broken checkpoint state: not a JSON object", file.string());
  return json;
}

void check_file(const base::Path& file, const std::string& expected) {
  const base::MappedFile content(file);
  const std::string got = hex(base::crc32c(content.bytes()));
  if (got != expected) {
    base::fail("{}: expected checksum {}, got {}: the file is damaged", file.string(), expected,
               got);
  }
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
  for (const auto& entry : std::filesystem::directory_iterator(run / kFolder, error)) {
    const auto step = step_of_name(entry.path().filename().string());
    if (step && entry.is_directory()) found.push_back({entry.path(), *step});
  }
  std::sort(found.begin(), found.end(),
            [](const Checkpoint& a, const Checkpoint& b) { return a.step < b.step; });
  return found;
}

std::string checkpoint_name(std::int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

base::Path save_checkpoint(const base::Path& run, const CheckpointState& state,
                           std::span<const StateSet> sets, const std::string& name) {
  base::create_folders(run / kFolder);
  const base::Path path = run / kFolder / (name.empty() ? checkpoint_name(state.step) : name);
  base::AtomicFolder folder(path);
  Json checksums = Json::object();
  for (const StateSet& part : sets) {
    const std::string file = file_of(part.name);
    checksums[file] = hex(model::save_parameters(folder.temporary() / file, *part.set));
  }
  Json json = state_to_json(state, checksums);
  json[kChecksum] = checksum_of(json);
  base::write_file(folder.temporary() / kState, text_of(json, 2) + "\n");
  folder.commit(/*replace=*/true);
  return path;
}

void link_best(const base::Path& checkpoint) {
  base::AtomicFolder folder(checkpoint.parent_path() / kBestCheckpoint);
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint)) {
    const base::Path to = folder.temporary() / entry.path().filename();
    std::error_code error;
    std::filesystem::create_hard_link(entry.path(), to, error);
    if (error) base::write_file(to, base::read_file(entry.path()));
  }
  folder.commit(/*replace=*/true);
}

void write_latest(const base::Path& run, const base::Path& checkpoint) {
  base::write_file(run / kFolder / kLatest, checkpoint.filename().string() + "\n");
}

std::uint64_t checkpoint_bytes(std::span<const StateSet> sets) {
  std::uint64_t bytes = 0;
  for (const StateSet& part : sets) bytes += part.set->bytes();
  return bytes;
}

bool is_checkpoint(const base::Path& folder) {
  return std::filesystem::exists(folder / kState) &&
         std::filesystem::exists(folder / file_of(kParametersSet));
}

CheckpointInfo read_checkpoint(const base::Path& folder) {
  const base::Path file = folder / kState;
  try {
    const Json json = read_state(file);
    const CheckpointState state = state_from(json, file);
    for (const auto& [name, checksum] : json.at("crc32c").items()) {
      if (std::filesystem::exists(folder / name)) continue;
      base::fail("{}: {} is missing", folder.string(), name);
    }
    return {state.config, state.step, state.tokens, state.backend, state.threads};
  } catch (const Json::exception& error) {
    base::fail("{}: broken checkpoint state: {}", file.string(), error.what());
  }
}

CheckpointState check_checkpoint(const base::Path& folder) {
  const base::Path file = folder / kState;
  try {
    const Json json = read_state(file);
    CheckpointState state = state_from(json, file);
    if (json.at("version").get<int>() > kFirstVersion) {
      const auto expected = json.at(kChecksum).get<std::string>();
      const std::string got = checksum_of(json);
      if (got != expected) {
        base::fail("{}: expected checksum {}, got {}: the file is damaged", file.string(), expected,
                   got);
      }
    }
    const Json& checksums = json.at("crc32c");
    (void)checksums.at(file_of(kParametersSet));
    for (const auto& [name, checksum] : checksums.items()) {
      check_file(folder / name, checksum.get<std::string>());
    }
    return state;
  } catch (const Json::exception& error) {
    base::fail("{}: broken checkpoint state: {}", file.string(), error.what());
  }
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
        (run / kFolder).string(), all.size(), skipped.front());
  }
  return std::nullopt;
}

void load_checkpoint(const base::Path& folder, std::span<const StateSet> sets) {
  for (const StateSet& part : sets) {
    model::load_parameters(folder / file_of(part.name), *part.set);
  }
}

void prune_checkpoints(const base::Path& run, std::int64_t keep, std::int64_t keep_every) {
  const std::vector<Checkpoint> all = list_checkpoints(run);
  const auto kept = static_cast<std::size_t>(keep);
  if (keep == 0 || all.size() <= kept) return;
  for (std::size_t i = 0; i < all.size() - kept; ++i) {
    if (keep_every > 0 && all[i].step % keep_every == 0) continue;
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
