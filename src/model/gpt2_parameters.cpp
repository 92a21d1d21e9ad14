// A GPT-2's parameters: masters, packed copies, and models that have only the latter.

#include <cmath>

#include "model/gpt2_state.h"

namespace model {
namespace {

using kernels::Backend;
using kernels::PackedWeight;
using kernels::WeightOrder;

// GPT-2's initialisation: Radford et al. 2018, section 4.1 (0.02); 2019, section 2.3 (the residual
// projections, scaled by 1 / sqrt of the number of residual layers, two a block).
constexpr float kInitDeviation = 0.02F;

/// Lays the products' copies out, and room for one weight that an adapter is merged into; pointers
/// are null while the arena measures. Gives that room.
float* lay_out_copies(base::Arena& arena, const std::vector<ParameterInfo>& list,
                      const Backend& backend, bool trainable, std::vector<PackedWeight>& copies) {
  copies.clear();
  const std::int64_t lowest = lowest_trained_place(list);
  for (const ParameterInfo& info : list) {
    if (info.packed < 0) continue;
    const bool is_head = info.packed == 0;  // wte, stored (Vp, C)
    PackedWeight weight{.inputs = info.shape[is_head ? 1 : 0],
                        .outputs = info.shape[is_head ? 0 : 1],
                        .order = is_head ? WeightOrder::kOutIn : WeightOrder::kInOut};
    // The head's input has a gradient whatever is trained, other inputs where something below is.
    const bool backward = trainable && (is_head || info.place > lowest);
    const kernels::PackedBytes bytes =
        backend.packed_bytes(weight.inputs, weight.outputs, weight.order, backward);
    weight.forward = static_cast<std::byte*>(arena.take_bytes(bytes.forward));
    if (backward) weight.backward = static_cast<std::byte*>(arena.take_bytes(bytes.backward));
    copies.push_back(weight);
  }
  const std::int64_t adapted = largest_adapted(list);
  return adapted == 0 ? nullptr : static_cast<float*>(arena.take(DType::kF32, {adapted}).data());
}

}  // namespace

Gpt2::State::State(const Config& config, std::unique_ptr<Backend> own_backend, bool is_trainable,
                   bool has_masters, const Tuning& tuning)
    : backend(std::move(own_backend)), trainable(is_trainable), masters(has_masters) {
  validate(config);
  parameters = ParameterSet(config, masters ? Contents::kAll : Contents::kUnpacked, tuning,
                            backend->memory());
  const std::vector<ParameterInfo> list = parameter_list(config, tuning);
  lowest_place = lowest_trained_place(list);
  copies_arena = base::make_arena(
      [&](base::Arena& arena) {
        staging = lay_out_copies(arena, list, *backend, trainable, copies);
      },
      backend->memory());
}

void Gpt2::State::pack(std::size_t index) {
  const ParameterInfo& info = parameters.info(index);
  if (info.packed < 0) return;
  if (info.adapter >= 0) backend->finish();  // the host merges them
  backend->pack_weight(copies[static_cast<std::size_t>(info.packed)],
                       merged(parameters, index, staging));
}

// ---- construction -----------------------------------------------------------------------------

Gpt2::Gpt2() = default;
Gpt2::Gpt2(const Config& config, std::unique_ptr<Backend> backend, bool trainable,
           const Tuning& tuning)
    : state_(std::make_unique<State>(config, std::move(backend), trainable, /*has_masters=*/true,
                                     tuning)) {}

Gpt2 Gpt2::for_inference(const Config& config, std::unique_ptr<Backend> backend) {
  Gpt2 model;
  model.state_ = std::make_unique<State>(config, std::move(backend), /*is_trainable=*/false,
                                         /*has_masters=*/false, Tuning{});
  return model;
}

Gpt2::~Gpt2() = default;
Gpt2::Gpt2(Gpt2&&) noexcept = default;
Gpt2& Gpt2::operator=(Gpt2&&) noexcept = default;

const Config& Gpt2::config() const { return state_->config(); }
kernels::Backend& Gpt2::backend() const { return *state_->backend; }
ParameterSet& Gpt2::parameters() {
  if (!state_->masters) base::fail("parameters: this model was made for inference only");
  backend().finish();
  return state_->parameters;
}
const ParameterSet& Gpt2::parameters() const { return const_cast<Gpt2*>(this)->parameters(); }

// ---- parameters -------------------------------------------------------------------------------

namespace {

/// GPT-2's initialisation of parameter `index` into the rows that files hold.
void fill_initial(Backend& k, View rows, const ParameterInfo& info, std::int64_t layers,
                  std::uint64_t seed, std::size_t index) {
  switch (info.init) {
    case Init::kNormal:
      return k.fill_normal(rows, 0, kInitDeviation, seed, index);
    case Init::kResidualNormal:
      return k.fill_normal(rows, 0, kInitDeviation / std::sqrt(2 * static_cast<float>(layers)),
                           seed, index);
    case Init::kOnes:
      return k.fill_normal(rows, 1, 0, seed, index);
    case Init::kZeros:
      return k.fill_zero(rows);
    case Init::kInputsUniform: {
      const float bound = 1 / std::sqrt(static_cast<float>(rows.dim(0)));
      return k.fill_uniform(rows, -bound, bound, seed, index);
    }
  }
}

/// f32 memory for one parameter at a time, where a model keeps none.
class Staging {
 public:
  explicit Staging(base::MemorySource* source) : source_(source) {}
  View take(const ParameterInfo& info) {
    const std::size_t bytes =
        static_cast<std::size_t>(info.shape.elements()) * base::size_of(DType::kF32);
    if (arena_.capacity_bytes() < bytes) {
      arena_ = {};  // gives the memory back before more is taken
      arena_ = base::Arena(bytes, source_);
      memory_ = arena_.take_bytes(bytes);
    }
    return {memory_, DType::kF32, info.shape};
  }

 private:
  base::MemorySource* source_;
  base::Arena arena_;
  void* memory_ = nullptr;
};

}  // namespace

void Gpt2::initialize(std::uint64_t seed) {
  State& s = *state_;
  Staging staging(s.backend->memory());
  for (std::size_t i = 0; i < s.parameters.size(); ++i) {
    const ParameterInfo& info = s.parameters.info(i);
    const View kept = s.parameters.view(i);
    const View all = kept.empty() ? staging.take(info) : kept;
    s.backend->fill_zero(all);  // the padding stays zero, where no gradient ever reaches it
    fill_initial(*s.backend, all.rows(0, info.file_rows), info, config().layers, seed, i);
    if (info.packed < 0) continue;
    s.backend->pack_weight(s.copies[static_cast<std::size_t>(info.packed)], all);
  }
}

void Gpt2::initialize_adapters(std::uint64_t seed) {
  ParameterSet& p = parameters();
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (!p.info(i).is_adapter) continue;
    fill_initial(backend(), p.view(i), p.info(i), config().layers, seed, i);
  }
  pack();
}

void Gpt2::pack() {
  for (std::size_t i = 0; i < parameters().size(); ++i) state_->pack(i);
}

void Gpt2::set_parameters(const std::function<ConstView(const ParameterInfo&)>& values) {
  State& s = *state_;
  Staging staging(s.backend->memory());
  for (std::size_t i = 0; i < s.parameters.size(); ++i) {
    const ParameterInfo& info = s.parameters.info(i);
    const View kept = s.parameters.view(i);
    const ConstView rows = values(info);
    if (rows.empty()) continue;
    ConstView all = rows;  // packed from where it lies if that is what packing reads
    if (!kept.empty() || rows.type() != DType::kF32 || rows.shape() != info.shape ||
        s.backend->memory() != nullptr) {
      const View to = kept.empty() ? staging.take(info) : kept;
      s.backend->convert(to.rows(0, info.file_rows), rows);
      const std::int64_t padding = info.shape[0] - info.file_rows;
      if (padding > 0) s.backend->fill_zero(to.rows(info.file_rows, padding));
      all = to;
    }
    if (info.packed < 0) continue;
    if (info.adapter >= 0) {
      s.pack(i);
    } else {
      s.backend->pack_weight(s.copies[static_cast<std::size_t>(info.packed)], all);
    }
  }
}

void Gpt2::for_each_parameter(const std::function<void(View, const ParameterInfo&)>& visit) {
  state_->parameters.for_each([&](const View& view, const ParameterInfo& info) {
    visit(view.empty() ? View{} : view.rows(0, info.file_rows), info);
  });
}

const PackedWeight& Gpt2::packed_copy(const ParameterInfo& info) const {
  return state_->copies.at(static_cast<std::size_t>(info.packed));
}

// ---- memory -----------------------------------------------------------------------------------

MemoryPlan Gpt2::plan(const Config& config, const Backend& backend, std::int64_t batch,
                      std::int64_t length, bool training, Recompute recompute,
                      const Regularization& regularization, Optimizer optimizer, bool average,
                      const Tuning& tuning) {
  validate(config);
  const std::vector<ParameterInfo> list = parameter_list(config, tuning);
  const std::int64_t rows = batch * length;
  base::Arena parameters, copies, trained, second_moments;
  std::size_t own_workspace = 0;  // of operations that not every model needs
  for (const ParameterInfo& info : list) {
    if (training || info.packed < 0) parameters.take(DType::kF32, info.shape);
    if (info.trained) trained.take(DType::kF32, info.shape);
    if (is_in(second_moments_of(optimizer), info)) second_moments.take(DType::kF32, info.shape);
    if (!training) continue;
    if (optimizer == Optimizer::kMuon && info.matrices > 0 && info.trained) {
      own_workspace = std::max(
          own_workspace, backend.muon_workspace_bytes(info.shape[0], info.shape[1], info.matrices));
    }
    if (info.adapter >= 0) {
      own_workspace = std::max(
          own_workspace,
          backend.low_rank_workspace_bytes(rows, info.shape[0], info.shape[1], tuning.lora.rank));
    }
  }
  std::vector<PackedWeight> ignored;
  lay_out_copies(copies, list, backend, training, ignored);
  MemoryPlan plan;
  plan.parameters = parameters.used_bytes();
  plan.copies = copies.used_bytes();
  if (training) {
    plan.gradients = trained.used_bytes();
    plan.moments = trained.used_bytes() + second_moments.used_bytes();
    if (average) plan.average = trained.used_bytes();
  }
  const DType type = backend.compute_type();
  plan.activations =
      training ? training_activation_bytes(config, type, batch, length, recompute,
                                           regularization.dropout > 0,
                                           first_kept_layer(lowest_trained_place(list), config))
               : inference_activation_bytes(config, type, batch, length);
  plan.workspace = backend.workspace_bytes(rows, length, config.channels, config.heads,
                                           config.padded_vocab(), training) +
                   own_workspace;
  return plan;
}

}  // namespace model
