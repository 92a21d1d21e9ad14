#pragma once
/// Checkpoints and the model directory of a run, for the files of this room and their tests.
///
/// `run`/checkpoints/step_00001000/ is the state after 1000 steps: parameters.safetensors,
/// adam_m.safetensors, adam_v.safetensors (f32, all of the model's) and state.json. A folder under
/// that name is complete.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/options.h"

namespace train {

/// What state.json holds beside the checksums of the other files.
struct CheckpointState {
  std::int64_t step = 0;  ///< steps done: the next one to do
  std::int64_t tokens = 0;
  std::vector<data::LoaderState> loaders;  ///< of each folder of the data
  model::Config config;
  std::string backend;  ///< Backend::description() of the sitting that wrote it
  int threads = 0;
};

/// A model::Config under the keys of config.json, and back. Throws Error naming `file` and key.
Json config_to_json(const model::Config& config);
model::Config config_from_json(const Json& json, const base::Path& file);

/// A checkpoint's folder.
struct Checkpoint {
  base::Path folder;
  std::int64_t step = 0;
};

/// The checkpoints of a run, oldest first.
std::vector<Checkpoint> list_checkpoints(const base::Path& run);

/// Writes a checkpoint, replacing one of the same step. Returns its folder.
base::Path save_checkpoint(const base::Path& run, const CheckpointState& state,
                           const model::ParameterSet& parameters, const model::ParameterSet& m,
                           const model::ParameterSet& v);

/// Reads state.json and compares every file with its checksum.
/// Throws Error naming the file that is missing, broken or does not match.
CheckpointState check_checkpoint(const base::Path& folder);

/// The newest checkpoint that check_checkpoint() accepts; what it refuses goes to `skipped` with
/// the reason. Nothing when the run has no checkpoints. Throws Error when it has, but no good one.
std::optional<Checkpoint> newest_checkpoint(const base::Path& run, CheckpointState& state,
                                            std::vector<std::string>& skipped);

/// Reads the tensors of a checkpoint into sets of its Config.
void load_checkpoint(const base::Path& folder, model::ParameterSet& parameters,
                     model::ParameterSet& m, model::ParameterSet& v);

/// Removes all but the newest `keep` checkpoints; 0 keeps all.
void prune_checkpoints(const base::Path& run, std::int64_t keep);

/// Renews `run`/model: config.json, model.safetensors (f32) and, where given, the tokenizer's
/// files. The folder is whole at every moment.
void save_run_model(const base::Path& run, const model::ParameterSet& parameters,
                    const std::optional<base::Path>& tokenizer);

}  // namespace train
