#pragma once
/// Checkpoints and the model directory of a run, for the files of this room and their tests.
///
/// `run`/checkpoints/step_00001000/ is the state after 1000 steps: a safetensors file for each set
/// of values (parameters, adam_m, adam_v, ...; f32) and state.json with the rest and every file's
/// checksum. A folder under that name is complete. checkpoints/best is the one of the lowest
/// validation loss, checkpoints/latest a file with the name of the newest.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "train/options.h"
#include "train/spike_guard.h"

namespace train {

/// The lowest validation loss so far.
struct BestLoss {
  std::int64_t step = 0;  ///< steps done then
  double loss = 0;
  bool operator==(const BestLoss&) const = default;
};

/// What state.json holds beside the checksums of the other files.
struct CheckpointState {
  std::int64_t step = 0;  ///< steps done: the next one to do
  std::int64_t tokens = 0;
  std::vector<data::LoaderState> loaders;  ///< of each folder of the data
  model::Config config;
  std::string backend;  ///< Backend::description() of the sitting that wrote it
  int threads = 0;
  std::string optimizer = "adamw";  ///< as optimizer_names() has it
  std::optional<BestLoss> best = {};
  SpikeHistory spikes = {};
  std::string products = {};  ///< Backend::choices()
};

/// One of the sets of values that a checkpoint keeps, under the name of its file without
/// ".safetensors".
struct StateSet {
  std::string name;
  model::ParameterSet* set;
};
inline constexpr const char* kParametersSet = "parameters";
inline constexpr const char* kAverageSet = "average";  // of the parameters, with --ema

/// A model::Config under the keys of config.json, and back. Throws Error naming `file` and key.
Json config_to_json(const model::Config& config);
model::Config config_from_json(const Json& json, const base::Path& file);

/// A checkpoint's folder.
struct Checkpoint {
  base::Path folder;
  std::int64_t step = 0;
};

/// The checkpoints of a run by step, oldest first; `best` is not among them.
std::vector<Checkpoint> list_checkpoints(const base::Path& run);
/// "step_00001000".
std::string checkpoint_name(std::int64_t step);
/// Its name in checkpoints/.
inline constexpr const char* kBestCheckpoint = "best";

/// Writes a checkpoint into checkpoints/`name` (default: its step's), replacing one that is there,
/// durably and all at once. Returns its folder.
base::Path save_checkpoint(const base::Path& run, const CheckpointState& state,
                           std::span<const StateSet> sets, const std::string& name = "");
/// Makes checkpoints/best hold the files of `checkpoint` (hard links, where the file system has
/// them).
void link_best(const base::Path& checkpoint);
/// Writes checkpoints/latest.
void write_latest(const base::Path& run, const base::Path& checkpoint);

/// Bytes of one checkpoint's files, nearly.
std::uint64_t checkpoint_bytes(std::span<const StateSet> sets);

/// Reads state.json and compares every file, itself included, with its checksum.
/// Throws Error naming the file that is missing, broken or does not match.
CheckpointState check_checkpoint(const base::Path& folder);

/// The newest checkpoint that check_checkpoint() accepts; what it refuses goes to `skipped` with
/// the reason. Nothing when the run has no checkpoints. Throws Error when it has, but no good one.
std::optional<Checkpoint> newest_checkpoint(const base::Path& run, CheckpointState& state,
                                            std::vector<std::string>& skipped);

/// Fills the sets from a checkpoint's files. Throws Error naming file and tensor.
void load_checkpoint(const base::Path& folder, std::span<const StateSet> sets);

/// Removes all but the newest `keep` checkpoints (0: none) and, where `keep_every` is not 0, those
/// of steps that it divides.
void prune_checkpoints(const base::Path& run, std::int64_t keep, std::int64_t keep_every = 0);

/// Writes `run`/model: the weights as a model directory, with `tokenizer`'s vocab.json and
/// merges.txt where given. Replaces the former one all at once.
void save_run_model(const base::Path& run, const model::ParameterSet& parameters,
                    const std::optional<base::Path>& tokenizer);

}  // namespace train
