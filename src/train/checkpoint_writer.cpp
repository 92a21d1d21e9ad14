// Copies for the background, and what one write leaves on disk.

#include "train/checkpoint_writer.h"

#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace train {
namespace {

// The copy leaves this much of the free memory to everything else.
constexpr std::uint64_t kSpareBytes = std::uint64_t{64} << 20;

}  // namespace

CheckpointWriter::CheckpointWriter(base::Path run, Retention retention,
                                   std::optional<base::Path> tokenizer,
                                   std::function<std::uint64_t()> free_memory)
    : run_(std::move(run)),
      retention_(retention),
      tokenizer_(std::move(tokenizer)),
      free_memory_(std::move(free_memory)) {}

/// False, from then on, where the copies do not fit into memory.
bool CheckpointWriter::room_for_copy(const std::vector<StateSet>& sets) {
  if (background_ && copies_.empty()) {
    background_ = free_memory_() > checkpoint_bytes(sets) + kSpareBytes;
    if (background_) copies_.resize(sets.size());
  }
  return background_;
}

/// The sets with the copies in their places; none, and the result tells, where something fails.
std::vector<StateSet> CheckpointWriter::copy(const std::vector<StateSet>& sets) {
  std::vector<StateSet> copied;
  try {
    for (std::size_t i = 0; i < sets.size(); ++i) {
      copies_[i].assign(*sets[i].set);
      copied.push_back({sets[i].name, &copies_[i]});
    }
  } catch (const std::exception& error) {
    result_.error = fmt::format("copying {}: {}", sets[copied.size()].name, error.what());
    copied.clear();
  }
  return copied;
}

void CheckpointWriter::write(const CheckpointState& state, const std::vector<StateSet>& sets,
                             Wanted wanted, std::size_t model) {
  const double begun = base::seconds(base::Clock::kWall);
  wait();
  result_ = {.step = state.step, .wanted = wanted, .folder = {}, .error = {}};
  pending_ = true;
  if (!room_for_copy(sets)) {
    run_write(state, sets, wanted, model);
    result_.waited_seconds = base::seconds(base::Clock::kWall) - begun;
    wait();
    return;
  }
  copied_ = false;
  result_.waited_seconds = base::seconds(base::Clock::kWall) - begun;
  task_ = base::BackgroundTask([this, state, sets, wanted, model] {
    const std::vector<StateSet> copied = copy(sets);
    copied_ = true;
    copied_.notify_all();
    if (!copied.empty()) run_write(state, copied, wanted, model);
  });
}

void CheckpointWriter::wait_copied() {
  if (copied_) return;
  const double begun = base::seconds(base::Clock::kWall);
  copied_.wait(false);
  result_.waited_seconds += base::seconds(base::Clock::kWall) - begun;
}

void CheckpointWriter::run_write(const CheckpointState& state, const std::vector<StateSet>& sets,
                                 Wanted wanted, std::size_t model) {
  const double begun = base::seconds(base::Clock::kWall);
  try {
    if (wanted.numbered) {
      result_.folder = save_checkpoint(run_, state, sets);
      write_latest(run_, *result_.folder);
      if (wanted.best) link_best(*result_.folder);
      prune_checkpoints(run_, retention_.keep, retention_.keep_every);
      save_run_model(run_, *sets[model].set, tokenizer_);
    } else if (wanted.best) {
      result_.folder = save_checkpoint(run_, state, sets, kBestCheckpoint);
    }
  } catch (const std::exception& error) {
    result_.error = error.what();
  }
  result_.seconds = base::seconds(base::Clock::kWall) - begun;
}

void CheckpointWriter::wait() {
  task_.wait();
  if (!std::exchange(pending_, false)) return;
  results_.push_back(std::exchange(result_, {}));
}

std::vector<WriteResult> CheckpointWriter::results() {
  if (!task_.running()) wait();
  return std::exchange(results_, {});
}

}  // namespace train
