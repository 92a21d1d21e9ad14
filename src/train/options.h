#pragma once
/// The one list of options, for the files of this room: it drives reading and writing of config
/// files, laying flags over them and comparing a resumed run with what it was begun with.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "train/train.h"

namespace train {

using Json = nlohmann::ordered_json;

/// What `--resume` makes of an option that is given again.
enum class OnResume : std::uint8_t {
  kMustAgree,  ///< it decides the losses
  kMayDiffer,  ///< it does not, or the trainer compares what it leads to instead
};

/// Calls visit(name, pointer to the Options member, OnResume) for each option.
template <class Visit>
void for_each_option(Visit&& visit) {
  constexpr OnResume kMust = OnResume::kMustAgree;
  constexpr OnResume kMay = OnResume::kMayDiffer;
  visit("data", &Options::data, kMay);  // compared by the tokens in it: data may be moved
  visit("out", &Options::out, kMay);    // the run being resumed
  visit("init", &Options::init, kMust);
  visit("preset", &Options::preset, kMust);
  visit("layers", &Options::layers, kMust);
  visit("heads", &Options::heads, kMust);
  visit("channels", &Options::channels, kMust);
  visit("context", &Options::context, kMust);
  visit("vocab-size", &Options::vocab_size, kMust);
  visit("steps", &Options::steps, kMust);
  visit("epochs", &Options::epochs, kMay);            // compared by the steps it comes to
  visit("micro-batch", &Options::micro_batch, kMay);  // changes no more than the rounding
  visit("batch-tokens", &Options::batch_tokens, kMust);
  visit("lr", &Options::learning_rate, kMust);
  visit("min-lr", &Options::min_learning_rate, kMust);
  visit("warmup-steps", &Options::warmup_steps, kMust);
  visit("lr-schedule", &Options::schedule, kMust);
  visit("decay-steps", &Options::decay_steps, kMust);
  visit("decay-shape", &Options::decay_shape, kMust);
  visit("optimizer", &Options::optimizer, kMust);
  visit("muon-lr", &Options::muon_learning_rate, kMust);
  visit("muon-momentum", &Options::muon_momentum, kMust);
  visit("ema", &Options::ema, kMust);
  visit("freeze", &Options::freeze, kMust);
  visit("lora-rank", &Options::lora_rank, kMust);
  visit("lora-alpha", &Options::lora_alpha, kMust);
  visit("weight-decay", &Options::weight_decay, kMust);
  visit("beta1", &Options::beta1, kMust);
  visit("beta2", &Options::beta2, kMust);
  visit("grad-clip", &Options::grad_clip, kMust);
  visit("dropout", &Options::dropout, kMust);
  visit("label-smoothing", &Options::label_smoothing, kMust);
  visit("z-loss", &Options::z_loss, kMust);
  visit("precision", &Options::precision, kMust);
  visit("tf32", &Options::tf32, kMust);
  visit("recompute", &Options::recompute, kMay);
  visit("order", &Options::order, kMust);
  visit("val-every", &Options::validate_every, kMay);
  visit("sample-every", &Options::sample_every, kMay);
  visit("histogram-every", &Options::histogram_every, kMay);
  visit("eval-task", &Options::eval_tasks, kMay);
  visit("eval-every", &Options::evaluate_every, kMay);
  visit("eval-limit", &Options::eval_limit, kMay);
  visit("checkpoint-every", &Options::checkpoint_every, kMay);
  visit("keep-checkpoints", &Options::keep_checkpoints, kMay);
  visit("keep-every", &Options::keep_every, kMay);
  visit("spike-guard", &Options::spike_guard, kMust);
  visit("spike-window", &Options::spike_window, kMust);
  visit("spike-z", &Options::spike_z, kMust);
  visit("spike-rollback", &Options::spike_rollback, kMust);
  visit("seed", &Options::seed, kMust);
  visit("threads", &Options::threads, kMay);  // changes no more than the rounding
  visit("max-time", &Options::max_seconds, kMay);
}

/// The present options as a JSON object, in the order of the list, max-time left out: it belongs to
/// one sitting, not to the run.
Json options_json(const Options& options);

/// "adamw" or "muon".
std::string name_of(model::Optimizer optimizer);

/// `json` as text; bytes of a path that are not UTF-8, which JSON cannot hold, become U+FFFD.
std::string text_of(const Json& json, int indent = -1);

/// "--lr 0.001 (the run has 0.0006)" for each option of `given` that must agree with `run` and does
/// not.
std::vector<std::string> contradictions(const Options& given, const Options& run);

}  // namespace train
