#pragma once
/// Writes checkpoints while training goes on, for the files of this room and their tests.

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "train/checkpoint.h"

namespace train {

/// What stays of a run's checkpoints.
struct Retention {
  std::int64_t keep = 3;        ///< the newest so many; 0: all
  std::int64_t keep_every = 0;  ///< and those of the steps that this divides; 0: none
};

/// What a write makes.
struct Wanted {
  bool numbered = false;  ///< checkpoints/step_... and the model directory
  bool best = false;      ///< checkpoints/best
};

/// How a write ended.
struct WriteResult {
  std::int64_t step = 0;
  Wanted wanted;
  std::optional<base::Path> folder;  ///< the checkpoint, where it was written
  std::string error;                 ///< empty: nothing went wrong
  double waited_seconds = 0;         ///< how long training waited, for the copy too
  double seconds = 0;                ///< of writing
};

/// One writer a run. A write copies the values, then writes the copy, both in the background: the
/// copy is made while the next gradients are computed, which change no weights. Where memory does
/// not allow the copy, all is done before write() returns. Nothing is thrown for a write that
/// fails: its temporaries are removed and the result tells.
class CheckpointWriter {
 public:
  /// `tokenizer`: as of save_run_model(). `free_memory`: asked before the first copy.
  CheckpointWriter(base::Path run, Retention retention, std::optional<base::Path> tokenizer,
                   std::function<std::uint64_t()> free_memory = base::free_memory_bytes);

  /// Waits for the former write, then begins this one. `sets`: what the checkpoint keeps, the
  /// parameters first; `model`: the one among them that the model directory is made of. They must
  /// stay as and where they are until wait_copied().
  void write(const CheckpointState& state, const std::vector<StateSet>& sets, Wanted wanted,
             std::size_t model = 0);
  /// Waits until the values may change.
  void wait_copied();
  /// Results of the writes that have ended since the last call; waits for nothing.
  std::vector<WriteResult> results();
  /// Waits until nothing is being written.
  void wait();
  /// False once a copy did not fit into memory.
  bool in_background() const { return background_; }

 private:
  void run_write(const CheckpointState& state, const std::vector<StateSet>& sets, Wanted wanted,
                 std::size_t model);
  bool room_for_copy(const std::vector<StateSet>& sets);
  std::vector<StateSet> copy(const std::vector<StateSet>& sets);

  base::Path run_;
  Retention retention_;
  std::optional<base::Path> tokenizer_;
  std::function<std::uint64_t()> free_memory_;
  std::vector<model::ParameterSet> copies_;
  bool background_ = true;
  std::atomic<bool> copied_{true};
  WriteResult result_;  // of the write under way; the task's until it has ended
  bool pending_ = false;
  std::vector<WriteResult> results_;
  base::BackgroundTask task_;  // last: its end is waited for before the rest goes
};

}  // namespace train
