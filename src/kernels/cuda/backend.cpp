// The door's operations on a CUDA device: shapes to launches. No kernel text here, so that any
// compiler takes it.
//
// Work is queued and waited for where a number comes back to the host: losses, norms, logits.
// Passes that come again are run as one (queue.h). Tensors lie in memory that host and device share
// (SharedMemory); what only the device uses lies in buffers that grow to the largest shape seen.

#include "kernels/cuda/backend.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "kernels/cuda/candidate_finder.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/low_rank.h"
#include "kernels/cuda/muon_steps.h"
#include "kernels/cuda/optimizer_lists.h"
#include "kernels/cuda/queue.h"
#include "kernels/cuda/queued_losses.h"
#include "kernels/cuda/typed_products.h"
#include "kernels/dropout.h"

namespace kernels {
namespace cuda {
namespace {

/// Rows of logits that exist at a time.
constexpr std::int64_t kHeadRows = 4096;

Mask to_mask(const Dropout& dropout) {
  if (!dropout.active()) return {};
  const DropoutMask ready(dropout);
  return {ready.threshold(), ready.scale(), dropout.key,
          static_cast<std::uint64_t>(dropout.first_row)};
}

/// A: what activations and weights' copies are made of, f32 or bf16.
template <class A>
class CudaBackend final : public Backend {
  static constexpr bool kF32 = std::is_same_v<A, float>;
  static constexpr int kBytes = sizeof(A);

 public:
  /// `tf32`: of products of f32.
  CudaBackend(int index, const gpu::DeviceFacts& facts, bool tf32)
      : Backend(kF32 ? DType::kF32 : DType::kBf16, kF32 ? WeightFormat::kF32 : WeightFormat::kBf16),
        facts_(facts),
        tf32_(kF32 && tf32),
        memory_(queue_, index),
        products_(queue_, kF32 && tf32) {}

  std::string_view name() const override { return "cuda"; }
  std::string description() const override {
    return fmt::format("cuda, {} (compute capability {}.{}), cuBLASLt {}", facts_.name,
                       facts_.major, facts_.minor,
                       !kF32   ? "bf16"
                       : tf32_ ? "tf32"
                               : "fp32");
  }
  base::MemorySource* memory() override { return &memory_; }
  void finish() override { gpu::synchronize(stream()); }
  std::string choices() const override { return products_.all().text(); }
  std::string use_choices(const std::string& text) override { return products_.all().use(text); }

 private:
  Stream stream() { return &queue_; }
  static A* of(const View& view) { return static_cast<A*>(view.data()); }
  static const A* of(const ConstView& view) { return static_cast<const A*>(view.data()); }
  static A* of(std::byte* memory) { return reinterpret_cast<A*>(memory); }
  static const A* of(const std::byte* memory) { return reinterpret_cast<const A*>(memory); }

  // ---- passes ---------------------------------------------------------------------------------

  void do_begin_pass(int number) override {
    queue_.begin_pass(number);
    cached_calls_ = 0;
  }
  void do_end_pass() override { queue_.end_pass(); }
  void do_drop_pass() noexcept override { queue_.drop_pass(); }

  // ---- memory ---------------------------------------------------------------------------------

  std::size_t do_workspace_bytes(std::int64_t rows, std::int64_t /*context*/, std::int64_t channels,
                                 std::int64_t heads, std::int64_t padded_vocab,
                                 bool training) const override {
    const std::int64_t head_size = channels / heads;
    const std::int64_t widened =
        head_size == attention_size(head_size) ? 0 : heads * attention_size(head_size);
    std::int64_t bytes = Products::kWorkspaceBytes;
    bytes += std::min(rows, kHeadRows) * padded_vocab * 4;  // logits, of an evaluation
    bytes += 10 * rows * 4;                                 // ids, targets, losses, cached rows
    bytes += QueuedLosses::kMost * 8;
    bytes += widened * rows * (training ? 9 : 4) * kBytes;  // qkv, out, and their gradients
    if (training) {
      bytes += rows * heads * 4;  // delta
      const std::size_t floats = layernorm_scratch_floats(to_int(rows), to_int(channels)) +
                                 column_sums_scratch_floats(to_int(rows), to_int(4 * channels));
      bytes += static_cast<std::int64_t>(floats) * 4 + 4 * channels * 4;  // and a bias's gradient
    } else {
      bytes += 4 * channels * rows * kBytes;  // what GELU had, which nobody wants
      bytes += rows * heads * 4;              // lse
    }
    return static_cast<std::size_t>(bytes);
  }

  void do_fill_zero(View out) override { gpu::fill_bytes(out.data(), 0, out.bytes(), stream()); }

  /// Ids, targets and positions come from the host.
  const std::int32_t* on_device(Buffer& buffer, ConstView ids) {
    auto* copy = buffer.take<std::int32_t>(ids.elements());
    gpu::copy_bytes_in(copy, ids.data(), ids.bytes(), stream());
    return copy;
  }

  // ---- weights --------------------------------------------------------------------------------

  /// One copy. Where it is trained it lies as the parameter does, since an update renews both in
  /// one pass; for inference an output's weights lie side by side, as decode_linear() reads them.
  /// Products read it either way.
  PackedBytes do_packed_bytes(std::int64_t inputs, std::int64_t outputs, WeightOrder /*order*/,
                              bool /*with_backward*/) const override {
    return {.forward = static_cast<std::size_t>(inputs * outputs) * sizeof(A), .backward = 0};
  }

  /// Waits: the parameter may be a place that the next one takes.
  void do_pack_weight(const PackedWeight& weight, ConstView parameter) override {
    renew(weight, parameter);
    finish();
  }
  /// (M, K), an output after another.
  static bool by_outputs(const PackedWeight& weight) {
    return weight.order == WeightOrder::kOutIn || weight.backward == nullptr;
  }
  /// As its parameter, so that an update renews both in one pass.
  static bool lies_as_parameter(const PackedWeight& weight) {
    return weight.order == WeightOrder::kOutIn || weight.backward != nullptr;
  }
  void renew(const PackedWeight& weight, ConstView parameter) {
    if (!lies_as_parameter(weight)) {
      transpose(of(weight.forward), parameter.f32(), to_int(weight.inputs), to_int(weight.outputs),
                stream());
      return;
    }
    cuda::convert(of(weight.forward), parameter.f32(),
                  static_cast<std::size_t>(parameter.elements()), stream());
  }

  // ---- embedding ------------------------------------------------------------------------------

  void do_embed_forward(View x, ConstView ids, ConstView wte, ConstView wpe, std::int64_t length,
                        std::int64_t first_position, const Dropout& dropout) override {
    cuda::embed_forward(x.f32(), on_device(ids_, ids), wte.f32(), wpe.f32(), to_int(x.dim(0)),
                        to_int(x.dim(1)), to_int(length), to_int(first_position), to_mask(dropout),
                        stream());
  }

  bool do_reads_packed() const override { return true; }
  void do_embed_packed(View x, ConstView ids, ConstView positions, const PackedWeight& wte,
                       ConstView wpe) override {
    const std::int32_t* own_ids = on_device(ids_, ids);
    row_positions_.assign(positions.i32(), positions.i32() + positions.elements());
    cuda::embed_packed(x.f32(), own_ids, positions_.hold(row_positions_), of(wte.forward),
                       wpe.f32(), to_int(x.dim(0)), to_int(x.dim(1)), stream());
  }

  void do_embed_backward(View dwte, View dwpe, ConstView dx, ConstView ids, std::int64_t length,
                         const Dropout& dropout) override {
    const std::int64_t rows = dx.dim(0);
    IdGroups groups;
    if (!dwte.empty()) {
      groups_.resize(static_cast<std::size_t>(2 * rows + 1));
      std::int32_t* order = groups_.data();
      std::int32_t* starts = order + rows;
      (void)group_rows(order, starts, ids.i32(), to_int(rows), to_int(dwte.dim(0)));
      // As many as there can be: how many there are is known to this batch alone.
      groups.count = to_int(std::min(rows, dwte.dim(0)));
      auto* copy = id_groups_.take<std::int32_t>(2 * rows + 1);
      gpu::copy_bytes_in(copy, order, groups_.size() * sizeof(std::int32_t), stream());
      groups.order = copy;
      groups.starts = copy + rows;
    }
    cuda::embed_backward(f32(dwte), f32(dwpe), dx.f32(), on_device(ids_, ids), groups, to_int(rows),
                         to_int(dx.dim(1)), to_int(length), to_mask(dropout), stream());
  }

  // ---- LayerNorm ------------------------------------------------------------------------------

  void do_add_layernorm_forward(View res_out, View normed, View mean, View rstd, ConstView res_in,
                                ConstView branch, ConstView gain, ConstView bias,
                                const Dropout& dropout) override {
    cuda::add_layernorm_forward(res_out.f32(), of(normed), mean.f32(), rstd.f32(), res_in.f32(),
                                of(branch), gain.f32(), bias.f32(), to_int(res_in.dim(0)),
                                to_int(res_in.dim(1)), to_mask(dropout), stream());
  }

  void do_add_layernorm_backward(View dres, View dres_copy, View dgain, View dbias,
                                 ConstView dnormed, ConstView res, ConstView mean, ConstView rstd,
                                 ConstView gain, const Dropout& dropout) override {
    const int rows = to_int(res.dim(0));
    const int channels = to_int(res.dim(1));
    auto* scratch =
        scratch_.take<float>(static_cast<std::int64_t>(layernorm_scratch_floats(rows, channels)));
    cuda::add_layernorm_backward(dres.f32(), of(dres_copy), f32(dgain), f32(dbias), of(dnormed),
                                 res.f32(), mean.f32(), rstd.f32(), gain.f32(), to_mask(dropout),
                                 scratch, rows, channels, stream());
  }

  // ---- linear layers --------------------------------------------------------------------------

  void do_linear_forward(View out, View pre, ConstView inp, const PackedWeight& weight,
                         ConstView bias, Epilogue epilogue) override {
    const bool gelu = epilogue == Epilogue::kGelu;
    if (inp.dim(0) <= kDecodeRows && by_outputs(weight) && pre.empty()) {
      decode_linear(of(out), of(inp), of(weight.forward), bias.f32(), gelu, to_int(inp.dim(0)),
                    to_int(weight.inputs), to_int(weight.outputs), stream());
      return;
    }
    const A* own_bias = products_.converted(bias_, bias.f32(), weight.outputs);
    A* own_pre = of(pre);
    if (gelu && pre.empty()) own_pre = pre_.take<A>(out.elements());
    products_.multiply({.rows = to_int(inp.dim(0)),
                        .columns = to_int(weight.outputs),
                        .depth = to_int(weight.inputs),
                        .right_transposed = by_outputs(weight),
                        .epilogue = gelu ? ProductEpilogue::kBiasGelu : ProductEpilogue::kBias},
                       out.data(), of(inp), of(weight.forward), own_bias, own_pre);
  }

  void do_linear_backward(View dinp, View dweight, View dbias, ConstView dout, ConstView inp,
                          const PackedWeight& weight, Epilogue epilogue, ConstView pre,
                          Gradient gradient) override {
    const int rows = to_int(dout.dim(0));
    const int inputs = to_int(weight.inputs);
    const int outputs = to_int(weight.outputs);
    const bool accumulate = gradient == Gradient::kAdd;
    if (!dweight.empty()) {
      products_.weight_gradient(dweight.f32(), f32(dbias), of(inp), of(dout), rows, inputs, outputs,
                                accumulate);
    } else if (!dbias.empty()) {
      if (!accumulate) do_fill_zero(dbias);
      products_.add_rows(dbias.f32(), of(dout), rows, outputs);
    }
    if (dinp.empty()) return;
    const bool gelu = epilogue == Epilogue::kGelu;
    products_.multiply(
        {.rows = rows,
         .columns = inputs,
         .depth = outputs,
         .right_transposed = !by_outputs(weight),
         .epilogue = gelu ? ProductEpilogue::kGeluDerivative : ProductEpilogue::kNone},
        dinp.data(), of(dout), of(weight.forward), nullptr, const_cast<A*>(of(pre)));
  }

  void do_low_rank_backward(View da, View db, ConstView dout, ConstView inp, ConstView a,
                            ConstView b, float scale) override {
    low_rank_.backward(da, db, dout, inp, a, b, scale);
  }
  std::size_t do_low_rank_workspace_bytes(std::int64_t rows, std::int64_t inputs,
                                          std::int64_t outputs, std::int64_t rank) const override {
    return low_rank_.workspace_bytes(rows, inputs, outputs, rank);
  }

  void do_gelu_forward(View out, ConstView pre) override {
    cuda::gelu_forward(of(out), of(pre), static_cast<std::size_t>(out.elements()), stream());
  }

  // ---- attention ------------------------------------------------------------------------------

  /// The head size of the kernel that serves one; itself where none does, which the kernel refuses.
  /// In f32 a kernel serves every size.
  static std::int64_t attention_size(std::int64_t head_size) {
    if (kF32) return head_size;
    if (head_size <= 64) return 64;
    return head_size <= 128 ? 128 : head_size;
  }

  static AttentionShape shape_of(ConstView lse, ConstView qkv, const Dropout& dropout) {
    AttentionShape shape;
    shape.batch = to_int(lse.dim(0));
    shape.heads = to_int(lse.dim(1));
    shape.length = to_int(lse.dim(2));
    const std::int64_t head_size = qkv.dim(1) / 3 / shape.heads;
    shape.head_size = to_int(attention_size(head_size));
    shape.scale = 1 / std::sqrt(static_cast<float>(head_size));
    shape.mask = to_mask(of_heads(dropout, shape.heads));
    return shape;
  }

  /// `inp`, (N, parts C), with its heads as wide as the kernel's.
  const A* widened(Buffer& buffer, ConstView inp, int parts, const AttentionShape& s) {
    const int rows = to_int(inp.dim(0));
    const int heads = parts * s.heads;
    const int from = to_int(inp.dim(1)) / heads;
    if constexpr (!kF32) {
      if (from != s.head_size) {
        auto* wide = buffer.take<A>(std::int64_t{rows} * heads * s.head_size);
        resize_heads(wide, of(inp), rows, heads, from, s.head_size, stream());
        return wide;
      }
    }
    return of(inp);
  }
  /// Calls compute(memory for (N, parts C) with the kernel's heads); it ends in `out`.
  template <class Compute>
  void into(View out, Buffer& buffer, int parts, const AttentionShape& s, Compute compute) {
    const int rows = to_int(out.dim(0));
    const int heads = parts * s.heads;
    const int to = to_int(out.dim(1)) / heads;
    if constexpr (!kF32) {
      if (to != s.head_size) {
        auto* wide = buffer.take<A>(std::int64_t{rows} * heads * s.head_size);
        compute(wide);
        resize_heads(of(out), wide, rows, heads, s.head_size, to, stream());
        return;
      }
    }
    compute(of(out));
  }

  void do_attention_forward(View out, View lse, ConstView qkv, const Dropout& dropout) override {
    const AttentionShape s = shape_of(lse, qkv, dropout);
    const A* wide = widened(wide_qkv_, qkv, 3, s);
    into(out, wide_out_, 1, s,
         [&](A* to) { cuda::attention_forward(to, lse.f32(), wide, s, stream()); });
  }

  void do_attention_backward(View dqkv, ConstView dout, ConstView qkv, ConstView out, ConstView lse,
                             const Dropout& dropout) override {
    const AttentionShape s = shape_of(lse, qkv, dropout);
    auto* delta = delta_.take<float>(lse.elements());
    const A* own_dout = widened(wide_dout_, dout, 1, s);
    const A* own_qkv = widened(wide_qkv_, qkv, 3, s);
    const A* own_out = widened(wide_out_, out, 1, s);
    into(dqkv, wide_dqkv_, 3, s, [&](A* to) {
      cuda::attention_backward(to, delta, own_dout, own_qkv, own_out, lse.f32(), s, stream());
    });
  }

  void do_attention_cached(View out, ConstView qkv, std::span<const CacheRows> sequences) override {
    const int heads = to_int(sequences.front().keys.dim(0));
    const int head_size = to_int(sequences.front().keys.dim(2));
    rows_.clear();
    row_positions_.clear();
    const bool appends = std::ranges::all_of(sequences, [](const auto& s) { return s.rows == 1; });
    for (const CacheRows& sequence : sequences) list_rows(sequence);
    const int count = to_int(static_cast<std::int64_t>(rows_.size()));
    const std::int32_t* positions = positions_.hold(row_positions_);
    if (!appends) {
      append_to_caches(next_cached(), positions, of(qkv), count, heads, head_size, stream());
      attend_prompts(out, qkv, sequences);
    }
    if (rows_.empty()) return;
    cuda::attention_cached(of(out), of(qkv), next_cached(), positions,
                           to_int(static_cast<std::int64_t>(rows_.size())), heads, head_size,
                           appends, stream());
  }
  void list_rows(const CacheRows& sequence) {
    for (std::int64_t row = 0; row < sequence.rows; ++row) {
      rows_.push_back({.keys = of(sequence.keys),
                       .values = of(sequence.values),
                       .positions = sequence.keys.dim(1),
                       .row = static_cast<std::int64_t>(rows_.size())});
      row_positions_.push_back(to_int(sequence.position + row));
    }
  }
  /// rows_ on the device. A layer's caches stay where they are from token to token, and its
  /// positions are those of the layer before: in most passes nothing is copied here.
  const CachedRow<A>* next_cached() {
    if (cached_calls_ == cached_.size()) cached_.emplace_back(queue_);
    return cached_[cached_calls_++].hold(rows_);
  }
  /// Sequences that begin attend as in training, which reads each key for many queries at once;
  /// leaves the others' rows in rows_. A sequence's way does not depend on those beside it.
  void attend_prompts(View out, ConstView qkv, std::span<const CacheRows> sequences) {
    std::int64_t first = 0;
    std::size_t left = 0;
    for (const CacheRows& sequence : sequences) {
      const std::int64_t rows = sequence.rows;
      if (sequence.position == 0 && rows > 1) {
        const std::int64_t heads = sequence.keys.dim(0);
        const View lse{lse_.take<float>(heads * rows), DType::kF32, {1, heads, rows}};
        do_attention_forward(out.rows(first, rows), lse, qkv.rows(first, rows), {});
      } else {
        for (std::int64_t row = first; row < first + rows; ++row) {
          rows_[left++] = rows_[static_cast<std::size_t>(row)];
        }
      }
      first += rows;
    }
    rows_.resize(left);
  }

  // ---- head and loss --------------------------------------------------------------------------

  /// `count` rows of logits from `first` on, in f32 or A.
  template <class L>
  L* logits_of(ConstView x, const PackedWeight& wte, std::int64_t first, std::int64_t count) {
    const std::int64_t room = std::min(x.dim(0), kHeadRows) * wte.outputs;
    auto* logits = logits_.take<L>(room);
    products_.multiply({.rows = to_int(count),
                        .columns = to_int(wte.outputs),
                        .depth = to_int(wte.inputs),
                        .right_transposed = true,
                        .f32_out = std::is_same_v<L, float>},
                       logits, of(x) + first * wte.inputs, of(wte.forward));
    return logits;
  }

  double do_head_loss(View losses, View dx, View dwte, ConstView x, const PackedWeight& wte,
                      ConstView targets, std::int64_t vocab, float scale, Gradient gradient,
                      const LossOptions& options) override {
    const float* own_losses =
        queue_losses(dx, dwte, x, wte, targets, vocab, scale, gradient, options);
    auto* total = total_.take<double>(1);
    sum_losses(total, own_losses, to_int(x.dim(0)), stream());
    double sum = 0;
    gpu::copy_bytes_out(losses.data(), own_losses, losses.bytes(), stream());
    gpu::copy_bytes_out(&sum, total, sizeof sum, stream());
    return sum;
  }

  void do_queue_head_loss(View /*losses*/, View dx, View dwte, ConstView x, const PackedWeight& wte,
                          ConstView targets, std::int64_t vocab, float scale, Gradient gradient,
                          const LossOptions& options) override {
    queued_losses_.append(queue_losses(dx, dwte, x, wte, targets, vocab, scale, gradient, options),
                          to_int(x.dim(0)));
  }
  std::vector<double> do_take_losses() override { return queued_losses_.take(); }
  /// Queues the losses and gradients of head_loss(); where the losses will be.
  const float* queue_losses(View dx, View dwte, ConstView x, const PackedWeight& wte,
                            ConstView targets, std::int64_t vocab, float scale, Gradient gradient,
                            const LossOptions& options) {
    const std::int64_t rows = x.dim(0);
    const std::int32_t* own_targets = on_device(targets_, targets);
    auto* own_losses = losses_.take<float>(rows);
    const LossGradient loss_gradient{
        .scale = scale, .label_smoothing = options.label_smoothing, .z_loss = options.z_loss};
    for (std::int64_t first = 0; first < rows; first += kHeadRows) {
      const std::int64_t count = std::min(kHeadRows, rows - first);
      if (dx.empty()) {
        const float* logits = logits_of<float>(x, wte, first, count);
        softmax_loss_forward(own_losses + first, logits, own_targets + first, to_int(count),
                             to_int(vocab), to_int(wte.outputs), stream());
        continue;
      }
      // In what their gradients will be: in bf16 half of the head's traffic.
      A* logits = logits_of<A>(x, wte, first, count);
      softmax_loss(own_losses + first, logits, own_targets + first, to_int(count), to_int(vocab),
                   to_int(wte.outputs), loss_gradient, stream());
      products_.multiply(
          {.rows = to_int(count), .columns = to_int(wte.inputs), .depth = to_int(wte.outputs)},
          of(dx) + first * wte.inputs, logits, of(wte.forward));
      if (dwte.empty()) continue;
      products_.multiply({.rows = to_int(wte.outputs),
                          .columns = to_int(wte.inputs),
                          .depth = to_int(count),
                          .left_transposed = true,
                          .f32_out = true,
                          .accumulate = first > 0 || gradient == Gradient::kAdd},
                         dwte.data(), logits, of(x) + first * wte.inputs);
    }
    return own_losses;
  }

  bool has_candidates() const override { return true; }
  void do_head_candidates(std::span<TopLogits> rows, std::span<const float> inverse_temperatures,
                          ConstView x, const PackedWeight& wte, std::int64_t vocab) override {
    const std::int64_t count = x.dim(0);
    candidates_.begin(inverse_temperatures, std::min(count, kHeadRows), to_int(vocab));
    for (std::int64_t first = 0; first < count; first += kHeadRows) {
      const std::int64_t own = std::min(count - first, kHeadRows);
      const bool few = own <= kDecodeRows;
      const float* logits =
          few ? few_logits(x.rows(first, own), wte, vocab) : logits_of<float>(x, wte, first, own);
      candidates_.find(first, logits, to_int(own), to_int(vocab),
                       to_int(few ? vocab : wte.outputs));
    }
    candidates_.fetch(rows);
  }

  /// (rows, V) logits of a few rows.
  const float* few_logits(ConstView x, const PackedWeight& wte, std::int64_t vocab) {
    const std::int64_t rows = x.dim(0);
    auto* logits = logits_.take<float>(rows * vocab);
    decode_linear(logits, of(x), of(wte.forward), nullptr, false, to_int(rows), to_int(wte.inputs),
                  to_int(vocab), stream());
    return logits;
  }

  void do_head_logits(View logits, ConstView x, const PackedWeight& wte,
                      std::int64_t vocab) override {
    const std::int64_t rows = x.dim(0);
    if (rows <= kDecodeRows) {
      gpu::copy_bytes_out(logits.data(), few_logits(x, wte, vocab), logits.bytes(), stream());
      return;
    }
    for (std::int64_t first = 0; first < rows; first += kHeadRows) {
      const std::int64_t count = std::min(rows - first, kHeadRows);
      const float* padded = logits_of<float>(x, wte, first, count);
      gpu::copy_rows_out(logits.f32() + first * vocab, padded, static_cast<std::size_t>(count),
                         static_cast<std::size_t>(vocab) * sizeof(float),
                         static_cast<std::size_t>(wte.outputs) * sizeof(float), stream());
    }
  }

  // ---- optimizer ------------------------------------------------------------------------------

  double do_squared_norm(ConstView values) override { return norms_.take({&values, 1}); }
  double do_squared_norm(std::span<const ConstView> tensors) override {
    return norms_.take(tensors);
  }

  void do_adamw_step(View parameter, ConstView gradient, View m, View v, const AdamW& hyper,
                     const PackedWeight* copies, const Average& average) override {
    const bool both = copies != nullptr && lies_as_parameter(*copies);
    adam_.step(parameter, gradient, m, v, hyper, both ? of(copies->forward) : nullptr, average);
    if (copies != nullptr && !both) renew(*copies, parameter);
  }

  void do_muon_step(View parameter, ConstView gradient, View m, const Muon& hyper,
                    const PackedWeight* copies, const Average& average) override {
    muon_.step(parameter, gradient, m, hyper, average);
    if (copies != nullptr) renew(*copies, parameter);
  }
  std::size_t do_muon_workspace_bytes(std::int64_t rows, std::int64_t columns,
                                      std::int64_t parts) const override {
    return muon_.workspace_bytes(rows, columns, parts);
  }

  gpu::DeviceFacts facts_;
  bool tf32_;
  gpu::Queue queue_;
  SharedMemory memory_;
  TypedProducts<A> products_;
  std::vector<std::int32_t> groups_;  // rows by their ids, on the host
  std::vector<CachedRow<A>> rows_;
  std::vector<std::int32_t> row_positions_;
  Mirror<std::int32_t> positions_{queue_};
  std::deque<Mirror<CachedRow<A>>> cached_;  // by the number of the call in its pass
  std::size_t cached_calls_ = 0;
  QueuedLosses queued_losses_{queue_};
  Buffer ids_{queue_}, targets_{queue_}, id_groups_{queue_};
  Buffer losses_{queue_}, total_{queue_};
  CandidateFinder candidates_{queue_};
  Buffer logits_{queue_};
  Norms norms_{queue_};
  AdamSteps<A> adam_{queue_};
  Buffer scratch_{queue_}, bias_{queue_}, pre_{queue_}, delta_{queue_}, lse_{queue_};
  // of heads that are no kernel's size
  Buffer wide_qkv_{queue_}, wide_out_{queue_}, wide_dout_{queue_}, wide_dqkv_{queue_};
  LowRank<A> low_rank_{queue_, products_};
  MuonSteps<A> muon_{queue_, products_};
};

}  // namespace
}  // namespace cuda

std::string find_cuda_trouble(int index) {
  try {
    (void)gpu::open_device(index);
  } catch (const gpu::Error& error) {
    return error.what();
  }
  return {};
}

std::unique_ptr<Backend> make_cuda_backend(int index, DType compute_type, bool tf32) {
  try {
    const gpu::DeviceFacts facts = gpu::open_device(index);
    if (compute_type == DType::kF32) {
      return std::make_unique<cuda::CudaBackend<float>>(index, facts, tf32);
    }
    return std::make_unique<cuda::CudaBackend<gpu::Bf16>>(index, facts, tf32);
  } catch (const gpu::Error& error) {
    base::fail("--device cuda:{}: {}", index, error.what());
  }
}

}  // namespace kernels
