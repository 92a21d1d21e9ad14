// What a step does with its gradients: clipping, the optimizer's update, the average that follows.

#include <algorithm>

#include "train/trainer_state.h"

namespace train {
namespace {

constexpr double kClipEpsilon = 1e-6;  // torch.nn.utils.clip_grad_norm_'s

}  // namespace

/// The moments, zero, and the average, which begins as the weights are.
void Trainer::State::make_states() {
  base::MemorySource* const place = model->backend().memory();
  m = model::ParameterSet(plan.config, model::Contents::kTrained, plan.tuning, place);
  v = model::ParameterSet(plan.config, model::second_moments_of(*options.optimizer), plan.tuning,
                          place);
  if (*options.ema > 0) {
    average.emplace();
    average->assign(model->parameters(), place);
  }
}

double Trainer::State::rate_at(std::int64_t step, double peak) const {
  const double share = plan.learning_rate > 0 ? plan.min_learning_rate / plan.learning_rate : 0;
  const double minimum = peak == plan.learning_rate ? plan.min_learning_rate : peak * share;
  return learning_rate_at(*options.schedule, step, plan.steps, plan.warmup_steps, peak, minimum,
                          {plan.decay_steps, options.decay_shape.value_or(DecayShape::kSqrt)});
}

double Trainer::State::rate_at(std::int64_t step) const {
  return rate_at(step, plan.learning_rate);
}

/// Clipping and the optimizer's step, where it is no spike.
void Trainer::State::update(std::int64_t step, StepReport& report) {
  if (guard && guard->is_spike(report.loss, report.grad_norm)) {
    report.skipped = true;
    return;
  }
  writer->wait_copied();
  kernels::AdamW adamw;
  adamw.learning_rate = static_cast<float>(rate_at(step));
  adamw.beta1 = static_cast<float>(*options.beta1);
  adamw.beta2 = static_cast<float>(*options.beta2);
  adamw.weight_decay = static_cast<float>(*options.weight_decay);
  const double clip = *options.grad_clip;
  if (clip > 0) {
    adamw.gradient_scale =
        static_cast<float>(std::min(1.0, clip / (report.grad_norm + kClipEpsilon)));
  }
  adamw.step = step + 1;
  const model::MovingAverage following{average ? &*average : nullptr,
                                       average_decay_at(*options.ema, step)};
  if (*options.optimizer != model::Optimizer::kMuon) {
    return model->adamw_step(m, v, adamw, following);
  }
  kernels::Muon muon;
  muon.learning_rate = static_cast<float>(rate_at(step, *options.muon_learning_rate));
  muon.momentum = static_cast<float>(*options.muon_momentum);
  muon.weight_decay = adamw.weight_decay;
  muon.gradient_scale = adamw.gradient_scale;
  model->muon_step(m, v, muon, adamw, following);
}

}  // namespace train
