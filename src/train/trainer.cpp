// A training run: opening, the loop over steps, and what it leaves behind.

#include <array>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "train/checkpoint.h"
#include "train/log.h"
#include "train/plan.h"
#include "train/run_folder.h"

namespace train {
namespace {

constexpr double kDrawSeconds = 2;     // between two drawings of loss.svg
constexpr double kClipEpsilon = 1e-6;  // torch.nn.utils.clip_grad_norm_'s

double now_seconds() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since).count();
}

base::Path absolute_path(const base::Path& path) {
  std::error_code error;
  const base::Path result =
      std::filesystem::weakly_canonical(std::filesystem::absolute(path), error);
  return error ? std::filesystem::absolute(path) : result;
}

/// Tells whether two folders hold the same tokens, from a few hundred samples of them; reading all
/// would take minutes for a large corpus.
std::string fingerprint(const data::TokenStream& train, const data::TokenStream& validation) {
  constexpr std::int64_t kSamples = 256, kTokens = 16;
  constexpr std::int64_t kAnyId = 65536;  // ids are checked when they are trained on
  std::array<std::int32_t, kTokens> block{};
  std::uint64_t hash = base::fnv1a64({});
  for (const data::TokenStream* stream : {&train, &validation}) {
    const std::int64_t total = stream->tokens();
    hash = base::fnv1a64(std::as_bytes(std::span(&total, 1)), hash);
    for (std::int64_t i = 0; i < kSamples && total >= kTokens; ++i) {
      stream->read((total - kTokens) * i / (kSamples - 1), kAnyId, block);
      hash = base::fnv1a64(std::as_bytes(std::span(block)), hash);
    }
  }
  return fmt::format("{:016x}", hash);
}

/// A folder that holds both of the tokenizer's files.
bool has_tokenizer(const base::Path& folder) {
  return std::filesystem::exists(folder / "vocab.json") &&
         std::filesystem::exists(folder / "merges.txt");
}

void tell(const Callbacks& callbacks, const std::string& note) {
  if (callbacks.on_note) callbacks.on_note(note);
}

}  // namespace

struct Trainer::State {
  Options options;  // effective
  Plan plan;
  base::Path out;
  RunFacts facts;
  bool resumed = false;
  bool finished = false;  // before this sitting
  std::optional<Checkpoint> checkpoint;
  std::int64_t first_step = 0;
  std::vector<std::string> notes;  // of the opening, told when the run starts

  data::TokenStream train_stream, validation_stream;
  std::optional<data::Loader> loader;
  model::MemoryPlan memory;
  std::string backend_description;
  std::optional<model::Gpt2> model;
  model::ParameterSet m, v;
  std::optional<Log> log;

  std::vector<std::int32_t> inputs, targets;  // (B, T), one micro-batch
  std::vector<float> losses;                  // (B, T), of validation
  double last_drawn = 0;

  explicit State(const Options& given);
  void begin_options(const Options& given);
  void open_data(const base::Path& folder);
  DataFacts data_facts() const;
  void resume_options(const Options& given);
  void build_model();
  void restore();

  void start(const Callbacks& callbacks);
  StepReport train_step(std::int64_t step);
  [[noreturn]] void fail_not_finite(std::int64_t step, std::string_view what, double value,
                                    const std::string& where);
  double validate();
  void write_sample(const Callbacks& callbacks, std::int64_t steps_done);
  void write_checkpoint(const Callbacks& callbacks, std::int64_t steps_done);
  End loop(const Callbacks& callbacks, const std::optional<base::Path>& tokenizer,
           std::int64_t& done);
  void finish(End end, std::int64_t steps_done);
  std::int64_t tokens_after(std::int64_t steps) const { return steps * plan.batch_tokens; }
};

// ---- opening ----------------------------------------------------------------------------------

Trainer::State::State(const Options& given) {
  if (!given.out) base::fail("train: no run directory given; add --out DIR");
  out = absolute_path(*given.out);
  resumed = given.resume && is_run(out);
  if (resumed) {
    resume_options(given);
  } else {
    begin_options(given);
  }
  base::set_thread_count(*options.threads);
  build_model();
}

void Trainer::State::begin_options(const Options& given) {
  require_free_folder(out);
  if (!given.data) base::fail("train: no data given; add --data DIR (made by 'gpt2 prepare')");
  options = given;
  options.out = out;
  options.data = absolute_path(*given.data);
  if (given.init) options.init = absolute_path(*given.init);
  open_data(*options.data);
  std::optional<model::Config> init;
  if (options.init) init = model::read_config(*options.init);
  plan = resolve(options, data_facts(), init);
  facts = {plan.config, fingerprint(train_stream, validation_stream)};
}

void Trainer::State::open_data(const base::Path& folder) {
  train_stream = data::TokenStream::open(folder, data::Split::kTrain);
  validation_stream = data::TokenStream::open(folder, data::Split::kValidation);
}

DataFacts Trainer::State::data_facts() const {
  DataFacts result{
      options.data->string(), train_stream.tokens(), validation_stream.tokens(), {}, {}};
  if (const auto& manifest = train_stream.manifest()) {
    result.vocab_size = manifest->vocab_size;
    if (manifest->end_of_text >= 0) {
      result.end_of_text = static_cast<std::int32_t>(manifest->end_of_text);
    }
  }
  return result;
}

/// Takes the run's own options from train.json, lays over them what may differ, and refuses what
/// contradicts them.
void Trainer::State::resume_options(const Options& given) {
  const RunRecord record = read_record(out);
  Options asked = given;
  if (asked.init) asked.init = absolute_path(*asked.init);
  std::vector<std::string> wrong = contradictions(asked, record.options);
  facts = record.facts;
  options = record.options;
  options.out = out;
  if (given.data) options.data = absolute_path(*given.data);
  if (!options.data) base::fail("{}/train.json: the key 'data' is missing", out.string());
  open_data(*options.data);
  if (fingerprint(train_stream, validation_stream) != facts.data_fingerprint) {
    if (!given.data) {
      base::fail(
          "{}: the tokens are not those that the run in {} was begun with; restore them or "
          "start a new run",
          options.data->string(), out.string());
    }
    wrong.push_back(
        fmt::format("--data {} (its tokens differ from the run's)", given.data->string()));
  }
  for (auto member : {&Options::validate_every, &Options::sample_every, &Options::checkpoint_every,
                      &Options::keep_checkpoints}) {
    if (given.*member) options.*member = given.*member;
  }
  options.max_seconds = given.max_seconds;
  options.device = given.device;
  plan = resolve(options, data_facts(), options.init ? std::optional(facts.config) : std::nullopt);
  if (given.epochs) {
    const std::int64_t steps =
        steps_of_epochs(*given.epochs, plan.train_tokens, plan.length, plan.batch_tokens);
    if (steps != plan.steps) {
      wrong.push_back(fmt::format("--epochs {} (that is {} steps, the run has {})", *given.epochs,
                                  steps, plan.steps));
    }
  }
  if (!wrong.empty()) {
    std::string list = wrong.front();
    for (std::size_t i = 1; i < wrong.size(); ++i) list += ", " + wrong[i];
    base::fail(
        "--resume contradicts the run in {}: {}; drop them or start a new run in another "
        "--out",
        out.string(), list);
  }
}

void Trainer::State::build_model() {
  auto backend = kernels::make_backend(options.device, *options.precision);
  backend_description = backend->description();
  const auto needed = [&](std::int64_t batch) {
    return model::Gpt2::plan(plan.config, *backend, batch, plan.length, /*training=*/true);
  };
  memory = needed(plan.micro_batch);
  check_memory(plan, base::free_memory_bytes(), needed);

  CheckpointState state;
  if (resumed) {
    finished = read_log(out / "log.jsonl").finished;
    checkpoint = newest_checkpoint(out, state, notes);
  }
  if (options.init && !checkpoint) {
    model = model::load_model(*options.init, std::move(backend), /*trainable=*/true,
                              plan.config.context);
  } else {
    model.emplace(plan.config, std::move(backend), /*trainable=*/true);
    if (!checkpoint) model->initialize(*options.seed);
  }
  m = model::ParameterSet(plan.config);
  v = model::ParameterSet(plan.config);
  loader.emplace(train_stream, plan.micro_batch, plan.length, *options.order, *options.seed,
                 plan.config.vocab_size);
  if (checkpoint) {
    if (state.config != plan.config) {
      base::fail("{}: another model than train.json's", checkpoint->folder.string());
    }
    load_checkpoint(checkpoint->folder, model->parameters(), m, v);
    model->pack();
    loader->restore(state.loader);
    first_step = state.step;
    if (state.backend != backend_description) {
      notes.push_back(
          fmt::format("the checkpoint was written on '{}', this is '{}': losses may "
                      "differ in their last digits",
                      state.backend, backend_description));
    }
  }
  if (finished) first_step = plan.steps;
  model->prepare_training(plan.micro_batch, plan.length);
  const auto rows = static_cast<std::size_t>(plan.micro_batch * plan.length);
  inputs.resize(rows);
  targets.resize(rows);
  losses.resize(rows);
  log.emplace(out);
}

// ---- steps ------------------------------------------------------------------------------------

/// Writes what a run begins with, or goes on with.
void Trainer::State::start(const Callbacks& callbacks) {
  for (const std::string& note : notes) tell(callbacks, note);
  base::create_folders(out);
  remove_temporaries(out);
  write_record(out, {options, facts});
  const std::int64_t dropped = log->take_up(first_step);
  Json details = {{"step", first_step}, {"backend", backend_description}, {"host", host_facts()}};
  if (!resumed) {
    details["parameters"] = plan.config.parameter_count();
    details["config"] = config_to_json(plan.config);
    details["options"] = options_json(options);
    log->event("start", details);
    return;
  }
  details["checkpoint"] = checkpoint ? checkpoint->folder.filename().string() : "none";
  details["dropped_lines"] = dropped;
  log->event("resume", details);
  tell(callbacks, checkpoint ? fmt::format("resumed at step {} from {}", first_step,
                                           checkpoint->folder.string())
                             : std::string("resumed at step 0: there is no checkpoint yet"));
}

/// One step: micro-batches, clipping, update. Throws Error before the update when the loss or the
/// gradient is not finite.
StepReport Trainer::State::train_step(std::int64_t step) {
  const double begun = now_seconds();
  model->zero_gradients();
  const auto scale = static_cast<float>(1.0 / static_cast<double>(plan.batch_tokens));
  double sum = 0;
  for (std::int64_t i = 0; i < plan.accumulation; ++i) {
    const data::LoaderState position = loader->state();
    loader->next(inputs, targets);
    const double loss = model->forward_backward(inputs, targets, scale);
    if (!std::isfinite(loss)) {
      fail_not_finite(
          step, "loss", loss,
          fmt::format("micro-batch {} of {}, epoch {}, window {} of {}", i + 1, plan.accumulation,
                      position.epoch, position.window, loader->windows()));
    }
    sum += loss;
  }
  StepReport report;
  report.step = step;
  report.loss = sum / static_cast<double>(plan.batch_tokens);
  report.grad_norm = model->gradient_norm();
  if (!std::isfinite(report.grad_norm)) {
    const data::LoaderState after = loader->state();
    fail_not_finite(step, "gradient norm", report.grad_norm,
                    fmt::format("the batch before epoch {}, window {}", after.epoch, after.window));
  }
  report.learning_rate = learning_rate_at(*options.schedule, step, plan.steps, plan.warmup_steps,
                                          plan.learning_rate, plan.min_learning_rate);
  kernels::AdamW hyper;
  hyper.learning_rate = static_cast<float>(report.learning_rate);
  hyper.beta1 = static_cast<float>(*options.beta1);
  hyper.beta2 = static_cast<float>(*options.beta2);
  hyper.weight_decay = static_cast<float>(*options.weight_decay);
  const double clip = *options.grad_clip;
  if (clip > 0) {
    hyper.gradient_scale =
        static_cast<float>(std::min(1.0, clip / (report.grad_norm + kClipEpsilon)));
  }
  hyper.step = step + 1;
  model->adamw_step(m, v, hyper);
  const double seconds = now_seconds() - begun;
  report.tokens = tokens_after(step + 1);
  report.tokens_per_second = static_cast<double>(plan.batch_tokens) / std::max(seconds, 1e-9);
  report.milliseconds = seconds * 1e3;
  return report;
}

void Trainer::State::fail_not_finite(std::int64_t step, std::string_view what, double value,
                                     const std::string& where) {
  log->event("not_finite", {{"step", step}, {"what", what}, {"where", where}});
  log->draw();
  base::fail(
      "step {}: the {} is {} ({}); training stopped; try a lower --lr than {} or more "
      "--warmup-steps than {}, and look at the text of that batch",
      step, what, value, where, plan.learning_rate, plan.warmup_steps);
}

/// Mean loss over windows spread evenly over the validation split: the same ones every time.
double Trainer::State::validate() {
  const std::int64_t length = plan.length;
  const std::int64_t all = (plan.validation_tokens - 1) / length;
  std::vector<std::int32_t> window(static_cast<std::size_t>(length + 1));
  double sum = 0;
  for (std::int64_t done = 0; done < plan.validation_windows;) {
    const std::int64_t rows = std::min(plan.micro_batch, plan.validation_windows - done);
    for (std::int64_t row = 0; row < rows; ++row, ++done) {
      const std::int64_t first = all * done / plan.validation_windows * length;
      validation_stream.read(first, plan.config.vocab_size, window);
      std::copy(window.begin(), window.end() - 1, inputs.begin() + row * length);
      std::copy(window.begin() + 1, window.end(), targets.begin() + row * length);
    }
    const auto count = static_cast<std::size_t>(rows * length);
    sum += model->evaluate(std::span(inputs).first(count), std::span(targets).first(count), rows,
                           length, std::span(losses).first(count));
  }
  return sum / static_cast<double>(plan.validation_windows * length);
}

void Trainer::State::write_sample(const Callbacks& callbacks, std::int64_t steps_done) {
  base::create_folders(out / "samples");
  base::write_file(out / "samples" / fmt::format("step_{:08}.txt", steps_done),
                   callbacks.sample(*model, steps_done));
}

void Trainer::State::write_checkpoint(const Callbacks& callbacks, std::int64_t steps_done) {
  log->sync();
  const CheckpointState state{steps_done,  tokens_after(steps_done), loader->state(),
                              plan.config, backend_description,      *options.threads};
  const base::Path path = save_checkpoint(out, state, model->parameters(), m, v);
  checkpoint = Checkpoint{path, steps_done};
  prune_checkpoints(out, *options.keep_checkpoints);
  if (callbacks.on_checkpoint) callbacks.on_checkpoint(path);
}

/// Steps from `done` on, until the end or until something ends them; counts them in `done`.
End Trainer::State::loop(const Callbacks& callbacks, const std::optional<base::Path>& tokenizer,
                         std::int64_t& done) {
  const double begun = now_seconds();
  const double limit = options.max_seconds.value_or(HUGE_VAL);
  const auto due = [&](std::int64_t every) {
    return every > 0 && (done % every == 0 || done == plan.steps);
  };
  // Killed between the last checkpoint and the end: nothing is left to do but the model.
  if (done == plan.steps) save_run_model(out, model->parameters(), tokenizer);
  End end = End::kFinished;
  while (done < plan.steps && end == End::kFinished) {
    StepReport report = train_step(done);
    ++done;
    if (due(plan.validate_every)) report.validation_loss = validate();
    log->step(report);
    if (callbacks.on_step) callbacks.on_step(report);
    if (report.validation_loss && !std::isfinite(*report.validation_loss)) {
      fail_not_finite(report.step, "validation loss", *report.validation_loss, "after its update");
    }
    if (now_seconds() - last_drawn > kDrawSeconds) {
      log->draw();
      last_drawn = now_seconds();
    }
    if (callbacks.sample && due(plan.sample_every)) write_sample(callbacks, done);
    if (done < plan.steps) {
      if (callbacks.stop_requested && callbacks.stop_requested()) {
        end = End::kStopped;
      } else if (now_seconds() - begun >= limit) {
        end = End::kTimeUp;
      }
    }
    const bool keep = due(plan.checkpoint_every) || end != End::kFinished;
    if (keep) write_checkpoint(callbacks, done);
    if (keep || done == plan.steps) save_run_model(out, model->parameters(), tokenizer);
  }
  return end;
}

void Trainer::State::finish(End end, std::int64_t steps_done) {
  log->draw();
  Json details = Json::object();
  details["step"] = steps_done;
  if (end != End::kFinished) details["reason"] = end == End::kTimeUp ? "max-time" : "signal";
  log->event(end == End::kFinished ? "finish" : "stop", details);
  log->sync();
}

// ---- door -------------------------------------------------------------------------------------

Trainer::Trainer(const Options& options) : state_(std::make_unique<State>(options)) {}
Trainer::~Trainer() = default;

const Plan& Trainer::plan() const { return state_->plan; }
const Options& Trainer::options() const { return state_->options; }
const model::MemoryPlan& Trainer::memory() const { return state_->memory; }
std::string Trainer::backend_description() const { return state_->backend_description; }
model::Gpt2& Trainer::model() { return *state_->model; }
std::int64_t Trainer::first_step() const { return state_->first_step; }
bool Trainer::resumed() const { return state_->resumed; }
bool Trainer::finished() const { return state_->finished; }

std::optional<base::Path> Trainer::tokenizer_folder() const {
  const Options& options = state_->options;
  if (has_tokenizer(*options.data)) return options.data;
  if (options.init && has_tokenizer(*options.init)) return options.init;
  return std::nullopt;
}

Outcome Trainer::run(const Callbacks& callbacks) {
  State& s = *state_;
  Outcome outcome;
  outcome.steps_done = s.first_step;
  if (s.finished) {
    const LogContent content = read_log(s.out / "log.jsonl");
    if (!content.steps.empty()) {
      outcome.first_loss = content.steps.front().loss;
      outcome.last_loss = content.steps.back().loss;
      outcome.last_validation_loss = content.steps.back().validation_loss;
    }
  } else {
    s.start(callbacks);
    outcome.end = s.loop(callbacks, tokenizer_folder(), outcome.steps_done);
    s.finish(outcome.end, outcome.steps_done);
    outcome.first_loss = s.log->first_loss();
    outcome.last_loss = s.log->last_loss();
    outcome.last_validation_loss = s.log->last_validation_loss();
  }
  if (s.checkpoint) outcome.checkpoint = s.checkpoint->folder;
  return outcome;
}

}  // namespace train
