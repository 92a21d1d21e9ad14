#pragma once
/// What a Trainer holds, for the files that are it: opening.cpp makes it, trainer.cpp runs it,
/// optimizer.cpp does its updates, recovery.cpp keeps its work.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "train/checkpoint.h"
#include "train/checkpoint_writer.h"
#include "train/log.h"
#include "train/plan.h"
#include "train/run_folder.h"

namespace train {

struct Trainer::State {
  Options options;  // effective
  Plan plan;
  base::Path out;
  RunFacts facts;
  bool resumed = false;
  bool finished = false;                 // before this sitting
  std::optional<base::FolderLock> lock;  // on `out`, from the first look at a run in it
  std::optional<Checkpoint> checkpoint;
  std::int64_t first_step = 0;
  std::vector<std::string> notes;  // of the opening, told when the run starts

  /// A folder of the data. Loaders point into them.
  struct Source {
    std::string folder;
    double share = 1;  // of the windows; the sum is 1
    data::TokenStream train, validation;
  };
  std::vector<Source> sources;
  std::optional<data::Mixer> loader;
  model::MemoryPlan memory;
  std::string backend_description;
  std::optional<model::Gpt2> model;
  model::ParameterSet m, v;
  std::optional<model::ParameterSet> average;  // of the weights, with --ema
  std::optional<Log> log;
  std::optional<BestLoss> best;
  std::optional<SpikeGuard> guard;
  std::int64_t rollbacks = 0;  // to the checkpoint that is the newest
  std::optional<CheckpointWriter> writer;
  std::int64_t model_step = -1;  // of the model directory, where this sitting wrote it
  std::string last_trouble;      // what was warned of last, so that each trouble is told once

  std::vector<std::int32_t> inputs, targets;  // (B, T), one micro-batch
  std::vector<float> losses;                  // (B, T), of validation
  double last_drawn = 0;

  // opening.cpp
  explicit State(const Options& given);
  void begin_options(const Options& given);
  void open_data();
  bool has_masks() const;
  void build_loader();
  DataFacts data_facts() const;
  void resume_options(const Options& given);
  void take_pace(const Options& given);
  kernels::CpuChoice choose_cpu();
  model::Regularization regularization() const;
  void build_model();

  // trainer.cpp
  void start(const Callbacks& callbacks, const std::optional<base::Path>& tokenizer);
  std::int64_t count_targets() const;
  void accumulate(std::int64_t step, std::int64_t targets_in_all, StepReport& report);
  StepReport train_step(std::int64_t step);
  [[noreturn]] void fail_not_finite(std::int64_t step, std::string_view what, double value,
                                    const std::string& where);
  [[noreturn]] void fail_broken(const Callbacks& callbacks, std::int64_t step,
                                const std::string& what);
  std::string place(const std::vector<data::LoaderState>& states, bool windows) const;
  std::optional<double> validate();
  std::optional<double> validate(const Source& source, std::int64_t windows);
  void write_sample(const Callbacks& callbacks, std::int64_t steps_done);
  void write_histograms(const Callbacks& callbacks, std::int64_t steps_done);
  End loop(const Callbacks& callbacks, std::int64_t& done);
  void draw(const Callbacks& callbacks, bool last = false);
  void finish(const Callbacks& callbacks, End end, std::int64_t steps_done,
              const std::optional<base::Path>& tokenizer);

  // optimizer.cpp
  void make_states();
  double rate_at(std::int64_t step) const;
  double rate_at(std::int64_t step, double peak) const;
  void update(std::int64_t step, StepReport& report);
  template <class Work>
  auto with_average(Work&& work);

  // recovery.cpp
  std::vector<StateSet> state_sets();
  CheckpointState checkpoint_state(std::int64_t steps_done) const;
  bool take_best(const StepReport& report, std::int64_t steps_done);
  void write_checkpoint(const Callbacks& callbacks, std::int64_t steps_done, Wanted wanted);
  void take_results(const Callbacks& callbacks);
  void end_writing(const Callbacks& callbacks, std::int64_t steps_done);
  void warn(const Callbacks& callbacks, const std::string& trouble);
  std::optional<std::string> space_warning();
  std::int64_t after_spike(const Callbacks& callbacks, const StepReport& report,
                           std::int64_t steps_done);
  std::int64_t tokens_after(std::int64_t steps) const { return steps * plan.batch_tokens; }
};

/// Calls work() with the average of the weights, where one is kept, in the model's place.
template <class Work>
auto Trainer::State::with_average(Work&& work) {
  struct Exchange {
    State& s;
    explicit Exchange(State& state) : s(state) {
      if (!s.average) return;
      s.writer->wait_copied();
      s.model->exchange_parameters(*s.average);
    }
    ~Exchange() {
      if (s.average) s.model->exchange_parameters(*s.average);
    }
  };
  const Exchange exchange(*this);
  return work();
}

}  // namespace train
