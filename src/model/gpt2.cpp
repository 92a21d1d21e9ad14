// GPT-2's two passes: one Backend operation a line, in the order of the paper.

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/rng.h"
#include "model/gpt2_state.h"

namespace model {
namespace {

using kernels::Backend;
using kernels::CacheRows;
using kernels::Dropout;
using kernels::Epilogue;
using kernels::Gradient;
using kernels::PackedWeight;

/// Keeps the masks apart from all else that is drawn with a run's seed: "dropout" in ASCII.
constexpr std::uint64_t kMaskStream = 0x64726f706f7574ULL;

/// The products' copies of one block, in the order of the list of parameters.
struct BlockCopies {
  const PackedWeight& qkv;
  const PackedWeight& proj;
  const PackedWeight& fc;
  const PackedWeight& out;
};

BlockCopies copies_of(const std::vector<PackedWeight>& copies, std::size_t layer) {
  const PackedWeight* const first = &copies[1 + 4 * layer];  // copy 0 is wte's
  return {first[0], first[1], first[2], first[3]};
}

/// What a block drops.
struct BlockMasks {
  Dropout branch_in;  ///< the last branch of the block before
  Dropout attention;
  Dropout attention_branch;
};

BlockMasks masks_of(const Masks& masks, std::size_t layer) {
  return {layer == 0 ? Dropout{} : masks.mlp_branch(layer - 1), masks.attention(layer),
          masks.attention_branch(layer)};
}

/// One transformer block up to the input of its last product: adds the branch of the block before
/// to the residual; uses `branch` for its own first one. `cached` empty: whole sequences, keeping
/// lse for backward.
void block_forward_to_hidden(Backend& k, const BlockParameters& p, const BlockCopies& w,
                             const BlockActivations& a, View branch, ConstView res_in,
                             ConstView branch_in, std::span<const CacheRows> cached,
                             const BlockMasks& masks) {
  k.add_layernorm_forward(a.res, a.ln1, a.ln1_mean, a.ln1_rstd, res_in, branch_in, p.ln1_weight,
                          p.ln1_bias, masks.branch_in);                    // (N, C)
  k.linear_forward(a.qkv, {}, a.ln1, w.qkv, p.qkv_bias, Epilogue::kNone);  // (N, 3C)
  if (cached.empty()) {
    k.attention_forward(a.att, a.lse, a.qkv, masks.attention);  // (N, C)
  } else {
    k.attention_cached(a.att, a.qkv, cached);  // (N, C)
  }
  k.linear_forward(branch, {}, a.att, w.proj, p.proj_bias, Epilogue::kNone);  // (N, C)
  k.add_layernorm_forward(a.mid, a.ln2, a.ln2_mean, a.ln2_rstd, a.res, branch, p.ln2_weight,
                          p.ln2_bias, masks.attention_branch);                 // (N, C)
  k.linear_forward(a.hidden, a.pre, a.ln2, w.fc, p.fc_bias, Epilogue::kGelu);  // (N, 4C)
}

/// One transformer block; leaves its last branch in `branch` for the next add.
void block_forward(Backend& k, const BlockParameters& p, const BlockCopies& w,
                   const BlockActivations& a, View branch, ConstView res_in, ConstView branch_in,
                   std::span<const CacheRows> cached, const BlockMasks& masks) {
  block_forward_to_hidden(k, p, w, a, branch, res_in, branch_in, cached, masks);
  k.linear_forward(branch, {}, a.hidden, w.out, p.out_bias, Epilogue::kNone);  // (N, C)
}

/// Computes again what the forward pass did not keep of a block. Nothing is added to a residual
/// that was kept, so every bit is what it was.
void restore_block(Backend& k, const BlockParameters& p, const BlockCopies& w,
                   const BlockActivations& a, View branch, Recompute recompute, BlockMasks masks) {
  if (recompute == Recompute::kBlock) {
    masks.branch_in = {};
    block_forward_to_hidden(k, p, w, a, branch, a.res, {}, {}, masks);
    return;
  }
  k.add_layernorm_forward(a.res, a.ln1, a.ln1_mean, a.ln1_rstd, a.res, {}, p.ln1_weight,
                          p.ln1_bias);
  k.add_layernorm_forward(a.mid, a.ln2, a.ln2_mean, a.ln2_rstd, a.mid, {}, p.ln2_weight,
                          p.ln2_bias);
  if (recompute == Recompute::kGelu) k.gelu_forward(a.hidden, a.pre);
}

/// A block's operations that have parameters, by their places in it.
enum BlockOperation : std::int8_t { kLn1, kQkv, kProj, kLn2, kFc, kOut };
static_assert(kOut + 1 == kBlockOperations);

/// An adapter and its gradients, or empty views.
struct Adapter {
  ConstView a, b;
  View da, db;
  float scale = 0;
};

/// What a backward pass through one block works with.
struct BlockBackward {
  Backend& k;
  const BlockParameters& p;
  const BlockCopies& w;
  BlockParameters& g;
  const BlockAdapters& adapters;
  const BlockAdapters& dadapters;
  float scale;  // of the adapters
  const BlockActivations& a;
  const BackwardBuffers& s;
  bool first;  // nothing below needs the copy in A
  std::int64_t
      stop;  // the lowest operation with something to train; below 0: something is under it
  Gradient gradient;

  /// A linear layer, with what is trained of it.
  void linear(BlockOperation operation, View dinp, View dweight, View dbias, ConstView dout,
              ConstView inp, const PackedWeight& weight, const Adapter& adapter,
              Epilogue epilogue = Epilogue::kNone, ConstView pre = {}) const {
    k.linear_backward(operation > stop ? dinp : View{}, dweight, dbias, dout, inp, weight, epilogue,
                      pre, gradient);
    if (adapter.da.empty() && adapter.db.empty()) return;
    k.low_rank_backward(adapter.da, adapter.db, dout, inp, adapter.a, adapter.b, adapter.scale);
  }

  /// The gradients of the block, from its output's in s.dres (and in s.dbranch, in A) to its
  /// input's, or down to `stop`.
  void run(const BlockMasks& masks) const;
};

void BlockBackward::run(const BlockMasks& masks) const {
  const BlockAdapters& ad = adapters;
  const BlockAdapters& d = dadapters;
  const View dhidden = s.dwide(4), dqkv = s.dwide(3);  // one buffer: the first is spent by then
  linear(kOut, dhidden, g.out_weight, g.out_bias, s.dbranch, a.hidden, w.out,
         {ad.out_a, ad.out_b, d.out_a, d.out_b, scale}, Epilogue::kGelu, a.pre);
  if (stop == kOut) return;
  linear(kFc, s.dnormed, g.fc_weight, g.fc_bias, dhidden, a.ln2, w.fc,
         {ad.fc_a, ad.fc_b, d.fc_a, d.fc_b, scale});
  if (stop == kFc) return;
  k.add_layernorm_backward(s.dres, s.dres_copy, g.ln2_weight, g.ln2_bias, s.dnormed, a.mid,
                           a.ln2_mean, a.ln2_rstd, p.ln2_weight, masks.attention_branch);
  if (stop == kLn2) return;
  const View datt = s.dnormed;  // spent as well
  linear(kProj, datt, g.proj_weight, g.proj_bias, s.dbranch, a.att, w.proj,
         {ad.proj_a, ad.proj_b, d.proj_a, d.proj_b, scale});
  if (stop == kProj) return;
  k.attention_backward(dqkv, datt, a.qkv, a.att, a.lse, masks.attention);
  linear(kQkv, s.dnormed, g.qkv_weight, g.qkv_bias, dqkv, a.ln1, w.qkv,
         {ad.qkv_a, ad.qkv_b, d.qkv_a, d.qkv_b, scale});
  if (stop == kQkv) return;
  k.add_layernorm_backward(s.dres, first ? View{} : s.dres_copy, g.ln1_weight, g.ln1_bias,
                           s.dnormed, a.res, a.ln1_mean, a.ln1_rstd, p.ln1_weight, masks.branch_in);
}

}  // namespace

// ---- dropout ----------------------------------------------------------------------------------

Masks::Masks(const Regularization& regularization, const StepRows& rows)
    : probability_(regularization.dropout),
      key_(base::random_bits(regularization.seed, kMaskStream,
                             static_cast<std::uint64_t>(rows.step))),
      first_row_(rows.first_row) {}

Dropout Masks::place(std::size_t number) const {
  if (probability_ == 0) return {};
  return {probability_, base::random_bits(key_, 1, number), first_row_};
}

// ---- the model's memory -----------------------------------------------------------------------

void Gpt2::State::block(const Activations& a, std::size_t layer, const Masks& masks) {
  // Nothing is added before the first block; its residual is what the embedding wrote.
  const View res = layer == 0 ? a.block(0).res : a.block(layer - 1).mid;
  const ConstView branch = layer == 0 ? ConstView{} : ConstView(a.branch);
  block_forward(*backend, parameters.blocks[layer], copies_of(copies, layer), a.block(layer),
                a.branch, res, branch, cached, masks_of(masks, layer));
}

void Gpt2::State::blocks_forward(const Activations& a, ConstView ids, std::int64_t length,
                                 const Masks& masks) {
  cached.clear();
  if (masters) {
    backend->embed_forward(a.block(0).res, ids, parameters.wte, parameters.wpe, length, 0,
                           masks.embedding());
  } else {
    positions.clear();
    for (std::int64_t n = 0; n < ids.dim(0); ++n) {
      positions.push_back(static_cast<std::int32_t>(n % length));
    }
    backend->embed_packed(a.block(0).res, ids, ids_view(positions), copies[0], parameters.wpe);
  }
  for (std::size_t layer = 0; layer < parameters.blocks.size(); ++layer) block(a, layer, masks);
}

ConstView Gpt2::State::final_norm(const Activations& a, std::int64_t to, std::int64_t first,
                                  std::int64_t count, const Dropout& dropout) {
  const View normed = a.normed.rows(to, count);
  backend->add_layernorm_forward(a.res.rows(first, count), normed, a.mean.rows(first, count),
                                 a.rstd.rows(first, count), last_residual(a).rows(first, count),
                                 a.branch.rows(first, count), parameters.lnf_weight,
                                 parameters.lnf_bias, dropout);
  return normed;
}

// ---- training ---------------------------------------------------------------------------------

void Gpt2::prepare_training(std::int64_t batch, std::int64_t length, Recompute recompute,
                            const Regularization& regularization) {
  State& s = *state_;
  if (!s.trainable) base::fail("prepare_training: this model was made for inference only");
  check_length(length, config());
  if (batch < 1) base::fail("prepare_training: batch: expected 1 or more, got {}", batch);
  s.regularization = regularization;
  const bool dropout = regularization.dropout > 0;
  const TrainingActivations& t = s.training;
  if (t.batch == batch && t.length == length && t.recompute == recompute && t.dropout == dropout) {
    return;
  }
  s.training = {};  // gives the memory back before more is taken
  s.training = make_training_activations(
      config(), s.backend->compute_type(), batch, length, recompute, dropout,
      first_kept_layer(s.lowest_place, config()), s.backend->memory());
  if (s.gradients) return;
  s.gradients = std::make_unique<ParameterSet>(config(), Contents::kTrained, s.parameters.tuning(),
                                               s.backend->memory());
}

ParameterSet& Gpt2::State::queued_gradients() {
  if (!gradients) base::fail("gradients: prepare_training() was not called");
  ParameterSet& g = *gradients;
  if (gradients_begin_anew) {
    for (std::size_t i = 0; i < g.size(); ++i) {
      if (!g.view(i).empty()) backend->fill_zero(g.view(i));
    }
    gradients_begin_anew = false;
  }
  return g;
}

ParameterSet& Gpt2::gradients() {
  ParameterSet& g = state_->queued_gradients();
  backend().finish();
  return g;
}

void Gpt2::zero_gradients() {
  if (!state_->gradients) gradients();  // fails
  state_->gradients_begin_anew = true;
}

namespace {

/// Numbers of passes that come again. A step's first micro-batch overwrites gradients, and of the
/// others every second one is a pass of its own: a device reads the ids of one while those of the
/// next are made.
enum PassNumber { kFirstMicroBatch, kEvenMicroBatch, kOddMicroBatch };

}  // namespace

double Gpt2::forward_backward(std::span<const std::int32_t> ids,
                              std::span<const std::int32_t> targets, float scale,
                              const StepRows& rows) {
  double loss = 0;
  state_->micro_batch(ids, targets, scale, rows, &loss);
  return loss;
}

void Gpt2::queue_forward_backward(std::span<const std::int32_t> ids,
                                  std::span<const std::int32_t> targets, float scale,
                                  const StepRows& rows) {
  State& s = *state_;
  s.odd_micro_batch = !s.odd_micro_batch;
  const int number = s.gradients_begin_anew ? kFirstMicroBatch
                     : s.odd_micro_batch    ? kOddMicroBatch
                                            : kEvenMicroBatch;
  s.backend->repeat(number, [&] { s.micro_batch(ids, targets, scale, rows, nullptr); });
}

/// The loss is queued where nobody asks for it.
void Gpt2::State::micro_batch(std::span<const std::int32_t> ids,
                              std::span<const std::int32_t> targets, float scale,
                              const StepRows& step_rows, double* loss) {
  Backend& k = *backend;
  if (!gradients) base::fail("gradients: prepare_training() was not called");
  ParameterSet& g = *gradients;
  const Activations& a = training.forward;
  const BackwardBuffers& d = training.backward;
  const std::int64_t rows = training.batch * training.length;
  const Config& config = parameters.config();
  check_count("ids", ids.size(), rows);
  check_count("targets", targets.size(), rows);
  check_ids("id", ids, 0, config.vocab_size);
  check_ids("target", targets, kernels::kIgnoredTarget, config.vocab_size);

  // The first products of a step overwrite; what is too small to matter is zeroed.
  const Gradient gradient = gradients_begin_anew ? Gradient::kOverwrite : Gradient::kAdd;
  if (gradient == Gradient::kOverwrite) {
    for (std::size_t i = 0; i < g.size(); ++i) {
      if (g.info(i).packed < 0 && !g.view(i).empty()) k.fill_zero(g.view(i));
    }
    gradients_begin_anew = false;
  }
  const Masks masks(regularization, step_rows);
  const Dropout last_branch = masks.mlp_branch(g.blocks.size() - 1);
  blocks_forward(a, ids_view(ids), training.length, masks);
  const ConstView normed = final_norm(a, 0, 0, rows, last_branch);  // (N, C)
  if (loss != nullptr) {
    *loss = k.head_loss(a.losses, d.dnormed, g.wte, normed, copies[0], ids_view(targets),
                        config.vocab_size, scale, gradient, regularization.loss);
  } else {
    k.queue_head_loss(a.losses, d.dnormed, g.wte, normed, copies[0], ids_view(targets),
                      config.vocab_size, scale, gradient, regularization.loss);
  }
  k.fill_zero(d.dres);
  k.add_layernorm_backward(d.dres, d.dres_copy, g.lnf_weight, g.lnf_bias, d.dnormed, a.res, a.mean,
                           a.rstd, parameters.lnf_weight, last_branch);
  blocks_backward(gradient, masks);
  if (lowest_place == 0) {
    k.embed_backward(g.wte, g.wpe, d.dres, ids_view(ids), training.length, masks.embedding());
  }
}

void Gpt2::State::blocks_backward(Gradient gradient, const Masks& masks) {
  ParameterSet& g = *gradients;
  const BlockAdapters none;
  for (std::size_t layer = g.blocks.size(); layer-- > 0;) {
    const std::int64_t stop = lowest_place - first_place(static_cast<std::int64_t>(layer));
    if (stop >= kBlockOperations) return;  // nothing is trained here or below
    const BlockParameters& p = parameters.blocks[layer];
    const BlockCopies w = copies_of(copies, layer);
    const BlockMasks own = masks_of(masks, layer);
    const BlockActivations& a = training.forward.block(layer);
    const bool adapted = !parameters.adapters.empty();
    restore_block(*backend, p, w, a, training.forward.branch, training.recompute, own);
    BlockBackward{.k = *backend,
                  .p = p,
                  .w = w,
                  .g = g.blocks[layer],
                  .adapters = adapted ? parameters.adapters[layer] : none,
                  .dadapters = adapted ? g.adapters[layer] : none,
                  .scale = adapted ? parameters.tuning().lora.scale() : 0,
                  .a = a,
                  .s = training.backward,
                  .first = layer == 0,
                  .stop = stop,
                  .gradient = gradient}
        .run(own);
  }
}

namespace {

constexpr double kMuonRootMeanSquare = 0.2;  // Liu et al. 2025 (arXiv:2502.16982), section 2.2

/// Muon's numbers for one of the blocks' matrices.
kernels::Muon muon_for(const ParameterInfo& info, kernels::Muon muon) {
  muon.parts = info.matrices;
  const std::int64_t side = std::max(info.shape[0], info.shape[1] / muon.parts);
  muon.scale = static_cast<float>(kMuonRootMeanSquare * std::sqrt(static_cast<double>(side)));
  return muon;
}

}  // namespace

void Gpt2::State::step(std::string_view name, ParameterSet& m, ParameterSet& v,
                       const kernels::AdamW& adamw, const kernels::Muon* muon,
                       const MovingAverage& average) {
  const ParameterSet& g = queued_gradients();
  const ParameterSet* const follower = average.values;
  const auto fits = [&](const ParameterSet& set) {
    return set.config() == config() && set.tuning() == parameters.tuning();
  };
  if (!fits(m) || !fits(v) || (follower != nullptr && !fits(*follower))) {
    base::fail("{}: the moments belong to a model of another shape", name);
  }
  for (std::size_t i = 0; i < g.size(); ++i) {
    const ParameterInfo& info = g.info(i);
    if (!info.trained) continue;
    const PackedWeight* const packed =
        info.packed < 0 ? nullptr : &copies[static_cast<std::size_t>(info.packed)];
    const kernels::Average own_average{follower == nullptr ? View{} : follower->view(i),
                                       average.decay};
    if (muon != nullptr && info.matrices > 0) {
      backend->muon_step(parameters.view(i), g.view(i), m.view(i), muon_for(info, *muon), packed,
                         own_average);
      continue;
    }
    kernels::AdamW own = adamw;
    if (!info.decays) own.weight_decay = 0;
    backend->adamw_step(parameters.view(i), g.view(i), m.view(i), v.view(i), own, packed,
                        own_average);
  }
  // What products use of a weight changes with its adapter.
  for (std::size_t i = 0; i < g.size(); ++i) {
    const std::int64_t a = g.info(i).adapter;
    if (a < 0) continue;
    const auto index = static_cast<std::size_t>(a);
    if (g.info(index).trained || g.info(index + 1).trained) pack(i);
  }
}

void Gpt2::adamw_step(ParameterSet& m, ParameterSet& v, const kernels::AdamW& hyper,
                      const MovingAverage& average) {
  state_->step("adamw_step", m, v, hyper, nullptr, average);
}

void Gpt2::muon_step(ParameterSet& m, ParameterSet& v, const kernels::Muon& muon,
                     const kernels::AdamW& adamw, const MovingAverage& average) {
  state_->step("muon_step", m, v, adamw, &muon, average);
}

void Gpt2::exchange_parameters(ParameterSet& other) {
  if (other.config() != config() || other.tuning() != state_->parameters.tuning()) {
    base::fail("exchange_parameters: the set belongs to a model of another shape");
  }
  std::swap(parameters(), other);
  pack();
}

double Gpt2::gradient_norm() {
  const ParameterSet& g = state_->queued_gradients();
  std::vector<ConstView>& views = state_->gradient_views;
  views.clear();
  for (std::size_t i = 0; i < g.size(); ++i) {
    if (!g.view(i).empty()) views.push_back(g.view(i));
  }
  return std::sqrt(backend().squared_norm(views));
}

}  // namespace model
