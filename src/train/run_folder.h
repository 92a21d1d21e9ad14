#pragma once
/// The run directory as a whole: whether one may be begun there, what it was begun with.

#include <optional>
#include <string>

#include "train/options.h"

namespace train {

/// Facts of a run that are no options: train.json's key "facts".
struct RunFacts {
  model::Config config;
  std::string data_fingerprint;                ///< 16 hex digits
  std::optional<kernels::CpuChoice> cpu = {};  ///< what it computes with, so that its bits stay
};

/// What train.json holds.
struct RunRecord {
  Options options;
  RunFacts facts;
};

/// Writes `run`/train.json: the effective options under the flags' names, and the facts.
void write_record(const base::Path& run, const RunRecord& record);
/// Throws Error naming file and key.
RunRecord read_record(const base::Path& run);

/// Throws Error when a new run cannot begin in `run`: it holds another one, or other files. What a
/// killed process left under temporary names does not count.
void require_free_folder(const base::Path& run);

/// Removes what a killed process left under temporary names.
void remove_temporaries(const base::Path& run);

}  // namespace train
