#pragma once
/// Where a run stands, so that another process can go on. Private to the room.

#include <optional>
#include <string>

#include "base/file.h"
#include "data/data.h"
#include "prepare/split.h"

namespace prepare {

/// Stands beside the unfinished shards from the first full one on.
inline constexpr std::string_view kStateName = "prepare.state.json";

struct State {
  data::Position position;
  Splitter::State splitter;
  SequenceState train, validation;
  bool masks = false;     ///< written beside the shards
  bool dropping = false;  ///< inside a document that is a duplicate
  std::int64_t records = 0;
  std::int64_t rejected = 0;
  std::string first_rejected;
  std::int64_t duplicates = 0;
  std::uint64_t rejected_bytes = 0;  ///< length of rejected.jsonl
  std::int64_t hashes = 0;           ///< in the file of documents seen
  std::uint64_t text_bytes = 0;
  std::uint64_t bytes_done = 0;  ///< of input, for progress
};

/// Replaces the state file, durably.
void write_state(const base::Path& folder, const State& state);
/// Nothing where there is no state file. Throws Error for one that is broken.
std::optional<State> read_state(const base::Path& folder);

}  // namespace prepare
