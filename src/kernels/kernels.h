#pragma once
/// The operations of a GPT-2, for every device: numbers in, numbers out.
///
/// Law: raw floats behind checked shapes; no files, no printing, no layer numbers, no allocation
/// inside an operation after its shapes were seen once. Public functions check shapes and element
/// types (kernels.cpp), ids and targets against their tables, and throw Error; the private virtual
/// ones compute and never throw.
///
/// Legend: B batch, T time (positions), N = B*T rows, C channels, H heads, D = C/H, V vocabulary,
/// Vp padded vocabulary, K inputs and M outputs of a linear layer.
/// A: the compute type of a backend object (f32 or bf16): type of branch activations and of the
/// weights' copies. The residual stream, statistics, losses, parameters ("masters"), gradients and
/// moments are f32; sums are accumulated in f32 or wider.
/// A leading d marks a gradient. "+=": the operation adds to what is there.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/tensor.h"

namespace kernels {

using base::ConstView;
using base::DType;
using base::Shape;
using base::View;

/// LayerNorm's epsilon, GPT-2's own.
inline constexpr float kLayerNormEpsilon = 1e-5F;
/// The polynomial of Muon's iteration, X = a X + (b S + c S S) X, and how often it is applied: the
/// steepest at 0 that keeps singular values near 1 (Jordan 2024). A norm below the floor counts as
/// the floor.
inline constexpr double kMuonA = 3.4445, kMuonB = -4.7750, kMuonC = 2.0315;
inline constexpr int kMuonIterations = 5;
inline constexpr double kMuonNormFloor = 1e-7;
/// A target that is ignored by the loss.
inline constexpr std::int32_t kIgnoredTarget = -1;

/// What a linear layer does beside its product.
enum class Epilogue : std::uint8_t {
  kNone,
  kGelu,  ///< tanh GELU of the output (forward), its derivative on the input's gradient (backward)
};

/// What an operation does with the weight gradient that is there.
enum class Gradient : std::uint8_t {
  kAdd,
  kOverwrite,  ///< the first micro-batch of a step: nothing has to be zeroed or read
};

/// How a matrix lies in its parameter.
enum class WeightOrder : std::uint8_t {
  kInOut,  ///< (K, M): a linear layer's weight, Hugging Face's Conv1D orientation
  kOutIn,  ///< (M, K): the token embedding used as the head
};

/// What the copies of the weights are made of.
///
/// kInt8, kInt4 are for inference: an output's weights are integers times a scale of that output,
///   w[k][m] = scale[m] q[k][m],  q in [-127, 127],
/// for kInt4 with q = step * nibble, nibble in [-8, 7] and a step in [-15, 15] for every 32 inputs
/// (the head and embedding, kOutIn, stay at 8 bits). The rows of a product's input are rounded to
/// integers as well, each row by its largest magnitude:
///   inverse = 127 / max |x|, scale_x = max |x| / 127, q_x[k] = round_to_even(x[k] * inverse)
/// in f32 (a row below 1e-30 counts as zeros, one with NaN or infinity gives NaN), so that
///   out[m] = scale_x scale[m] sum_k q_x[k] q[k][m] + bias[m]
/// has an exact sum: the same on every backend and instruction set, whatever rows are beside it.
enum class WeightFormat : std::uint8_t { kF32, kBf16, kInt8, kInt4 };

/// "fp32", "bf16", "int8" or "int4".
std::string_view name_of(WeightFormat format);
/// True for kInt8 and kInt4.
constexpr bool is_integer(WeightFormat format) { return format >= WeightFormat::kInt8; }

/// Copies of one weight matrix in the backend's weight format, in whatever layout the backend's
/// products want. Made by pack_weight() or adamw_step(), never inside a product. The memory is the
/// caller's.
struct PackedWeight {
  std::int64_t inputs = 0;   ///< K
  std::int64_t outputs = 0;  ///< M
  WeightOrder order = WeightOrder::kInOut;
  std::byte* forward = nullptr;   ///< for out = inp W; packed_bytes().forward bytes
  std::byte* backward = nullptr;  ///< for dinp = dout W^T; null where nothing is trained
};

/// Sizes of the two copies of a PackedWeight.
struct PackedBytes {
  std::size_t forward = 0;
  std::size_t backward = 0;  ///< 0 also where one copy serves both directions
};

/// One tensor of the packed form of a kInt8 or kInt4 weight, which is the same everywhere and
/// therefore fit for files (docs/formats.md).
struct PackedPart {
  std::string_view suffix;  ///< what follows the parameter's name in a file: "", ".scale", ...
  DType type = DType::kU8;
  Shape shape;
  std::size_t offset = 0;  ///< bytes from PackedWeight::forward
};

/// The tensors of a packed (K, M) weight, in the order in which they fill packed_bytes().forward
/// without gaps. Throws Error when `format` is not kInt8 or kInt4, or K is too large for it.
std::vector<PackedPart> packed_parts(WeightFormat format, std::int64_t inputs, std::int64_t outputs,
                                     WeightOrder order);
/// Throws Error naming `name` where a packed form that came from a file holds numbers that
/// pack_weight() never writes: steps over 15, scales that are negative, infinite or NaN.
void check_packed(WeightFormat format, const PackedWeight& weight, std::string_view name);

/// Where attention keeps the keys and values of one sequence that is being generated, and which of
/// its positions come next.
struct CacheRows {
  View keys, values;          ///< (H, positions, D) A
  std::int64_t position = 0;  ///< of the first new row
  std::int64_t rows = 0;      ///< new rows: a prompt's, or one token's
};

/// Which elements of a tensor of rows become 0; the others are divided by 1 - p. Element i of row r
/// is kept where
///   base::random_bits32(base::random_bits(key, 0, r), i) >= round(p 2^32),
/// the same on every backend, in the forward and the backward pass: masks are never stored.
/// Source: Srivastava et al. 2014 (JMLR 15), scaled in training as PyTorch's.
struct Dropout {
  float probability = 0;       ///< p, in [0, 1); 0: everything is kept
  std::uint64_t key = 0;       ///< of this tensor in this step of this run
  std::int64_t first_row = 0;  ///< r of the first row: its number in the whole step

  bool active() const { return probability > 0; }
};

/// What a loss's gradient has beside the cross entropy's.
struct LossOptions {
  /// E: the target's probability is 1 - E, and E / V is spread over all V tokens.
  /// Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7; torch.nn.CrossEntropyLoss.
  float label_smoothing = 0;
  /// W: W lse^2 is added, which keeps log-sum-exps near 0.
  /// Source: Chowdhery et al. 2022 (PaLM, arXiv:2204.02311), section 5.
  float z_loss = 0;
};

/// AdamW's numbers for one step.
struct AdamW {
  float learning_rate = 0;
  float beta1 = 0.9F;
  float beta2 = 0.95F;
  float epsilon = 1e-8F;
  float weight_decay = 0;    ///< 0 for parameters that do not decay
  float gradient_scale = 1;  ///< clipping and averaging, applied to the gradient first
  std::int64_t step = 1;     ///< counts from 1: bias corrections are 1 - beta^step
};

/// Muon's numbers for one step.
struct Muon {
  float learning_rate = 0;
  float momentum = 0.95F;
  float weight_decay = 0;
  float gradient_scale = 1;  ///< clipping and averaging, applied to the gradient first
  std::int64_t parts = 1;    ///< matrices side by side, each made orthogonal alone: q, k, v are 3
  float scale = 1;           ///< of the orthogonal matrix, see muon_step()
};

/// A moving average of a parameter, renewed in the pass that updates the parameter:
///   values += (1 - decay) * (parameter - values)
/// The decay comes as a double: 1 - decay loses digits in f32.
struct Average {
  View values;       ///< f32, the parameter's shape; empty: there is none
  double decay = 0;  ///< in [0, 1)
};

/// The most likely tokens of a row of logits.
struct TopLogits {
  static constexpr std::size_t kCount = 256;
  double mass = 0;  ///< sum over V of e^((logit - the largest) inverse temperature)
  /// In falling order, equal ones by id; -infinity and -1 past the V-th. NaN comes first.
  std::array<float, kCount> logits;
  std::array<std::int32_t, kCount> ids;
};

/// What the calls of one operation came to, those of different weights apart.
struct OperationTotals {
  std::string_view operation;  ///< the Backend's function
  std::int64_t inputs = 0;     ///< K of its weight, 0 where it has none
  std::int64_t outputs = 0;    ///< M
  std::int64_t calls = 0;
  double seconds = 0;
  double flops = 0;  ///< of the dense products in its formula; causal attention's half counted
  double bytes = 0;  ///< each operand once, twice where it is read and written
};

/// One device's way to compute. An object may keep scratch memory and prepared products, so it
/// serves one caller at a time; it uses base/parallel's threads inside.
class Backend {
 public:
  virtual ~Backend() = default;

  /// "reference", "cpu" or "cuda".
  virtual std::string_view name() const = 0;
  /// What runs, for logs: "cpu, avx512, oneDNN bf16 (amx)".
  virtual std::string description() const = 0;
  /// The compute type A.
  DType compute_type() const { return compute_type_; }
  /// What pack_weight() makes. Where it is an integer format, linear_backward, head_loss,
  /// muon_step and, with copies, adamw_step are Errors: rounded weights have no gradient.
  WeightFormat weight_format() const { return weight_format_; }
  /// Where the tensors of its operations must lie; null: anywhere. Ids, positions, targets, losses
  /// and logits lie in the process's own memory for every backend.
  virtual base::MemorySource* memory() { return nullptr; }
  /// Waits for what operations have begun: afterwards host code may read what they wrote, and free
  /// what they were given.
  virtual void finish() {}
  /// What a device measured and chose between, as text for use_choices(): with the same choices
  /// sums have the same order. Empty where nothing is chosen.
  virtual std::string choices() const { return {}; }
  /// Takes them, before the first operation. Returns why they are of no use here, else nothing.
  virtual std::string use_choices(const std::string& /*text*/) { return {}; }
  /// Calls work(), a pass that comes again with the same number: a device that is given the same
  /// operations on the same memory as the last time may run them as one. Where they differ, and on
  /// the processor, nothing is special. Passes do not nest.
  template <class Work>
  void repeat(int number, Work&& work) {
    do_begin_pass(number);
    try {
      work();
      do_end_pass();
    } catch (...) {
      do_drop_pass();
      throw;
    }
  }

  /// From now on adds up what each operation costs, from nothing. Some 100 ns a call; a device is
  /// waited for after each, so that a step takes longer than without.
  void start_profile(base::Clock clock);
  /// What was added up, in the order of first calls; empty before start_profile().
  const std::vector<OperationTotals>& profile() const { return profile_; }

  /// Upper bound of the scratch memory that the operations below will take for these sizes.
  std::size_t workspace_bytes(std::int64_t rows, std::int64_t context, std::int64_t channels,
                              std::int64_t heads, std::int64_t padded_vocab, bool training) const;

  // ---- memory ---------------------------------------------------------------------------------

  /// out = 0.
  void fill_zero(View out);
  /// out[i] = mean + deviation * normal(seed, stream, i), f32. The same on every backend.
  void fill_normal(View out, float mean, float deviation, std::uint64_t seed, std::uint64_t stream);
  /// out[i] = low + (high - low) * uniform(seed, stream, i) in [0, 1), f32. The same on every
  /// backend.
  void fill_uniform(View out, float low, float high, std::uint64_t seed, std::uint64_t stream);
  /// out = inp, converting between f32, bf16 (round to nearest even) and f16. Equal shapes.
  void convert(View out, ConstView inp);

  // ---- weights --------------------------------------------------------------------------------

  /// Memory that the copies of a (K, M) weight take on this backend. `with_backward` false: the
  /// second is 0.
  PackedBytes packed_bytes(std::int64_t inputs, std::int64_t outputs, WeightOrder order,
                           bool with_backward) const;
  /// Fills the copies from the f32 parameter, (K, M) or (M, K) as `weight.order` says. An integer
  /// format refuses NaN and infinity.
  void pack_weight(const PackedWeight& weight, ConstView parameter);

  // ---- embedding ------------------------------------------------------------------------------

  /// x[n] = wte[ids[n]] + wpe[first_position + n mod T].
  /// x: (N, C) f32. ids: (N) i32 in [0, V). wte: (Vp, C) f32. wpe: (positions, C) f32.
  /// T = `length`; N must be a multiple of it and first_position + T <= positions.
  /// `dropout`: of the sum.
  void embed_forward(View x, ConstView ids, ConstView wte, ConstView wpe, std::int64_t length,
                     std::int64_t first_position, const Dropout& dropout = {});
  /// x[n] = row ids[n] of the packed head weight + wpe[positions[n]], without f32 masters of wte.
  /// x: (N, C) f32. ids: (N) i32 in [0, outputs). positions: (N) i32 in [0, P). wte: kOutIn, inputs
  /// C. wpe: (P, C) f32. Only on a backend of make_inference_backend(), or the reference.
  void embed_packed(View x, ConstView ids, ConstView positions, const PackedWeight& wte,
                    ConstView wpe);
  /// dwte[ids[n]] += dx[n]; dwpe[n mod T] += dx[n], in a fixed order whatever the threads.
  /// dwte: (Vp, C), dwpe: (positions, C), dx: (N, C), all f32; dwte or dwpe empty: not wanted.
  /// ids: (N) i32. `dropout`: the forward's, which dx has not passed yet.
  void embed_backward(View dwte, View dwpe, ConstView dx, ConstView ids, std::int64_t length,
                      const Dropout& dropout = {});

  // ---- LayerNorm with the residual ------------------------------------------------------------

  /// res_out = res_in + branch; normed = (res_out - mean) * rstd * gain + bias, per row, with
  /// rstd = 1 / sqrt(var + 1e-5) and var dividing by C.
  /// res_out, res_in: (N, C) f32, may be the same memory. branch: (N, C) A, or empty: nothing is
  /// added and res_out must be res_in's memory. normed: (N, C) A. mean, rstd: (N) f32.
  /// gain, bias: (C) f32. `dropout`: of the branch while it is added.
  /// Source: Ba, Kiros, Hinton 2016 (arXiv:1607.06450), section 3; pre-LN as in GPT-2.
  void add_layernorm_forward(View res_out, View normed, View mean, View rstd, ConstView res_in,
                             ConstView branch, ConstView gain, ConstView bias,
                             const Dropout& dropout = {});
  /// dres += the gradient of LayerNorm's input; dgain += ..., dbias += ...; where given,
  /// dres_copy = dres in A (the dout of the branch below it), after the branch's `dropout`.
  /// dres: (N, C) f32. dres_copy: (N, C) A, or empty. dgain, dbias: (C) f32, or empty: not wanted.
  /// dnormed: (N, C) A.
  /// res: (N, C) f32, the forward's res_out. mean, rstd: (N). gain: (C). Dropout needs dres_copy.
  void add_layernorm_backward(View dres, View dres_copy, View dgain, View dbias, ConstView dnormed,
                              ConstView res, ConstView mean, ConstView rstd, ConstView gain,
                              const Dropout& dropout = {});

  // ---- linear layers --------------------------------------------------------------------------

  /// z = inp W + bias; out = z, or out = GELU(z) with kGelu, which then stores z in `pre`.
  ///   GELU(z) = z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))
  /// out: (N, M) A. pre: (N, M) A with kGelu in training; empty: not kept. inp: (N, K) A.
  /// bias: (M) f32. out and pre overlap nothing.
  /// Source: Hendrycks, Gimpel 2016 (arXiv:1606.08415), the tanh form GPT-2 uses.
  void linear_forward(View out, View pre, ConstView inp, const PackedWeight& weight, ConstView bias,
                      Epilogue epilogue);
  /// dinp = dout W^T, times GELU'(pre) with kGelu, where `inp` = GELU(pre);
  /// dweight += inp^T dout; dbias += column sums of dout (= with Gradient::kOverwrite).
  /// dinp: (N, K) A. dweight: (K, M) f32. dbias: (M) f32. dout: (N, M) A. inp: (N, K) A.
  /// pre: (N, K) A with kGelu, else empty. dinp overlaps nothing but, where K = M, never dout.
  /// dinp, dweight, dbias: empty where they are not wanted, which saves their work; without dinp
  /// the copy for backward is not read and need not exist.
  void linear_backward(View dinp, View dweight, View dbias, ConstView dout, ConstView inp,
                       const PackedWeight& weight, Epilogue epilogue, ConstView pre,
                       Gradient gradient = Gradient::kAdd);
  /// The gradients of a low-rank adapter A B that is merged into a linear layer's weight:
  ///   out = inp (W + s A B) + bias, so that d(sum(dout * out)) = sum(dout * inp s d(A B));
  ///   with d(A B) = dA B + A dB and sum(X * (Y Z)) = sum((Y^T X) * Z) = sum((X Z^T) * Y):
  ///   da += s inp^T (dout B^T);  db += s (inp A)^T dout
  /// Both inner products are (N, R): the weight's own (K, M) gradient never exists.
  /// da: (K, R), db: (R, M) f32, empty where not wanted. dout: (N, M) A, inp: (N, K) A: those of
  /// linear_backward. a: (K, R), b: (R, M) f32. The (N, R) products and what is multiplied with
  /// them are rounded to A; sums are f32. Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1.
  void low_rank_backward(View da, View db, ConstView dout, ConstView inp, ConstView a, ConstView b,
                         float scale);
  /// Upper bound of the scratch memory that low_rank_backward() takes for N rows.
  std::size_t low_rank_workspace_bytes(std::int64_t rows, std::int64_t inputs, std::int64_t outputs,
                                       std::int64_t rank) const;
  /// out = GELU(pre), as linear_forward gave it: for a backward pass that kept only pre.
  /// out, pre: (N, M) A, may be the same memory.
  void gelu_forward(View out, ConstView pre);

  // ---- attention ------------------------------------------------------------------------------

  /// Causal softmax(q k^T / sqrt(D)) v per batch and head, streaming: no (T, T) matrix exists.
  /// out: (N, C) A. lse: (B, H, T) f32, log-sum-exp of each row of scaled scores.
  /// qkv: (N, 3C) A: q, k, v side by side, each H heads of D. B, H, T come from lse's shape.
  /// `dropout`: of the probabilities, lse is the undropped ones'. The probability of key j for the
  /// query in row n and head h is element j of row (first_row + n) H + h.
  /// Source: Dao et al. 2022 (arXiv:2205.14135), algorithm 1; with dropout algorithm 2.
  void attention_forward(View out, View lse, ConstView qkv, const Dropout& dropout = {});
  /// dqkv: (N, 3C) A, overwritten. dout, out: (N, C) A. qkv, lse, `dropout` as in the forward.
  /// Probabilities are recomputed from lse block by block (arXiv:2205.14135, algorithm 4).
  void attention_backward(View dqkv, ConstView dout, ConstView qkv, ConstView out, ConstView lse,
                          const Dropout& dropout = {});
  /// Generation: the rows of `qkv` belong to the sequences in turn, `rows` to each. Appends their
  /// keys and values to the sequence's caches at [position, position + rows), then each row attends
  /// to everything of its sequence up to itself. A row's result has the same bits whatever the
  /// other sequences are.
  /// out: (N, C) A, N the sum of `rows`. qkv: (N, 3C) A. H and D are the same in all caches; no two
  /// sequences share memory.
  void attention_cached(View out, ConstView qkv, std::span<const CacheRows> sequences);

  // ---- head and loss --------------------------------------------------------------------------

  /// Loss and gradients of the tied head, in chunks of rows: the (N, V) logits never exist.
  ///   logits = x wte^T over the first V columns; loss[n] = lse(logits[n]) - logits[n][target]
  /// dx = scale * dloss/dx; dwte += scale * dloss/dwte (= with Gradient::kOverwrite); with
  /// `options` these are the gradients of
  ///   (1 - E) loss + E (lse - mean of the V logits) + W lse^2
  /// while `losses` and the result stay the plain cross entropy. Returns the
  /// unscaled sum of the losses of the rows whose target is not kIgnoredTarget (their dx is 0). dx:
  /// (N, C) A. dwte: (Vp, C) f32; rows V.. receive nothing. losses: (N) f32, 0 where ignored. x:
  /// (N, C) A. wte: kOutIn, inputs C, outputs Vp. targets: (N) i32 in [-1, V). V = `vocab`.
  /// dwte empty: not wanted.
  double head_loss(View losses, View dx, View dwte, ConstView x, const PackedWeight& wte,
                   ConstView targets, std::int64_t vocab, float scale,
                   Gradient gradient = Gradient::kAdd, const LossOptions& options = {});
  /// As head_loss(), but for what take_losses() gives, and `losses`: a device is not waited for.
  void queue_head_loss(View losses, View dx, View dwte, ConstView x, const PackedWeight& wte,
                       ConstView targets, std::int64_t vocab, float scale,
                       Gradient gradient = Gradient::kAdd, const LossOptions& options = {});
  /// What queue_head_loss() came to since the last call, in order; waits for it.
  std::vector<double> take_losses() { return do_take_losses(); }
  /// The same without gradients.
  double head_loss_forward(View losses, ConstView x, const PackedWeight& wte, ConstView targets,
                           std::int64_t vocab);
  /// Whether head_candidates() is there: where a draw from all logits would wait for their copy.
  virtual bool has_candidates() const { return false; }
  /// Of each row of logits = x wte^T what a draw looks at. rows: N. inverse_temperatures: N. x:
  /// (N, C) A.
  void head_candidates(std::span<TopLogits> rows, std::span<const float> inverse_temperatures,
                       ConstView x, const PackedWeight& wte, std::int64_t vocab);
  /// logits = x wte^T over the first V columns. logits: (N, V) f32. x: (N, C) A.
  void head_logits(View logits, ConstView x, const PackedWeight& wte, std::int64_t vocab);

  // ---- optimizer ------------------------------------------------------------------------------

  /// Sum of the squares of an f32 tensor, in f64 and a fixed order.
  double squared_norm(ConstView values);
  /// The sum of several, in their order: a device is waited for once.
  double squared_norm(std::span<const ConstView> tensors);
  /// One AdamW step as PyTorch's: g = grad * gradient_scale; m = b1 m + (1-b1) g;
  /// v = b2 v + (1-b2) g^2; p -= lr * weight_decay * p;
  /// p -= lr * (m / (1-b1^step)) / (sqrt(v / (1-b2^step)) + epsilon).
  /// All f32 of one shape. `copies`, where given, are refreshed from the new parameter.
  /// `average`, where it has values, follows the new parameter.
  /// Source: Loshchilov, Hutter 2019 (arXiv:1711.05101), algorithm 2; torch.optim.AdamW.
  void adamw_step(View parameter, ConstView gradient, View m, View v, const AdamW& hyper,
                  const PackedWeight* copies, const Average& average = {});
  /// One Muon step on a matrix: g = gradient * gradient_scale; m = beta m + (1-beta) g with beta
  /// the momentum; u = (1-beta) g + beta m (Nesterov); for each of the `parts` blocks of columns
  ///   X = u / max(|u|, 1e-7), |u| the Frobenius norm; 5 times: S = X X^T,
  ///   X = a X + (b S + c S S) X with (a, b, c) = (3.4445, -4.7750, 2.0315), so that X's singular
  ///   values come near 1 (0.68 to 1.14; a singular value of 0 stays 0);
  /// p -= lr * weight_decay * p; p -= lr * scale * X.
  /// parameter, gradient, m: (R, M) f32, M a multiple of parts. Products are taken in A with sums
  /// in f32. `scale` is the caller's, by the shape: Jordan's sqrt(max(1, outputs / inputs)), or
  /// 0.2 sqrt(max(inputs, outputs)), which moves parameters about as far as AdamW does with the
  /// same rate (Liu et al. 2025, arXiv:2502.16982, section 2.2). `copies`, `average` as above.
  /// Source: Jordan 2024, "Muon: An optimizer for hidden layers in neural networks"
  /// (kellerjordan.github.io/posts/muon); torch.optim.Muon.
  void muon_step(View parameter, ConstView gradient, View m, const Muon& hyper,
                 const PackedWeight* copies, const Average& average = {});
  /// Upper bound of the scratch memory that muon_step() takes for an (R, M) matrix of `parts`.
  std::size_t muon_workspace_bytes(std::int64_t rows, std::int64_t columns,
                                   std::int64_t parts) const;

 protected:
  Backend(DType compute_type, WeightFormat weight_format)
      : compute_type_(compute_type), weight_format_(weight_format) {}

 private:
  virtual void do_begin_pass(int /*number*/) {}
  virtual void do_end_pass() {}
  virtual void do_drop_pass() noexcept {}
  virtual std::size_t do_workspace_bytes(std::int64_t rows, std::int64_t context,
                                         std::int64_t channels, std::int64_t heads,
                                         std::int64_t padded_vocab, bool training) const = 0;
  virtual PackedBytes do_packed_bytes(std::int64_t inputs, std::int64_t outputs, WeightOrder order,
                                      bool with_backward) const = 0;
  virtual void do_pack_weight(const PackedWeight& weight, ConstView parameter) = 0;
  virtual void do_embed_forward(View x, ConstView ids, ConstView wte, ConstView wpe,
                                std::int64_t length, std::int64_t first_position,
                                const Dropout& dropout) = 0;
  /// Whether do_embed_packed can read the packed head weight.
  virtual bool do_reads_packed() const = 0;
  virtual void do_embed_packed(View x, ConstView ids, ConstView positions, const PackedWeight& wte,
                               ConstView wpe) = 0;
  virtual void do_embed_backward(View dwte, View dwpe, ConstView dx, ConstView ids,
                                 std::int64_t length, const Dropout& dropout) = 0;
  virtual void do_add_layernorm_forward(View res_out, View normed, View mean, View rstd,
                                        ConstView res_in, ConstView branch, ConstView gain,
                                        ConstView bias, const Dropout& dropout) = 0;
  virtual void do_add_layernorm_backward(View dres, View dres_copy, View dgain, View dbias,
                                         ConstView dnormed, ConstView res, ConstView mean,
                                         ConstView rstd, ConstView gain,
                                         const Dropout& dropout) = 0;
  virtual void do_linear_forward(View out, View pre, ConstView inp, const PackedWeight& weight,
                                 ConstView bias, Epilogue epilogue) = 0;
  virtual void do_linear_backward(View dinp, View dweight, View dbias, ConstView dout,
                                  ConstView inp, const PackedWeight& weight, Epilogue epilogue,
                                  ConstView pre, Gradient gradient) = 0;
  virtual void do_low_rank_backward(View da, View db, ConstView dout, ConstView inp, ConstView a,
                                    ConstView b, float scale) = 0;
  virtual std::size_t do_low_rank_workspace_bytes(std::int64_t rows, std::int64_t inputs,
                                                  std::int64_t outputs,
                                                  std::int64_t rank) const = 0;
  virtual void do_gelu_forward(View out, ConstView pre) = 0;
  virtual void do_attention_forward(View out, View lse, ConstView qkv, const Dropout& dropout) = 0;
  virtual void do_attention_backward(View dqkv, ConstView dout, ConstView qkv, ConstView out,
                                     ConstView lse, const Dropout& dropout) = 0;
  virtual void do_attention_cached(View out, ConstView qkv,
                                   std::span<const CacheRows> sequences) = 0;
  /// dx and dwte empty: losses only. dwte alone: it is not wanted.
  virtual double do_head_loss(View losses, View dx, View dwte, ConstView x, const PackedWeight& wte,
                              ConstView targets, std::int64_t vocab, float scale, Gradient gradient,
                              const LossOptions& options) = 0;
  virtual void do_queue_head_loss(View losses, View dx, View dwte, ConstView x,
                                  const PackedWeight& wte, ConstView targets, std::int64_t vocab,
                                  float scale, Gradient gradient, const LossOptions& options);
  virtual std::vector<double> do_take_losses();
  /// From all logits, for backends that have nothing better.
  virtual void do_head_candidates(std::span<TopLogits> rows,
                                  std::span<const float> inverse_temperatures, ConstView x,
                                  const PackedWeight& wte, std::int64_t vocab);
  virtual void do_head_logits(View logits, ConstView x, const PackedWeight& wte,
                              std::int64_t vocab) = 0;
  virtual void do_fill_zero(View out);
  virtual double do_squared_norm(ConstView values);
  virtual double do_squared_norm(std::span<const ConstView> tensors);
  /// Of one of the blocks that do_squared_norm() adds up, on the calling thread.
  virtual double do_sum_of_squares(const float* values, std::int64_t count) const;
  virtual void do_adamw_step(View parameter, ConstView gradient, View m, View v, const AdamW& hyper,
                             const PackedWeight* copies, const Average& average) = 0;
  virtual void do_muon_step(View parameter, ConstView gradient, View m, const Muon& hyper,
                            const PackedWeight* copies, const Average& average) = 0;
  virtual std::size_t do_muon_workspace_bytes(std::int64_t rows, std::int64_t columns,
                                              std::int64_t parts) const = 0;

  friend class Timed;  // kernels/profile.h
  DType compute_type_;
  WeightFormat weight_format_;
  std::vector<double> block_sums_;  // squared_norm's
  std::vector<double> queued_;      // losses that wait to be taken
  std::vector<OperationTotals> profile_;
  bool profiling_ = false;
  base::Clock clock_ = base::Clock::kWall;
};

/// out = weight + scale * (a b), a low-rank adapter merged into its weight. The same bits
/// everywhere and from any number of threads; it needs no backend, so that files can be written
/// beside one. out, weight: (K, M) f32, may be the same memory. a: (K, R), b: (R, M) f32. Throws
/// Error when a shape disagrees.
void merge_low_rank(View out, ConstView weight, ConstView a, ConstView b, float scale);

/// Which backend to make.
enum class Device : std::uint8_t { kReference, kCpu, kCuda };

/// Why CUDA device `index` cannot be used: no CUDA in this build, no driver, no such device.
/// Empty where it can.
std::string cuda_trouble(int index);

/// What the cpu backend computes with: its bits depend on it.
struct CpuChoice {
  std::string isa;       ///< one of available_instruction_sets()
  std::string products;  ///< whose dense products: "own", "onednn" or "plain"
  bool operator==(const CpuChoice&) const = default;
};

/// What can serve a compute type on this processor, the expected best first; never empty. Where
/// GPT2_CPU_ISA names an instruction set, only what runs with that one.
std::vector<CpuChoice> cpu_choices(DType compute_type);
/// True where this processor and build have `choice`, whatever GPT2_CPU_ISA says.
bool has_cpu_choice(DType compute_type, const CpuChoice& choice);
/// FLOP/s of dense products with each of the choices, tried in turns on all threads for about a
/// second together. Throws Error for one that does not exist here.
std::vector<double> try_cpu_choices(DType compute_type, const std::vector<CpuChoice>& choices);

/// Makes a backend that computes in `compute_type` (f32 or bf16), its weights' copies in the same.
/// `choice`: what the cpu backend computes with, whatever GPT2_CPU_ISA says; null: the first of
/// cpu_choices(). Throws Error where this processor or build lacks it.
/// The environment variable GPT2_CPU_ISA (generic, avx2, avx512, avx512_bf16, amx) caps the
/// instruction set of the cpu backend, oneDNN's included; an unknown value, or one this processor
/// lacks, is an Error, never a silent fallback. oneDNN takes its cap once: another value later in
/// the same process is an Error too.
/// `index`: of the CUDA device. Throws Error as cuda_trouble() says.
/// `tf32`: whether the CUDA backend's products of f32 round what they multiply to TF32 (10 bits
/// after the point instead of 23, sums stay f32), which is what tensor cores take. Elsewhere, and
/// in bf16, it means nothing.
std::unique_ptr<Backend> make_backend(Device device, DType compute_type,
                                      const CpuChoice* choice = nullptr, int index = 0,
                                      bool tf32 = true);

/// Makes a backend for inference with weights in `format`. It computes in f32 for kF32, else in
/// bf16. As make_backend() otherwise; the CUDA backend has no integer weights (Error).
/// `choice`: decides the instruction set of weights in kF32 and kBf16; null: the strongest.
std::unique_ptr<Backend> make_inference_backend(Device device, WeightFormat format,
                                                const CpuChoice* choice = nullptr, int index = 0,
                                                bool tf32 = true);

/// Instruction sets this processor can run, weakest first: "generic", "avx2", "avx512",
/// "avx512_bf16", "amx".
std::vector<std::string> available_instruction_sets();

/// The one in force: GPT2_CPU_ISA's, or the strongest. Throws Error as make_backend() does.
std::string instruction_set();
/// True where GPT2_CPU_ISA is set.
bool instruction_set_is_forced();

/// What bounds the speed of everything else.
enum class Limit : std::uint8_t {
  kF32,   ///< multiplications and additions a second, the fastest instructions in force
  kBf16,  ///< the same on bf16, f32's where nothing beats those
  kInt8,  ///< the same on int8
  kRead,  ///< bytes read a second, from memory
  kCopy,  ///< bytes read and written a second
};

/// Measures limits on base::thread_count() threads with loops that do nothing else: registers only
/// for arithmetic, half a gigabyte on huge pages (taken at the first kRead or kCopy) for the rest.
class LimitMeter {
 public:
  LimitMeter();
  ~LimitMeter();
  LimitMeter(const LimitMeter&) = delete;
  LimitMeter& operator=(const LimitMeter&) = delete;
  /// Operations or bytes a second, over one window of about `seconds`.
  double measure(Limit limit, double seconds, base::Clock clock = base::Clock::kWall);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// True where bf16 products have hardware behind them; elsewhere bf16 is a storage type that is
/// converted on the way in.
bool bf16_products_in_hardware();

}  // namespace kernels
