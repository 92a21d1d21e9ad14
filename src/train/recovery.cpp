// What keeps a run's work: checkpoints as it goes, and the way back after spikes.

#include <cmath>

#include "base/error.h"
#include "train/trainer_state.h"

namespace train {
namespace {

// Going back to one checkpoint more often than this means that the data has changed for good.
constexpr std::int64_t kMostRollbacks = 3;

Json to_json(const std::vector<data::LoaderState>& states) {
  Json list = Json::array();
  for (const data::LoaderState& state : states) {
    list.push_back({{"epoch", state.epoch}, {"window", state.window}});
  }
  return list;
}

}  // namespace

/// What a checkpoint keeps beside its state.json; the parameters first.
std::vector<StateSet> Trainer::State::state_sets() {
  std::vector<StateSet> sets{
      {kParametersSet, &model->parameters()}, {"adam_m", &m}, {"adam_v", &v}};
  if (average) sets.push_back({kAverageSet, &*average});
  return sets;
}

CheckpointState Trainer::State::checkpoint_state(std::int64_t steps_done) const {
  CheckpointState state;
  state.step = steps_done;
  state.tokens = tokens_after(steps_done);
  state.loaders = loader->state();
  state.config = plan.config;
  state.backend = backend_description;
  state.threads = *options.threads;
  state.optimizer = name_of(*options.optimizer);
  state.best = best;
  if (guard) state.spikes = guard->history();
  state.products = model->backend().choices();
  return state;
}

/// True where the step's validation loss is the lowest so far, which is then remembered.
bool Trainer::State::take_best(const StepReport& report, std::int64_t steps_done) {
  if (!report.validation_loss || !std::isfinite(*report.validation_loss)) return false;
  if (best && best->loss <= *report.validation_loss) return false;
  best = BestLoss{steps_done, *report.validation_loss};
  return true;
}

/// Begins to write what is wanted. A log that cannot be written is trouble as a checkpoint is: a
/// checkpoint without the lines before it would be of no use.
void Trainer::State::write_checkpoint(const Callbacks& callbacks, std::int64_t steps_done,
                                      Wanted wanted) {
  const bool was_in_background = writer->in_background();
  try {
    log->sync();
  } catch (const base::Error& error) {
    warn(callbacks, fmt::format("no checkpoint at step {}: {}", steps_done, error.what()));
    return;
  }
  const std::vector<StateSet> sets = state_sets();
  writer->write(checkpoint_state(steps_done), sets, wanted, average ? sets.size() - 1 : 0);
  if (was_in_background && !writer->in_background() && callbacks.on_note) {
    callbacks.on_note(
        fmt::format("checkpoints are written while training waits: a copy of {:.2f} GB does not "
                    "fit into memory",
                    static_cast<double>(checkpoint_bytes(state_sets())) / kGiga));
  }
  take_results(callbacks);
}

/// Tells of the checkpoints that were written since, and warns of those that could not be.
void Trainer::State::take_results(const Callbacks& callbacks) {
  for (const WriteResult& result : writer->results()) {
    if (!result.error.empty()) {
      log->event("checkpoint_failed", {{"step", result.step}, {"error", result.error}});
      warn(callbacks,
           fmt::format("the checkpoint of step {} failed: {}; training goes on, the next "
                       "one is tried in its turn",
                       result.step, result.error));
    }
    if (!result.folder) continue;
    log->event("checkpoint", {{"step", result.step},
                              {"folder", result.folder->filename().string()},
                              {"waited_ms", result.waited_seconds * 1e3},
                              {"write_ms", result.seconds * 1e3},
                              {"background", writer->in_background()}});
    if (!result.wanted.numbered) continue;
    checkpoint = Checkpoint{*result.folder, result.step};
    rollbacks = 0;
    if (result.error.empty()) {
      last_trouble.clear();
      model_step = result.step;
    }
    if (callbacks.on_checkpoint) callbacks.on_checkpoint(*result.folder);
  }
}

/// Waits for the writes at a run's end. Throws Error when the last state is not on the disk.
void Trainer::State::end_writing(const Callbacks& callbacks, std::int64_t steps_done) {
  writer->wait();
  take_results(callbacks);
  if (checkpoint && checkpoint->step == steps_done) return;
  base::fail(
      "{}: the checkpoint of step {} could not be written ({}); {}", out.string(), steps_done,
      last_trouble,
      checkpoint ? "the newest is " + checkpoint->folder.string() : std::string("there is none"));
}

/// Tells of trouble that training survives; of the same only once.
void Trainer::State::warn(const Callbacks& callbacks, const std::string& trouble) {
  if (trouble == last_trouble) return;
  last_trouble = trouble;
  if (callbacks.on_note) callbacks.on_note("warning: " + trouble);
}

/// Something where the checkpoints to come will not fit on the disk.
std::optional<std::string> Trainer::State::space_warning() {
  if (plan.checkpoint_every == 0) return std::nullopt;
  const std::uint64_t one = checkpoint_bytes(state_sets());
  const std::int64_t all = plan.steps / plan.checkpoint_every + 1;
  const std::int64_t keep = *options.keep_checkpoints;
  const std::int64_t forever =
      *options.keep_every > 0 ? plan.steps / *options.keep_every : std::int64_t{0};
  // One more is being written before the oldest goes, the best one is another, and the model.
  const std::int64_t kept = keep == 0 ? all : std::min(all, keep + forever + 1);
  const std::uint64_t needed =
      one * static_cast<std::uint64_t>(kept + 1) + model->parameters().bytes();
  std::uint64_t held = 0;  // by those that will be replaced
  for (const Checkpoint& old : list_checkpoints(out)) held += is_checkpoint(old.folder) ? one : 0;
  const std::uint64_t free = base::free_disk_bytes(out) + held;
  if (free >= needed) return std::nullopt;
  return fmt::format(
      "warning: up to {} checkpoints, the best one and the model take {:.2f} GB, but {:.2f} GB are "
      "free in {}; lower --keep-checkpoints, or raise --keep-every and --checkpoint-every",
      kept, static_cast<double>(needed) / kGiga, static_cast<double>(free) / kGiga, out.string());
}

/// Deals with a step whose update was skipped; returns the number of steps that are done then.
/// Several in a row: back to the last checkpoint, and on with the batches that come next now.
std::int64_t Trainer::State::after_spike(const Callbacks& callbacks, const StepReport& report,
                                         std::int64_t steps_done) {
  const auto say = [&](const std::string& text) {
    if (callbacks.on_note) callbacks.on_note(text);
  };
  const std::vector<data::LoaderState> position = loader->state();
  log->event("spike", {{"step", report.step},
                       {"spike_loss", report.loss},
                       {"grad_norm", report.grad_norm},
                       {"in_a_row", guard->history().in_a_row},
                       {"before", to_json(position)}});
  say(fmt::format("step {}: a spike (loss {:.4f}, gradient norm {:.3g}); its update is skipped",
                  report.step, report.loss, report.grad_norm));
  if (guard->history().in_a_row < *options.spike_rollback) return steps_done;
  writer->wait();
  take_results(callbacks);
  CheckpointState state;
  std::vector<std::string> skipped;
  const auto newest = newest_checkpoint(out, state, skipped);
  for (const std::string& note : skipped) say(note);
  if (!newest || rollbacks >= kMostRollbacks) {
    log->event("spikes_accepted", {{"step", report.step}});
    say(fmt::format("{} spikes in a row {}: this is taken for the new normal",
                    guard->history().in_a_row,
                    newest ? "after every way back" : "and no checkpoint to go back to"));
    guard->clear();
    return steps_done;
  }
  ++rollbacks;
  load_checkpoint(newest->folder, state_sets());
  model->pack();
  guard->restore(state.spikes);
  best = state.best;
  log->sync();
  log->take_up(state.step);
  log->event("rollback", {{"step", state.step},
                          {"from_step", report.step},
                          {"checkpoint", newest->folder.filename().string()},
                          {"skipped_from", to_json(state.loaders)},
                          {"skipped_to", to_json(position)}});
  say(fmt::format("{} spikes in a row: back to step {} ({}), past the batches up to {}",
                  *options.spike_rollback, state.step, newest->folder.filename().string(),
                  place(position, false)));
  return state.step;
}

}  // namespace train
