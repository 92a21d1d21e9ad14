#pragma once
/// GPT-2: a list of parameters and two passes over it.
///
/// Law: layers, views, backend calls and names; no loop over elements, no printing. The forward and
/// backward passes read like the paper and call one Backend operation a line.
/// Source: Radford et al. 2019 (GPT-2), section 2.3; Radford et al. 2018 (GPT).
/// Shapes use kernels.h's legend: B, T, N = B*T, C, H, D = C/H, V, Vp, L layers.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/tensor.h"
#include "kernels/kernels.h"

namespace model {

using base::ConstView;
using base::DType;
using base::Shape;
using base::View;

/// The shape of a GPT-2.
struct Config {
  std::int64_t vocab_size = 50257;  ///< V, ids in [0, V)
  std::int64_t context = 1024;      ///< n_positions: the longest sequence
  std::int64_t channels = 768;      ///< C, n_embd; a multiple of heads
  std::int64_t heads = 12;          ///< H, n_head
  std::int64_t layers = 12;         ///< L, n_layer
  /// Id of <|endoftext|> (bos and eos of config.json), where the vocabulary has one.
  std::optional<std::int32_t> end_of_text = 50256;

  /// Vp: V rounded up to a multiple of 128 (50257 -> 50304).
  std::int64_t padded_vocab() const { return (vocab_size + 127) / 128 * 128; }
  /// Number of parameters as usually quoted: tied head counted once, padding not counted.
  std::int64_t parameter_count() const;
  bool operator==(const Config&) const = default;
};

/// Throws Error naming the field when a Config cannot exist (C not a multiple of H, sizes < 1, a
/// vocabulary over 65,536, ...).
void validate(const Config& config);

/// "124m" "355m" "774m" "1558m" as published, "37m" = 10 layers, 6 heads, 384 channels, and "tiny"
/// (2 layers, 2 heads, 32 channels, context 64) for tests. Throws Error listing them otherwise.
Config preset(std::string_view name);
/// The names preset() knows, smallest first.
std::vector<std::string> preset_names();

/// How a parameter starts (GPT-2's initialisation).
enum class Init : std::uint8_t {
  kNormal,          ///< normal(0, 0.02)
  kResidualNormal,  ///< normal(0, 0.02 / sqrt(2 L)): the two projections into the residual stream
  kZeros,
  kOnes,
  kInputsUniform,  ///< uniform in +-1 / sqrt(K), K the rows: an adapter's A
};

/// What the list of parameters says of each.
struct ParameterInfo {
  std::string name;        ///< Hugging Face's, without "transformer.": "h.3.attn.c_attn.weight"
  Shape shape;             ///< in memory; the vocabulary padded: wte is (Vp, C)
  std::int64_t file_rows;  ///< rows of the outermost dimension that exist in files: V for wte
  Init init;
  bool decays;  ///< two or more dimensions
  int packed;   ///< index among the weights that products use, or -1
  /// Matrices side by side in one of a block's weights, which Muon makes orthogonal one by one:
  /// 3 in c_attn (q, k, v), 1 in the other three; 0 for every other parameter.
  int matrices;
  bool trained;  ///< false: frozen
  /// Where it is used along the forward pass: 0 the embedding (whatever the head does), then
  /// kBlockOperations for each block, then the last LayerNorm. What is below all that is trained
  /// needs no gradient.
  std::int64_t place;
  bool is_adapter;  ///< an A or a B
  int adapter;      ///< index in the list of its adapter's A, which B follows, or -1
};

/// Operations of a block that have parameters, in the order of its forward pass: LayerNorm, c_attn,
/// attn.c_proj, LayerNorm, c_fc, mlp.c_proj.
inline constexpr std::int64_t kBlockOperations = 6;

/// One transformer block's parameters.
struct BlockParameters {
  View ln1_weight, ln1_bias;    // (C)
  View qkv_weight, qkv_bias;    // (C, 3C), (3C)
  View proj_weight, proj_bias;  // (C, C), (C)
  View ln2_weight, ln2_bias;    // (C)
  View fc_weight, fc_bias;      // (C, 4C), (4C)
  View out_weight, out_bias;    // (4C, C), (C)
};

/// The low-rank adapters of one block's matrices W (K, M): with them products use
/// W + alpha / R A B. A: (K, R), B: (R, M).
struct BlockAdapters {
  View qkv_a, qkv_b;
  View proj_a, proj_b;
  View fc_a, fc_b;
  View out_a, out_b;
};

/// Low-rank adapters: W stays as it is, A and B are trained. A begins uniform, B zero, so that the
/// model begins as it was.
/// Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1; A's distribution is loralib's and
/// PEFT's, Kaiming's uniform with a = sqrt(5).
struct Lora {
  std::int64_t rank = 0;  ///< R, from 1 to C; 0: there are none
  double alpha = 0;       ///< above 0
  bool active() const { return rank > 0; }
  float scale() const { return static_cast<float>(alpha / static_cast<double>(rank)); }
  bool operator==(const Lora&) const = default;
};

/// Which parameters training changes. Default: all.
struct Tuning {
  Lora lora;  ///< active: the adapters of all blocks alone
  /// Names of what stays as it is: a group ("embeddings", "blocks", "attention", "mlp",
  /// "layernorm", "biases"), blocks ("blocks=3", "blocks=0-5"), or a name as files have it, in
  /// which * and ? stand for any text and any character ("h.0.*"); the beginning of a name up to a
  /// dot means all under it ("h.0.attn"). The head is the embedding "wte.weight".
  std::vector<std::string> frozen;
  bool operator==(const Tuning&) const = default;
};

/// How many parameters training changes, the vocabulary's padding not counted. Throws Error as
/// ParameterSet does for a `tuning` that cannot be.
std::int64_t trained_count(const Config& config, const Tuning& tuning);

/// Which parameters of a set have memory.
enum class Contents : std::uint8_t {
  kAll,
  kUnpacked,         ///< weights that products read are left out: their views are empty
  kTrained,          ///< those that training changes
  kNoBlockMatrices,  ///< as kTrained, without the blocks' matrices, which Muon steps
};

/// What moves the parameters.
enum class Optimizer : std::uint8_t {
  kAdamW,
  kMuon,  ///< the blocks' matrices; AdamW the rest: embeddings (with the head), gains and biases
};
/// The second moments that an optimizer keeps; of the first ones it keeps all: kTrained.
Contents second_moments_of(Optimizer optimizer);

/// A value for every parameter of a Config: parameters, gradients or moments, f32, in one arena.
class ParameterSet {
 public:
  ParameterSet() = default;
  /// All zeros, in `memory` where given (a backend's).
  /// Throws Error where `tuning` names nothing, leaves nothing to train or has a rank or alpha out
  /// of range.
  explicit ParameterSet(const Config& config, Contents contents = Contents::kAll,
                        const Tuning& tuning = {}, base::MemorySource* memory = nullptr);
  /// Takes the values of `other`, and its layout where this set's is another one, then in `memory`
  /// where given, whatever that of `other` is. Frozen parameters are not copied: their views become
  /// those of `other`, whose memory has to stay.
  void assign(const ParameterSet& other, base::MemorySource* memory = nullptr);

  View wte;                             // (Vp, C)
  View wpe;                             // (context, C)
  std::vector<BlockParameters> blocks;  // L of them
  View lnf_weight, lnf_bias;            // (C)
  std::vector<BlockAdapters> adapters;  // L of them, or none

  /// Calls visit(View&, const ParameterInfo&) for each parameter in a fixed order: the one list
  /// that drives layout, initialisation, saving, loading and the optimizer's step.
  void for_each(const std::function<void(View&, const ParameterInfo&)>& visit);
  void for_each(const std::function<void(const View&, const ParameterInfo&)>& visit) const;
  /// The same list by position, for walking several sets side by side.
  std::size_t size() const { return infos_.size(); }
  View& view(std::size_t index);
  const View& view(std::size_t index) const;
  const ParameterInfo& info(std::size_t index) const { return infos_[index]; }
  const Config& config() const { return config_; }
  const Tuning& tuning() const { return tuning_; }
  /// Of its own memory.
  std::size_t bytes() const { return arena_.used_bytes(); }

 private:
  void take_layout(const ParameterSet& other, base::MemorySource* memory);

  Config config_;
  Tuning tuning_;
  Contents contents_ = Contents::kAll;
  std::vector<ParameterInfo> infos_;
  base::Arena arena_;
};

/// What training computes again in the backward pass instead of keeping it, besides what the
/// LayerNorms gave.
enum class Recompute : std::uint8_t {
  kNone,
  kGelu,   ///< what GELU gave: 6 of 24 KiB a token and layer at C = 768 in bf16
  kBlock,  ///< all but each block's input: 3 KiB; a third of the forward pass's time comes on top
};

/// What training does against overfitting and drift; evaluation knows nothing of it.
struct Regularization {
  /// P of Dropout for the embedding's sum, each branch's output before it is added, and the
  /// attention's probabilities: GPT-2's embd_pdrop, resid_pdrop and attn_pdrop. In [0, 1).
  float dropout = 0;
  std::uint64_t seed = 0;     ///< of the masks
  kernels::LossOptions loss;  ///< label smoothing and z-loss
};

/// Where a micro-batch stands in a run: with the seed it decides the masks.
struct StepRows {
  std::int64_t step = 0;
  std::int64_t first_row = 0;  ///< number of its first row (token) in the whole step
};

/// A moving average of all parameters, see kernels::Average.
struct MovingAverage {
  ParameterSet* values = nullptr;  ///< null: there is none
  double decay = 0;
};

/// Bytes that a model and its training need, before anything is allocated.
struct MemoryPlan {
  std::size_t parameters = 0;   ///< f32 masters; in inference only those no product reads
  std::size_t copies = 0;       ///< the products' copies
  std::size_t gradients = 0;    ///< f32
  std::size_t moments = 0;      ///< f32, those the optimizer keeps
  std::size_t average = 0;      ///< f32, of the parameters, where one is kept
  std::size_t activations = 0;  ///< for one micro-batch
  std::size_t workspace = 0;    ///< the backend's scratch, upper bound
  std::size_t total() const {
    return parameters + copies + gradients + moments + average + activations + workspace;
  }
};

/// Keys and values of one sequence, for generation.
class KvCache {
 public:
  /// Room for the first `capacity` positions (default: the model's whole context), in the backend's
  /// compute type and memory. More is taken, up to the context, when a longer sequence comes.
  KvCache(const Config& config, DType type, std::optional<std::int64_t> capacity = std::nullopt,
          base::MemorySource* memory = nullptr);
  /// Positions filled so far.
  std::int64_t length() const { return length_; }
  /// Positions there is room for.
  std::int64_t capacity() const { return capacity_; }
  /// Forgets everything after the first `length` positions.
  void truncate(std::int64_t length);
  /// Makes room for `positions` at least, at most the context; keeps what is there.
  void reserve(std::int64_t positions);
  /// Holds what `other`, a cache of the same model, holds.
  void assign(const KvCache& other);

 private:
  friend class Gpt2;
  void take(std::int64_t capacity);
  void copy_positions(const KvCache& from);
  Shape shape_;  // (H, context, D)
  base::MemorySource* memory_ = nullptr;
  base::Arena arena_;
  std::vector<View> keys_;    // L of (H, capacity, D)
  std::vector<View> values_;  // L of (H, capacity, D)
  std::int64_t length_ = 0;
  std::int64_t capacity_ = 0;
};

/// A GPT-2 on one backend. Not thread-safe; operations use base/parallel's threads inside.
class Gpt2 {
 public:
  /// Zero parameters; call initialize() or set them and call pack(). `trainable` false: the copies
  /// for the backward pass are left out. The backend computes in its compute type. `tuning`: what
  /// training changes; gradients have memory for no more, and go down no further than they must.
  Gpt2(const Config& config, std::unique_ptr<kernels::Backend> backend, bool trainable,
       const Tuning& tuning = {});
  /// A model that only runs: weights exist in the backend's packed form alone, there are no f32
  /// masters. Zero; call initialize() or set_parameters().
  static Gpt2 for_inference(const Config& config, std::unique_ptr<kernels::Backend> backend);
  ~Gpt2();
  Gpt2(Gpt2&&) noexcept;
  Gpt2& operator=(Gpt2&&) noexcept;

  const Config& config() const;
  kernels::Backend& backend() const;
  /// The f32 masters: with adapters the weights without them, and the adapters. Waits for a device
  /// that still changes them or the moments. After writing to them call pack(). Throws Error where
  /// there are none (for_inference()).
  ParameterSet& parameters();
  const ParameterSet& parameters() const;
  /// GPT-2's random initialisation, a pure function of the seed; packs.
  void initialize(std::uint64_t seed);
  /// The same for adapters alone, which then change nothing yet.
  void initialize_adapters(std::uint64_t seed);
  /// Renews the products' copies from the masters.
  void pack();
  /// A cache in the backend's type and memory, with room for `capacity` positions.
  KvCache make_cache(std::optional<std::int64_t> capacity = std::nullopt);
  /// Sets every parameter, with masters or without, and packs. `values(info)` gives one's rows as
  /// files hold them (f32, bf16 or f16), or an empty view to leave it as it is.
  void set_parameters(const std::function<ConstView(const ParameterInfo&)>& values);
  /// Calls visit(view, info) for every parameter in the list's order, with masters or without: the
  /// f32 rows that files hold, or an empty view where there is the packed copy alone.
  void for_each_parameter(const std::function<void(View, const ParameterInfo&)>& visit);
  /// The copy of a weight that products read; `info.packed` must not be -1.
  const kernels::PackedWeight& packed_copy(const ParameterInfo& info) const;

  // ---- training -------------------------------------------------------------------------------

  /// Makes room for micro-batches of (B, T), keeping the gradients. Called again with other sizes
  /// it makes room anew. T <= context. What is computed again changes no bit of the results.
  void prepare_training(std::int64_t batch, std::int64_t length,
                        Recompute recompute = Recompute::kNone,
                        const Regularization& regularization = {});
  /// Bytes for training with (B, T), moments included, and a moving average of the parameters where
  /// `average`; allocates nothing.
  static MemoryPlan plan(const Config& config, const kernels::Backend& backend, std::int64_t batch,
                         std::int64_t length, bool training, Recompute recompute = Recompute::kNone,
                         const Regularization& regularization = {},
                         Optimizer optimizer = Optimizer::kAdamW, bool average = false,
                         const Tuning& tuning = {});
  /// Gradients, accumulated by forward_backward(). Throws Error before prepare_training().
  ParameterSet& gradients();
  /// The next forward_backward() begins anew: it overwrites the gradients.
  void zero_gradients();
  /// One micro-batch: adds scale * d(sum of losses)/d(parameter) to the gradients and returns the
  /// unscaled sum of the losses of targets that are not -1. With dropout these are the losses of
  /// what is left; label smoothing and z-loss act on the gradients alone.
  /// ids, targets: (B*T) i32, row-major (B, T). ids in [0, V), targets in [-1, V).
  double forward_backward(std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                          float scale, const StepRows& rows = {});
  /// The same, but for the sum, which take_losses() gives: a device is not waited for, so that the
  /// next micro-batch is made while it computes this one.
  void queue_forward_backward(std::span<const std::int32_t> ids,
                              std::span<const std::int32_t> targets, float scale,
                              const StepRows& rows = {});
  /// The sums of the micro-batches queued since the last call, in order.
  std::vector<double> take_losses() { return backend().take_losses(); }
  /// One AdamW step on every parameter: weight decay only where ParameterInfo::decays. Refreshes
  /// the copies. A device is not waited for: parameters() does. `m`, `v`: the moments.
  /// `hyper.weight_decay` is the decaying parameters' value. `average`, where given, follows the
  /// new parameters.
  void adamw_step(ParameterSet& m, ParameterSet& v, const kernels::AdamW& hyper,
                  const MovingAverage& average = {});
  /// One Muon step on the blocks' matrices, an AdamW step on every other parameter. `m`: all first
  /// moments; `v`: those of second_moments_of(Optimizer::kMuon). `muon.parts` and `muon.scale` are
  /// the model's to choose. The scale makes an update's root mean square 0.2, about AdamW's, so
  /// that one learning rate suits matrices of all shapes:
  ///   0.2 sqrt(max(rows, columns)) for each of the ParameterInfo::matrices
  /// Source: Liu et al. 2025 (arXiv:2502.16982), section 2.2.
  void muon_step(ParameterSet& m, ParameterSet& v, const kernels::Muon& muon,
                 const kernels::AdamW& adamw, const MovingAverage& average = {});
  /// The f32 masters and `other` change places; the products' copies are made anew. With a moving
  /// average it is that which then evaluates, generates and is saved, until it is called again.
  void exchange_parameters(ParameterSet& other);
  /// Global L2 norm of the gradients; waits for them and for queued losses.
  double gradient_norm();

  // ---- evaluation -----------------------------------------------------------------------------

  /// Losses without gradients of a (B, T) batch, any B and T <= context; needs no
  /// prepare_training(). losses: B*T values, 0 where the target is -1. Returns their sum.
  double evaluate(std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                  std::int64_t batch, std::int64_t length, std::span<float> losses);
  /// Logits of every position of one sequence. logits: (T, V) values, T = ids.size() <= context.
  void logits(std::span<const std::int32_t> ids, std::span<float> logits);
  /// Logits of some rows of a (B, T) batch. rows: of the B*T, ascending. logits: (rows, V).
  void logits_at(std::span<const std::int32_t> ids, std::int64_t batch, std::int64_t length,
                 std::span<const std::int64_t> rows, std::span<float> logits);
  /// evaluate() of ids that go on from what is cached, and are appended to it: counts[i] of them,
  /// one or more, in the i-th of S sequences, side by side. What a sequence gets does not depend on
  /// the others, not by a bit. Throws Error when one would go past the context.
  double evaluate_cached(std::span<KvCache* const> caches, std::span<const std::int64_t> counts,
                         std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                         std::span<float> losses);

  // ---- generation -----------------------------------------------------------------------------

  /// Appends ids to the sequence in `cache` and gives the logits (V values) after the last one.
  /// Throws Error when cache.length() + ids.size() > context.
  void decode(KvCache& cache, std::span<const std::int32_t> ids, std::span<float> logits);
  /// Appends one id to each of S sequences, whatever their lengths, in one pass over the weights.
  /// ids: S. logits: (S, V). What a sequence gets does not depend on the others, not by a bit.
  void decode_batch(std::span<KvCache* const> caches, std::span<const std::int32_t> ids,
                    std::span<float> logits);
  /// The same, but only what a draw at these temperatures looks at: S rows.
  void decode_batch(std::span<KvCache* const> caches, std::span<const std::int32_t> ids,
                    std::span<const float> inverse_temperatures,
                    std::span<kernels::TopLogits> rows);
  /// All logits (V) of sequence `index` of the decode_batch() that was the last pass.
  void last_logits(std::int64_t index, std::span<float> logits);

 private:
  Gpt2();
  struct State;
  std::unique_ptr<State> state_;
};

// ---- model directories (Hugging Face layout) --------------------------------------------------

/// Reads `folder`/config.json. Throws Error naming the key when it describes something this program
/// does not implement (another activation, an untied head, n_inner other than 4C,
/// scale_attn_by_inverse_layer_idx, scale_attn_weights false, reorder_and_upcast_attn is accepted),
/// or when a key is missing or of the wrong type.
Config read_config(const base::Path& folder);

/// Loads a model directory: names with or without "transformer.", f32, bf16 or f16 tensors; skips
/// attn.bias and attn.masked_bias buffers and an lm_head.weight that equals wte (another one is
/// refused: untied). Throws Error naming the missing, unknown or misshapen tensor.
/// `context`: shorten n_positions to this (the first rows of wpe), at most the file's.
/// Adapters that `tuning` adds are zero: call initialize_adapters().
Gpt2 load_model(const base::Path& folder, std::unique_ptr<kernels::Backend> backend, bool trainable,
                std::optional<std::int64_t> context = std::nullopt, const Tuning& tuning = {});

/// The format of the weights beside a directory's config.json that load_for_inference() takes
/// without further work: an integer format where there is only its packed file, bf16 where
/// quantize_model() wrote them so, else kF32. Throws Error when there are no weights.
kernels::WeightFormat stored_format(const base::Path& folder);

/// Loads a model that only runs, tensor by tensor into packed form, in the backend's weight format:
/// from its packed file (model-int8.safetensors) where there is one, else from the directory's
/// tensors as load_model() does. Throws Error when there are only packed files of other formats.
Gpt2 load_for_inference(const base::Path& folder, std::unique_ptr<kernels::Backend> backend);

/// Writes into the folder `to` the weights of the directory `from` in another format:
/// model-int8.safetensors or model-int4.safetensors (docs/formats.md), or a model.safetensors in
/// bf16. Throws Error for kF32, and when `from` has packed files alone.
void quantize_model(const base::Path& from, const base::Path& to, kernels::WeightFormat format);

/// "model-int8.safetensors": the packed file of an integer format.
std::string packed_file_name(kernels::WeightFormat format);

/// Writes config.json and model.safetensors (f32 or bf16) into an existing folder, each atomically;
/// the vocabulary unpadded, "transformer."-less names, metadata {"format": "pt"}; adapters merged
/// into their weights.
void save_model(const base::Path& folder, const ParameterSet& parameters, DType type = DType::kF32);

/// config.json's text for a Config, as transformers writes it for GPT2LMHeadModel; `type` (f32 or
/// bf16) is that of the tensors beside it.
std::string config_json(const Config& config, DType type = DType::kF32);

/// Writes every tensor of a set that has memory (f32, padding left out) as safetensors; returns the
/// file's CRC-32C.
std::uint32_t save_parameters(const base::Path& path, const ParameterSet& parameters);
/// Reads what save_parameters wrote into a set of the same Config and contents. Throws Error naming
/// the tensor.
void load_parameters(const base::Path& path, ParameterSet& parameters);

}  // namespace model
