// Opening a run: options and data become a plan and a model, or the run is refused. Nothing is
// written here.

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/parallel.h"
#include "train/trainer_state.h"

namespace train {
namespace {

base::Path absolute_path(const base::Path& path) {
  std::error_code error;
  const base::Path result =
      std::filesystem::weakly_canonical(std::filesystem::absolute(path), error);
  if (error) return std::filesystem::absolute(path);
  return result.has_filename() ? result : result.parent_path();  // "run/" is "run"
}

/// A hash of the number of tokens of a split and of a few hundred samples of them; reading all
/// would take minutes for a large corpus.
std::uint64_t sample(const data::TokenStream& stream, std::uint64_t hash) {
  constexpr std::int64_t kSamples = 256, kTokens = 16;
  constexpr std::int64_t kAnyId = 65536;  // ids are checked when they are trained on
  std::array<std::int32_t, kTokens> block{};
  const std::int64_t total = stream.tokens();
  hash = base::fnv1a64(std::as_bytes(std::span(&total, 1)), hash);
  for (std::int64_t i = 0; i < kSamples && total >= kTokens; ++i) {
    const std::int64_t first = (total - kTokens) * i / (kSamples - 1);
    stream.read(first, kAnyId, block);
    hash = base::fnv1a64(std::as_bytes(std::span(block)), hash);
    if (!stream.has_masks()) continue;
    stream.ignore_given(first, block);
    hash = base::fnv1a64(std::as_bytes(std::span(block)), hash);
  }
  return hash;
}

/// Tells whether two runs train on the same tokens, mixed in the same way.
template <class Sources>
std::string fingerprint(const Sources& sources) {
  std::uint64_t hash = base::fnv1a64({});
  for (const auto& source : sources) {
    hash = sample(source.validation, sample(source.train, hash));
    if (sources.size() > 1) hash = base::fnv1a64(std::as_bytes(std::span(&source.share, 1)), hash);
  }
  return fmt::format("{:016x}", hash);
}

DataMix absolute_paths(DataMix mix) {
  for (DataSource& source : mix.sources) source.folder = absolute_path(source.folder);
  return mix;
}

/// Refuses what cannot be mixed: a folder named twice, ids of different tokenizers.
template <class Sources>
void check_mixture(const Sources& sources) {
  if (sources.size() < 2) return;
  const auto& first = sources.front();
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto& source = sources[i];
    for (std::size_t k = 0; k < i; ++k) {
      if (sources[k].folder == source.folder) base::fail("--data names {} twice", source.folder);
    }
    if (!source.train.has_manifest()) {
      base::fail(
          "{} has no {} that says which tokenizer made it; mix folders of 'gpt2 prepare' only",
          source.folder, data::kManifestName);
    }
    if (source.train.manifest()->vocab_hash != first.train.manifest()->vocab_hash) {
      base::fail(
          "{} and {} were prepared with different tokenizers (vocab_hash {} and {}); prepare both "
          "with one",
          first.folder, source.folder, first.train.manifest()->vocab_hash,
          source.train.manifest()->vocab_hash);
    }
  }
}

}  // namespace

Trainer::State::State(const Options& given) {
  if (!given.out) base::fail("train: no run directory given; add --out DIR");
  out = absolute_path(*given.out);
  resumed = given.resume && is_run(out);
  if (resumed) {
    lock.emplace(out);
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
  options.data = absolute_paths(*given.data);
  if (given.init) options.init = absolute_path(*given.init);
  open_data();
  std::optional<model::Config> init;
  if (options.init) init = model::read_config(*options.init);
  plan = resolve(options, data_facts(), init);
  facts = {plan.config, fingerprint(sources), {}};
}

void Trainer::State::open_data() {
  double sum = 0;
  for (const DataSource& source : options.data->sources) sum += source.weight;
  for (const DataSource& source : options.data->sources) {
    sources.push_back({source.folder.string(), source.weight / sum,
                       data::TokenStream::open(source.folder, data::Split::kTrain),
                       data::TokenStream::open(source.folder, data::Split::kValidation)});
  }
  check_mixture(sources);
}

bool Trainer::State::has_masks() const {
  return std::ranges::any_of(sources, [](const Source& s) { return s.train.has_masks(); });
}

DataFacts Trainer::State::data_facts() const {
  DataFacts result;
  for (const Source& source : sources) {
    result.parts.push_back(
        {source.folder, source.train.tokens(), source.validation.tokens(), source.share});
    result.train_tokens += source.train.tokens();
    result.validation_tokens += source.validation.tokens();
  }
  const Source& first = sources.front();  // a mixture has one tokenizer
  result.folder = first.folder;
  if (const auto& manifest = first.train.manifest()) {
    result.vocab_size = manifest->vocab_size;
    if (manifest->end_of_text >= 0) {
      result.end_of_text = static_cast<std::int32_t>(manifest->end_of_text);
    }
  }
  return result;
}

void Trainer::State::build_loader() {
  std::vector<data::Loader> loaders;
  std::vector<double> shares;
  for (Source& source : sources) {
    // From here on: the samples of fingerprint() would have every shard checked before the first
    // step.
    source.train.check_in_background();
    source.validation.check_in_background();
    // Folders of equal length are shuffled differently.
    const std::uint64_t seed = *options.seed + loaders.size();
    loaders.emplace_back(source.train, 1, plan.length, *options.order, seed,
                         plan.config.vocab_size);
    shares.push_back(source.share);
  }
  loader.emplace(std::move(loaders), std::move(shares), plan.micro_batch, plan.length);
}

/// Takes a micro-batch or number of threads that differs from the run's.
void Trainer::State::take_pace(const Options& given) {
  const auto take = [&](auto member, std::string_view name) {
    if (!(given.*member) || given.*member == options.*member) return;
    notes.push_back(fmt::format(
        "--{} {} in place of {}: the same tokens in the same order, losses equal up to rounding",
        name, *(given.*member), *(options.*member)));
    options.*member = given.*member;
  };
  take(&Options::micro_batch, "micro-batch");
  take(&Options::threads, "threads");
}

/// Takes the run's own options from train.json, lays over them what may differ, and refuses what
/// contradicts them.
void Trainer::State::resume_options(const Options& given) {
  RunRecord record = read_record(out);
  for (auto added : {&Options::dropout, &Options::label_smoothing, &Options::z_loss}) {
    if (!(record.options.*added)) record.options.*added = 0;  // begun before there was this option
  }
  if (!record.options.tf32) record.options.tf32 = true;  // the same
  Options asked = given;
  if (asked.init) asked.init = absolute_path(*asked.init);
  std::vector<std::string> wrong = contradictions(asked, record.options);
  facts = record.facts;
  options = record.options;
  options.out = out;
  if (given.data) options.data = absolute_paths(*given.data);
  if (!options.data) base::fail("{}/train.json: the key 'data' is missing", out.string());
  open_data();
  if (fingerprint(sources) != facts.data_fingerprint) {
    if (!given.data) {
      base::fail(
          "{}: the tokens are not those that the run in {} was begun with; restore them or "
          "start a new run",
          options.data->text(), out.string());
    }
    wrong.push_back(fmt::format("--data {} ({} differ from the run's)", given.data->text(),
                                sources.size() == 1 ? "its tokens" : "their tokens or weights"));
  }
  for (auto member :
       {&Options::validate_every, &Options::sample_every, &Options::histogram_every,
        &Options::checkpoint_every, &Options::keep_checkpoints, &Options::keep_every}) {
    if (given.*member) options.*member = given.*member;
  }
  if (given.eval_tasks) options.eval_tasks = given.eval_tasks;
  for (auto member : {&Options::evaluate_every, &Options::eval_limit}) {
    if (given.*member) options.*member = given.*member;
  }
  take_pace(given);
  options.max_seconds = given.max_seconds;
  options.device = given.device;
  options.device_index = given.device_index;
  options.choose_cpu = given.choose_cpu;
  plan = resolve(options, data_facts(), options.init ? std::optional(facts.config) : std::nullopt);
  if (given.epochs) {
    const std::int64_t steps =
        steps_of_epochs(*given.epochs, plan.train_windows, plan.length, plan.batch_tokens);
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

/// Decides what the run computes with: as it was begun, so that its bits stay, unless GPT2_CPU_ISA
/// names something else.
kernels::CpuChoice Trainer::State::choose_cpu() {
  const base::DType type = *options.precision;
  const std::vector<kernels::CpuChoice> possible = kernels::cpu_choices(type);
  if (!facts.cpu) facts.cpu = options.choose_cpu ? options.choose_cpu(type) : possible.front();
  const kernels::CpuChoice& begun = *facts.cpu;
  if (kernels::instruction_set_is_forced()) {
    if (std::ranges::find(possible, begun) != possible.end()) return begun;
    notes.push_back(
        fmt::format("the run was begun with {} ({} products), GPT2_CPU_ISA makes it go on with {} "
                    "({} products): losses may differ in their last digits",
                    begun.isa, begun.products, possible.front().isa, possible.front().products));
    return possible.front();
  }
  if (!kernels::has_cpu_choice(type, begun)) {
    base::fail(
        "{}: the run was begun with {} ({} products), which this processor or build lacks; set "
        "GPT2_CPU_ISA={} to go on with losses that may differ in their last digits",
        out.string(), begun.isa, begun.products, possible.front().isa);
  }
  return begun;
}

model::Regularization Trainer::State::regularization() const {
  return {.dropout = static_cast<float>(*options.dropout),
          .seed = *options.seed,
          .loss = {.label_smoothing = static_cast<float>(*options.label_smoothing),
                   .z_loss = static_cast<float>(*options.z_loss)}};
}

void Trainer::State::build_model() {
  std::optional<kernels::CpuChoice> cpu;
  if (options.device == kernels::Device::kCpu) cpu = choose_cpu();
  auto backend = kernels::make_backend(options.device, *options.precision, cpu ? &*cpu : nullptr,
                                       options.device_index, *options.tf32);
  backend_description = backend->description();
  const auto needed = [&](std::int64_t batch) {
    return model::Gpt2::plan(plan.config, *backend, batch, plan.length, /*training=*/true,
                             *options.recompute, regularization(), *options.optimizer,
                             *options.ema > 0, plan.tuning);
  };
  memory = needed(plan.micro_batch);
  base::MemorySource* const device_memory = backend->memory();
  check_memory(plan, device_memory ? device_memory->free_bytes() : base::free_memory_bytes(),
               needed);

  CheckpointState state;
  if (resumed) {
    finished = read_log(out / "log.jsonl").finished;
    checkpoint = newest_checkpoint(out, state, notes);
  }
  if (options.init && !checkpoint) {
    model = model::load_model(*options.init, std::move(backend), /*trainable=*/true,
                              plan.config.context, plan.tuning);
    if (plan.tuning.lora.active()) model->initialize_adapters(*options.seed);
  } else {
    model.emplace(plan.config, std::move(backend), /*trainable=*/true, plan.tuning);
    if (!checkpoint) model->initialize(*options.seed);
  }
  make_states();
  build_loader();
  if (*options.spike_guard) guard.emplace(*options.spike_window, *options.spike_z);
  if (checkpoint) {
    if (state.config != plan.config) {
      base::fail("{}: another model than train.json's", checkpoint->folder.string());
    }
    if (state.optimizer != name_of(*options.optimizer)) {
      base::fail("{}: written by the optimizer {}, train.json says {}", checkpoint->folder.string(),
                 state.optimizer, name_of(*options.optimizer));
    }
    load_checkpoint(checkpoint->folder, state_sets());
    model->pack();
    loader->restore(state.loaders);
    first_step = state.step;
    best = state.best;
    if (guard) guard->restore(state.spikes);
    if (state.backend != backend_description) {
      notes.push_back(
          fmt::format("the checkpoint was written on '{}', this is '{}': losses may "
                      "differ in their last digits",
                      state.backend, backend_description));
    }
  }
  if (checkpoint && !state.products.empty()) {
    const std::string trouble = model->backend().use_choices(state.products);
    if (!trouble.empty()) {
      notes.push_back("what the checkpoint's device chose between is measured anew (" + trouble +
                      "): losses may differ in their last digits");
    }
  }
  if (finished) first_step = plan.steps;
  model->prepare_training(plan.micro_batch, plan.length, *options.recompute, regularization());
  const auto rows = static_cast<std::size_t>(plan.micro_batch * plan.length);
  inputs.resize(rows);
  targets.resize(rows);
  losses.resize(rows);
  log.emplace(out);
}

}  // namespace train
