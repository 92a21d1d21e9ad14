// GPT-2's two passes: one Backend operation a line, in the order of the paper.

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "model/activations.h"
#include "model/model.h"
#include "model/parameters.h"

namespace model {
namespace {

using kernels::Backend;
using kernels::CacheRows;
using kernels::Epilogue;
using kernels::Gradient;
using kernels::PackedWeight;
using kernels::WeightOrder;

// GPT-2's initialisation: Radford et al. 2018, section 4.1 (0.02); 2019, section 2.3 (the residual
// projections, scaled by 1 / sqrt of the number of residual layers, two a block).
constexpr float kInitDeviation = 0.02F;

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

/// One transformer block up to the input of its last product: adds the branch of the block before
/// to the residual; uses `branch` for its own first one. `cached` not there: whole sequences,
/// keeping lse for backward.
void block_forward_to_hidden(Backend& k, const BlockParameters& p, const BlockCopies& w,
                             const BlockActivations& a, View branch, ConstView res_in,
                             ConstView branch_in, const std::optional<CacheRows>& cached) {
  k.add_layernorm_forward(a.res, a.ln1, a.ln1_mean, a.ln1_rstd, res_in, branch_in, p.ln1_weight,
                          p.ln1_bias);                                     // (N, C)
  k.linear_forward(a.qkv, {}, a.ln1, w.qkv, p.qkv_bias, Epilogue::kNone);  // (N, 3C)
  if (cached) {
    k.attention_cached(a.att, a.qkv, {&*cached, 1});  // (N, C)
  } else {
    k.attention_forward(a.att, a.lse, a.qkv);  // (N, C)
  }
  k.linear_forward(branch, {}, a.att, w.proj, p.proj_bias, Epilogue::kNone);  // (N, C)
  k.add_layernorm_forward(a.mid, a.ln2, a.ln2_mean, a.ln2_rstd, a.res, branch, p.ln2_weight,
                          p.ln2_bias);                                         // (N, C)
  k.linear_forward(a.hidden, a.pre, a.ln2, w.fc, p.fc_bias, Epilogue::kGelu);  // (N, 4C)
}

/// One transformer block; leaves its last branch in `branch` for the next add.
void block_forward(Backend& k, const BlockParameters& p, const BlockCopies& w,
                   const BlockActivations& a, View branch, ConstView res_in, ConstView branch_in,
                   const std::optional<CacheRows>& cached) {
  block_forward_to_hidden(k, p, w, a, branch, res_in, branch_in, cached);
  k.linear_forward(branch, {}, a.hidden, w.out, p.out_bias, Epilogue::kNone);  // (N, C)
}

/// Computes again what the forward pass did not keep of a block. Nothing is added to a residual
/// that was kept, so every bit is what it was.
void restore_block(Backend& k, const BlockParameters& p, const BlockCopies& w,
                   const BlockActivations& a, View branch, Recompute recompute) {
  if (recompute == Recompute::kBlock) {
    block_forward_to_hidden(k, p, w, a, branch, a.res, {}, {});
  } else if (recompute == Recompute::kGelu) {
    k.add_layernorm_forward(a.res, a.ln1, a.ln1_mean, a.ln1_rstd, a.res, {}, p.ln1_weight,
                            p.ln1_bias);
    k.add_layernorm_forward(a.mid, a.ln2, a.ln2_mean, a.ln2_rstd, a.mid, {}, p.ln2_weight,
                            p.ln2_bias);
    k.gelu_forward(a.hidden, a.pre);
  }
}

/// The gradients of one block, from its output's in s.dres (and in s.dbranch, in A) to its input's.
/// `first`: nothing below needs the copy in A.
void block_backward(Backend& k, const BlockParameters& p, const BlockCopies& w, BlockParameters& g,
                    const BlockActivations& a, const BackwardBuffers& s, bool first,
                    Gradient gradient) {
  const View dhidden = s.dwide(4), dqkv = s.dwide(3);  // one buffer: the first is spent by then
  k.linear_backward(dhidden, g.out_weight, g.out_bias, s.dbranch, a.hidden, w.out, Epilogue::kGelu,
                    a.pre, gradient);
  k.linear_backward(s.dnormed, g.fc_weight, g.fc_bias, dhidden, a.ln2, w.fc, Epilogue::kNone, {},
                    gradient);
  k.add_layernorm_backward(s.dres, s.dres_copy, g.ln2_weight, g.ln2_bias, s.dnormed, a.mid,
                           a.ln2_mean, a.ln2_rstd, p.ln2_weight);
  const View datt = s.dnormed;  // spent as well
  k.linear_backward(datt, g.proj_weight, g.proj_bias, s.dbranch, a.att, w.proj, Epilogue::kNone, {},
                    gradient);
  k.attention_backward(dqkv, datt, a.qkv, a.att, a.lse);
  k.linear_backward(s.dnormed, g.qkv_weight, g.qkv_bias, dqkv, a.ln1, w.qkv, Epilogue::kNone, {},
                    gradient);
  k.add_layernorm_backward(s.dres, first ? View{} : s.dres_copy, g.ln1_weight, g.ln1_bias,
                           s.dnormed, a.res, a.ln1_mean, a.ln1_rstd, p.ln1_weight);
}

/// Lays the products' copies out; pointers are null while the arena measures.
void lay_out_copies(base::Arena& arena, const std::vector<ParameterInfo>& list,
                    const Backend& backend, bool trainable, std::vector<PackedWeight>& copies) {
  copies.clear();
  for (const ParameterInfo& info : list) {
    if (info.packed < 0) continue;
    const bool is_head = info.packed == 0;  // wte, stored (Vp, C)
    PackedWeight weight{.inputs = info.shape[is_head ? 1 : 0],
                        .outputs = info.shape[is_head ? 0 : 1],
                        .order = is_head ? WeightOrder::kOutIn : WeightOrder::kInOut};
    const kernels::PackedBytes bytes =
        backend.packed_bytes(weight.inputs, weight.outputs, weight.order, trainable);
    weight.forward = static_cast<std::byte*>(arena.take_bytes(bytes.forward));
    if (trainable) weight.backward = static_cast<std::byte*>(arena.take_bytes(bytes.backward));
    copies.push_back(weight);
  }
}

/// Ids come from outside; one in the padding would pass the kernels' checks and mean nothing.
void check_ids(std::string_view what, std::span<const std::int32_t> ids, std::int32_t low,
               std::int64_t vocab_size) {
  const auto wrong =
      std::ranges::find_if(ids, [&](std::int32_t id) { return id < low || id >= vocab_size; });
  if (wrong == ids.end()) return;
  base::fail("{} {} at position {}: expected {} to {}", what, *wrong, wrong - ids.begin(), low,
             vocab_size - 1);
}

void check_count(std::string_view what, std::size_t got, std::int64_t expected) {
  if (std::cmp_equal(got, expected)) return;
  base::fail("{}: expected {} values, got {}", what, expected, got);
}

void check_length(std::int64_t length, const Config& config) {
  if (length < 1 || length > config.context) {
    base::fail("sequence length: expected 1 to the model's context of {}, got {}", config.context,
               length);
  }
}

ConstView ids_view(std::span<const std::int32_t> ids) {
  return {ids.data(), DType::kI32, {static_cast<std::int64_t>(ids.size())}};
}

View floats_view(std::span<float> values, Shape shape) {
  return {values.data(), DType::kF32, shape};
}

}  // namespace

// ---- the model's memory -----------------------------------------------------------------------

struct Gpt2::State {
  std::unique_ptr<Backend> backend;
  bool trainable = false;
  ParameterSet parameters;
  base::Arena copies_arena;
  std::vector<PackedWeight> copies;  // by ParameterInfo::packed
  std::unique_ptr<ParameterSet> gradients;
  bool gradients_begin_anew = false;  // what they hold is void: read as zero
  TrainingActivations training;
  InferenceActivations inference;

  const Config& config() const { return parameters.config(); }
  /// Embedding and all blocks. The last block's branch stays in a.branch, not yet added.
  void blocks_forward(const Activations& a, ConstView ids, std::int64_t length, KvCache* cache);
  /// Adds that branch and normalizes, for `count` rows from `first`. Gives (count, C) in A.
  ConstView final_norm(const Activations& a, std::int64_t first, std::int64_t count);
  /// The residual stream as the last block left it.
  static View last_residual(const Activations& a) { return a.blocks.back().mid; }
};

void Gpt2::State::blocks_forward(const Activations& a, ConstView ids, std::int64_t length,
                                 KvCache* cache) {
  const std::int64_t position = cache == nullptr ? 0 : cache->length_;
  const ParameterSet& p = parameters;
  View res = a.block(0).res;
  ConstView branch;  // nothing to add before the first block
  backend->embed_forward(res, ids, p.wte, p.wpe, length, position);  // (N, C)
  for (std::size_t layer = 0; layer < p.blocks.size(); ++layer) {
    std::optional<CacheRows> cached;
    if (cache != nullptr) {
      cached = {cache->keys_[layer], cache->values_[layer], position, length};
    }
    block_forward(*backend, p.blocks[layer], copies_of(copies, layer), a.block(layer), a.branch,
                  res, branch, cached);
    res = a.block(layer).mid;
    branch = a.branch;
  }
}

ConstView Gpt2::State::final_norm(const Activations& a, std::int64_t first, std::int64_t count) {
  const View normed = a.normed.rows(first, count);
  backend->add_layernorm_forward(a.res.rows(first, count), normed, a.mean.rows(first, count),
                                 a.rstd.rows(first, count), last_residual(a).rows(first, count),
                                 a.branch.rows(first, count), parameters.lnf_weight,
                                 parameters.lnf_bias);
  return normed;
}

// ---- construction -----------------------------------------------------------------------------

Gpt2::Gpt2(const Config& config, std::unique_ptr<Backend> backend, bool trainable)
    : state_(std::make_unique<State>()) {
  validate(config);
  State& s = *state_;
  s.backend = std::move(backend);
  s.trainable = trainable;
  s.parameters = ParameterSet(config);
  const std::vector<ParameterInfo> list = parameter_list(config);
  s.copies_arena = base::make_arena(
      [&](base::Arena& arena) { lay_out_copies(arena, list, *s.backend, trainable, s.copies); });
}

Gpt2::~Gpt2() = default;
Gpt2::Gpt2(Gpt2&&) noexcept = default;
Gpt2& Gpt2::operator=(Gpt2&&) noexcept = default;

const Config& Gpt2::config() const { return state_->config(); }
kernels::Backend& Gpt2::backend() { return *state_->backend; }
ParameterSet& Gpt2::parameters() { return state_->parameters; }
const ParameterSet& Gpt2::parameters() const { return state_->parameters; }

void Gpt2::initialize(std::uint64_t seed) {
  Backend& k = *state_->backend;
  const auto layers = static_cast<float>(config().layers);
  for (std::size_t i = 0; i < parameters().size(); ++i) {
    const ParameterInfo& info = parameters().info(i);
    const View all = parameters().view(i);
    const View view = all.rows(0, info.file_rows);
    k.fill_zero(all);  // the padding stays zero, where no gradient ever reaches it
    switch (info.init) {
      case Init::kNormal:
        k.fill_normal(view, 0, kInitDeviation, seed, i);
        break;
      case Init::kResidualNormal:
        k.fill_normal(view, 0, kInitDeviation / std::sqrt(2 * layers), seed, i);
        break;
      case Init::kOnes:
        k.fill_normal(view, 1, 0, seed, i);
        break;
      case Init::kZeros:
        break;
    }
  }
  pack();
}

void Gpt2::pack() {
  parameters().for_each([&](const View& view, const ParameterInfo& info) {
    if (info.packed < 0) return;
    backend().pack_weight(state_->copies[static_cast<std::size_t>(info.packed)], view);
  });
}

// ---- training ---------------------------------------------------------------------------------

void Gpt2::prepare_training(std::int64_t batch, std::int64_t length, Recompute recompute) {
  State& s = *state_;
  if (!s.trainable) base::fail("prepare_training: this model was made for inference only");
  check_length(length, config());
  if (batch < 1) base::fail("prepare_training: batch: expected 1 or more, got {}", batch);
  const TrainingActivations& t = s.training;
  if (t.batch == batch && t.length == length && t.recompute == recompute) return;
  s.training = {};  // gives the memory back before more is taken
  s.training =
      make_training_activations(config(), s.backend->compute_type(), batch, length, recompute);
  if (!s.gradients) s.gradients = std::make_unique<ParameterSet>(config());
}

MemoryPlan Gpt2::plan(const Config& config, const Backend& backend, std::int64_t batch,
                      std::int64_t length, bool training, Recompute recompute) {
  validate(config);
  const std::vector<ParameterInfo> list = parameter_list(config);
  base::Arena parameters, copies;
  for (const ParameterInfo& info : list) parameters.take(DType::kF32, info.shape);
  std::vector<PackedWeight> ignored;
  lay_out_copies(copies, list, backend, training, ignored);
  MemoryPlan plan;
  plan.parameters = parameters.used_bytes();
  plan.copies = copies.used_bytes();
  if (training) {
    plan.gradients = plan.parameters;
    plan.moments = 2 * plan.parameters;
  }
  const DType type = backend.compute_type();
  plan.activations = training ? training_activation_bytes(config, type, batch, length, recompute)
                              : inference_activation_bytes(config, type, batch, length);
  plan.workspace = backend.workspace_bytes(batch * length, length, config.channels, config.heads,
                                           config.padded_vocab(), training);
  return plan;
}

ParameterSet& Gpt2::gradients() {
  if (!state_->gradients) base::fail("gradients: prepare_training() was not called");
  ParameterSet& g = *state_->gradients;
  if (state_->gradients_begin_anew) {
    for (std::size_t i = 0; i < g.size(); ++i) backend().fill_zero(g.view(i));
    state_->gradients_begin_anew = false;
  }
  return g;
}

void Gpt2::zero_gradients() {
  if (!state_->gradients) gradients();  // fails
  state_->gradients_begin_anew = true;
}

double Gpt2::forward_backward(std::span<const std::int32_t> ids,
                              std::span<const std::int32_t> targets, float scale) {
  State& s = *state_;
  Backend& k = *s.backend;
  if (!s.gradients) gradients();  // fails
  ParameterSet& g = *s.gradients;
  const Activations& a = s.training.forward;
  const BackwardBuffers& d = s.training.backward;
  const std::int64_t rows = s.training.batch * s.training.length;
  check_count("ids", ids.size(), rows);
  check_count("targets", targets.size(), rows);
  check_ids("id", ids, 0, config().vocab_size);
  check_ids("target", targets, kernels::kIgnoredTarget, config().vocab_size);

  // The first products of a step overwrite; what is too small to matter is zeroed.
  const Gradient gradient = s.gradients_begin_anew ? Gradient::kOverwrite : Gradient::kAdd;
  if (gradient == Gradient::kOverwrite) {
    for (std::size_t i = 0; i < g.size(); ++i) {
      if (g.info(i).packed < 0) k.fill_zero(g.view(i));
    }
    s.gradients_begin_anew = false;
  }
  s.blocks_forward(a, ids_view(ids), s.training.length, nullptr);
  const ConstView normed = s.final_norm(a, 0, rows);  // (N, C)
  const double loss = k.head_loss(a.losses, d.dnormed, g.wte, normed, s.copies[0],
                                  ids_view(targets), config().vocab_size, scale, gradient);
  k.fill_zero(d.dres);
  k.add_layernorm_backward(d.dres, d.dres_copy, g.lnf_weight, g.lnf_bias, d.dnormed, a.res, a.mean,
                           a.rstd, s.parameters.lnf_weight);
  for (std::size_t layer = g.blocks.size(); layer-- > 0;) {
    const BlockParameters& p = s.parameters.blocks[layer];
    const BlockCopies w = copies_of(s.copies, layer);
    restore_block(k, p, w, a.block(layer), a.branch, s.training.recompute);
    block_backward(k, p, w, g.blocks[layer], a.block(layer), d, layer == 0, gradient);
  }
  k.embed_backward(g.wte, g.wpe, d.dres, ids_view(ids), s.training.length);
  return loss;
}

void Gpt2::adamw_step(ParameterSet& m, ParameterSet& v, const kernels::AdamW& hyper) {
  State& s = *state_;
  const ParameterSet& g = gradients();
  if (m.config() != config() || v.config() != config()) {
    base::fail("adamw_step: the moments belong to a model of another shape");
  }
  for (std::size_t i = 0; i < g.size(); ++i) {
    const ParameterInfo& info = g.info(i);
    kernels::AdamW own = hyper;
    if (!info.decays) own.weight_decay = 0;
    s.backend->adamw_step(
        s.parameters.view(i), g.view(i), m.view(i), v.view(i), own,
        info.packed < 0 ? nullptr : &s.copies[static_cast<std::size_t>(info.packed)]);
  }
}

double Gpt2::gradient_norm() {
  const ParameterSet& g = gradients();
  double sum = 0;
  for (std::size_t i = 0; i < g.size(); ++i) sum += backend().squared_norm(g.view(i));
  return std::sqrt(sum);
}

// ---- evaluation and generation ----------------------------------------------------------------

double Gpt2::evaluate(std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                      std::int64_t batch, std::int64_t length, std::span<float> losses) {
  State& s = *state_;
  check_length(length, config());
  const std::int64_t rows = batch * length;
  if (batch < 1) base::fail("evaluate: batch: expected 1 or more, got {}", batch);
  check_count("ids", ids.size(), rows);
  check_count("targets", targets.size(), rows);
  check_count("losses", losses.size(), rows);
  check_ids("id", ids, 0, config().vocab_size);
  check_ids("target", targets, kernels::kIgnoredTarget, config().vocab_size);
  const Activations& a = s.inference.use(config(), s.backend->compute_type(), batch, length);
  s.blocks_forward(a, ids_view(ids), length, nullptr);
  return s.backend->head_loss_forward(floats_view(losses, {rows}), s.final_norm(a, 0, rows),
                                      s.copies[0], ids_view(targets), config().vocab_size);
}

void Gpt2::logits(std::span<const std::int32_t> ids, std::span<float> logits) {
  State& s = *state_;
  const auto length = static_cast<std::int64_t>(ids.size());
  const std::int64_t vocab = config().vocab_size;
  check_length(length, config());
  check_ids("id", ids, 0, vocab);
  check_count("logits", logits.size(), length * vocab);
  const Activations& a = s.inference.use(config(), s.backend->compute_type(), 1, length);
  s.blocks_forward(a, ids_view(ids), length, nullptr);
  s.backend->head_logits(floats_view(logits, {length, vocab}), s.final_norm(a, 0, length),
                         s.copies[0], vocab);
}

void Gpt2::decode(KvCache& cache, std::span<const std::int32_t> ids, std::span<float> logits) {
  State& s = *state_;
  const auto length = static_cast<std::int64_t>(ids.size());
  const std::int64_t vocab = config().vocab_size;
  const Shape keys{config().heads, config().context, config().channels / config().heads};
  if (cache.keys_.size() != s.parameters.blocks.size() || cache.keys_[0].shape() != keys ||
      cache.keys_[0].type() != s.backend->compute_type()) {
    base::fail("decode: the cache belongs to a model of another shape or type");
  }
  if (length < 1) base::fail("decode: expected at least one id");
  if (cache.length_ + length > cache.capacity_) {
    base::fail("decode: {} ids after {} go past the model's context of {}", length, cache.length_,
               cache.capacity_);
  }
  check_ids("id", ids, 0, vocab);
  check_count("logits", logits.size(), vocab);
  const Activations& a = s.inference.use(config(), s.backend->compute_type(), 1, length);
  s.blocks_forward(a, ids_view(ids), length, &cache);
  cache.length_ += length;
  s.backend->head_logits(floats_view(logits, {1, vocab}), s.final_norm(a, length - 1, 1),
                         s.copies[0], vocab);
}

}  // namespace model
