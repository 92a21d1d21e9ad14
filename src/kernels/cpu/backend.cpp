// The CPU backend: spreads the kernels of one table over the threads, and lends them scratch.
// Law: work is cut by shape and partial sums are added in a fixed order, so our own results do not
// depend on the number of threads.

#include "kernels/cpu/backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/choice.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/muon.h"
#include "kernels/cpu/scratch.h"
#include "kernels/dropout.h"

namespace kernels {
namespace cpu {
namespace {

/// Rows whose contributions to a sum over rows are added up first.
constexpr std::int64_t kSumRows = 64;
/// Channels of a task of embed_backward: two cache lines of each row.
constexpr std::int64_t kStripe = 32;
/// Elements of a task of an elementwise pass.
constexpr std::int64_t kElements = 16 * 1024;
/// Rows of f32 logits that exist at a time.
constexpr std::int64_t kLogitsRows = 256;
/// Rows of dlogits that exist at a time: each chunk reads and writes all of dwte, so few of them.
constexpr std::int64_t kHeadRows = 1024;

std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

/// Bytes of `count` floats, up to the next cache line.
std::size_t float_bytes(std::int64_t count) {
  return static_cast<std::size_t>(parts(count, 16) * 16) * sizeof(float);
}

const void* at(const ConstView& view, std::int64_t element) {
  if (view.empty()) return nullptr;
  return static_cast<const std::byte*>(view.data()) +
         static_cast<std::size_t>(element) * size_of(view.type());
}
void* at(const View& view, std::int64_t element) {
  return const_cast<void*>(at(static_cast<const ConstView&>(view), element));
}

/// The mask of up to kSumRows rows of an operation, with the memory for their keys.
class PartMask {
 public:
  explicit PartMask(const Dropout& dropout) : dropout_(dropout), mask_(dropout) {}
  /// That of rows [begin, end); valid until the next call.
  RowMask rows(std::int64_t begin, std::int64_t end) {
    if (!dropout_.active()) return {};
    for (std::int64_t n = begin; n < end; ++n) keys_[n - begin] = mask_.row_key(n);
    return {.keys = keys_, .threshold = mask_.threshold(), .scale = mask_.scale()};
  }

 private:
  const Dropout& dropout_;
  DropoutMask mask_;
  std::uint64_t keys_[kSumRows];
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(DType type, const Choice& choice)
      : Backend(type, type == DType::kF32 ? WeightFormat::kF32 : WeightFormat::kBf16),
        table_(table_for(choice.isa)),
        typed_(type == DType::kF32 ? table_.f32 : table_.bf16),
        products_(make_products(type, choice)),
        attention_(type, choice.isa, scratch_) {
    muon_.emplace(type, table_, *products_, scratch_);
  }

  /// For inference: products whose weights can be read back.
  CpuBackend(WeightFormat format, Isa isa)
      : Backend(format == WeightFormat::kF32 ? DType::kF32 : DType::kBf16, format),
        table_(table_for(isa)),
        typed_(format == WeightFormat::kF32 ? table_.f32 : table_.bf16),
        attention_(compute_type(), isa, scratch_) {
    if (is_integer(format)) {
      products_ = make_integer_products(format, WeightOrder::kInOut, isa);
      head_products_ = make_integer_products(format, WeightOrder::kOutIn, isa);
    } else {
      products_ = make_own_products(compute_type(), isa);
      if (!products_) products_ = make_plain_products(compute_type(), table_);
      muon_.emplace(compute_type(), table_, *products_, scratch_);
    }
  }

  std::string_view name() const override { return "cpu"; }
  std::string description() const override {
    return fmt::format("cpu, {}, {}", table_.name, products_->description());
  }

 private:
  std::size_t do_workspace_bytes(std::int64_t rows, std::int64_t context, std::int64_t channels,
                                 std::int64_t heads, std::int64_t padded_vocab,
                                 bool training) const override {
    const std::size_t attention =
        attention_.scratch_bytes(std::min(rows, context), context, channels / heads, training);
    const HeadScratch head = head_scratch(rows, padded_vocab, training);
    const std::size_t logits = head.logits_bytes + head.dlogits_bytes;
    const std::size_t sums = float_bytes(parts(rows, kSumRows) * 4 * channels);
    const std::size_t ours = std::max({attention, logits, sums});
    // Layers: qkv, projection, in, out; the head's chunk.
    const std::int64_t chunk = std::min(rows, kHeadRows);
    std::size_t theirs =
        products(WeightOrder::kOutIn)
            .scratch_bytes(std::min(rows, kLogitsRows), channels, padded_vocab, false);
    for (const auto& [k, n] :
         {std::pair(channels, 3 * channels), std::pair(channels, channels),
          std::pair(channels, 4 * channels), std::pair(4 * channels, channels)}) {
      theirs = std::max(theirs, products_->scratch_bytes(rows, k, n, false));
      if (!training) continue;
      theirs = std::max(theirs, products_->scratch_bytes(rows, n, k, false));
      theirs = std::max(theirs, products_->scratch_bytes(k, rows, n, true));
    }
    if (training) {
      theirs = std::max(theirs, products_->scratch_bytes(chunk, padded_vocab, channels, false));
      theirs = std::max(theirs, products_->scratch_bytes(padded_vocab, chunk, channels, true));
    }
    constexpr std::size_t kHugePages = 2 * (std::size_t{2} << 20);  // both are rounded up to one
    return ours + theirs + kHugePages;
  }

  // ---- weights --------------------------------------------------------------------------------

  /// The products that serve weights of this order.
  Products& products(WeightOrder order) const {
    return order == WeightOrder::kOutIn && head_products_ ? *head_products_ : *products_;
  }

  PackedBytes do_packed_bytes(std::int64_t inputs, std::int64_t outputs, WeightOrder order,
                              bool with_backward) const override {
    const bool backward = with_backward && !is_integer(weight_format());
    return {products(order).packed_bytes(inputs, outputs),
            backward ? products_->packed_bytes(outputs, inputs) : 0};
  }

  void do_pack_weight(const PackedWeight& weight, ConstView parameter) override {
    const bool out_in = weight.order == WeightOrder::kOutIn;
    products(weight.order)
        .pack(weight.forward, parameter.f32(), weight.inputs, weight.outputs, out_in);
    if (weight.backward == nullptr || is_integer(weight_format())) return;
    products_->pack(weight.backward, parameter.f32(), weight.outputs, weight.inputs, !out_in);
  }

  // ---- embedding ------------------------------------------------------------------------------

  void do_embed_forward(View x, ConstView ids, ConstView wte, ConstView wpe, std::int64_t length,
                        std::int64_t first_position, const Dropout& dropout) override {
    const std::int64_t channels = x.dim(1);
    base::parallel_for(x.dim(0), [&](std::int64_t n) {
      float* row = x.f32() + n * channels;
      table_.add(row, wte.f32() + ids.i32()[n] * channels,
                 wpe.f32() + (first_position + n % length) * channels, channels);
      if (!dropout.active()) return;
      PartMask mask(dropout);
      table_.drop(row, row, 0, channels, mask.rows(n, n + 1));
    });
  }

  bool do_reads_packed() const override { return products(WeightOrder::kOutIn).can_unpack(); }

  void do_embed_packed(View x, ConstView ids, ConstView positions, const PackedWeight& wte,
                       ConstView wpe) override {
    const std::int64_t channels = x.dim(1);
    const Products& head = products(WeightOrder::kOutIn);
    base::parallel_for(x.dim(0), [&](std::int64_t n) {
      float* row = x.f32() + n * channels;
      head.unpack_column(row, wte.forward, channels, wte.outputs, ids.i32()[n]);
      table_.accumulate(row, wpe.f32() + positions.i32()[n] * channels, channels);
    });
  }

  void do_embed_backward(View dwte, View dwpe, ConstView dx, ConstView ids, std::int64_t length,
                         const Dropout& dropout) override {
    // Each task owns some channels of every row and takes the rows in order.
    const std::int64_t channels = dx.dim(1);
    base::parallel_for(parts(channels, kStripe), [&](std::int64_t stripe) {
      const std::int64_t first = stripe * kStripe;
      const std::int64_t count = std::min(kStripe, channels - first);
      PartMask mask(dropout);
      float dropped[kStripe];
      for (std::int64_t n = 0; n < dx.dim(0); ++n) {
        const float* row = dx.f32() + n * channels + first;
        if (dropout.active()) {
          table_.drop(dropped, row, first, count, mask.rows(n, n + 1));
          row = dropped;
        }
        table_.accumulate(dwte.f32() + ids.i32()[n] * channels + first, row, count);
        table_.accumulate(dwpe.f32() + n % length * channels + first, row, count);
      }
    });
  }

  // ---- LayerNorm ------------------------------------------------------------------------------

  void do_add_layernorm_forward(View res_out, View normed, View mean, View rstd, ConstView res_in,
                                ConstView branch, ConstView gain, ConstView bias,
                                const Dropout& dropout) override {
    const LayerNormForward op{.res_out = res_out.f32(),
                              .normed = normed.data(),
                              .mean = mean.f32(),
                              .rstd = rstd.f32(),
                              .res_in = res_in.f32(),
                              .branch = branch.data(),
                              .gain = gain.f32(),
                              .bias = bias.f32(),
                              .channels = res_out.dim(1),
                              .epsilon = kLayerNormEpsilon,
                              .mask = {}};
    base::parallel_ranges(res_out.dim(0), [&](std::int64_t begin, std::int64_t end) {
      if (!dropout.active()) return typed_.layernorm_forward(op, begin, end);
      PartMask mask(dropout);
      LayerNormForward part = op;
      for (; begin < end; begin += kSumRows) {
        const std::int64_t stop = std::min(begin + kSumRows, end);
        part.mask = mask.rows(begin, stop);
        typed_.layernorm_forward(part, begin, stop);
      }
    });
  }

  void do_add_layernorm_backward(View dres, View dres_copy, View dgain, View dbias,
                                 ConstView dnormed, ConstView res, ConstView mean, ConstView rstd,
                                 ConstView gain, const Dropout& dropout) override {
    const std::int64_t channels = dres.dim(1);
    const LayerNormBackward op{.dres = dres.f32(),
                               .dres_copy = dres_copy.data(),
                               .dnormed = dnormed.data(),
                               .res = res.f32(),
                               .mean = mean.f32(),
                               .rstd = rstd.f32(),
                               .gain = gain.f32(),
                               .channels = channels,
                               .mask = {}};
    float* sums =
        sum_rows(dres.dim(0), 2 * channels, [&](std::int64_t begin, std::int64_t end, float* part) {
          PartMask mask(dropout);
          LayerNormBackward own = op;
          own.mask = mask.rows(begin, end);
          typed_.layernorm_backward(own, begin, end, part);
        });
    table_.accumulate(dgain.f32(), sums, channels);
    table_.accumulate(dbias.f32(), sums + channels, channels);
  }

  /// Sums `width` floats over rows: body(begin, end, part) fills the part of some rows, parts are
  /// added in their order. The result lies in scratch.
  template <class Body>
  float* sum_rows(std::int64_t rows, std::int64_t width, Body&& body) {
    const std::int64_t count = parts(rows, kSumRows);
    float* sums = scratch_.take_floats(static_cast<std::size_t>(count * width));
    base::parallel_for(count, [&](std::int64_t part) {
      const std::int64_t begin = part * kSumRows;
      body(begin, std::min(begin + kSumRows, rows), sums + part * width);
    });
    for (std::int64_t part = 1; part < count; ++part) {
      table_.accumulate(sums, sums + part * width, width);
    }
    return sums;
  }

  // ---- linear layers --------------------------------------------------------------------------

  void do_linear_forward(View out, View pre, ConstView inp, const PackedWeight& weight,
                         ConstView bias, Epilogue epilogue) override {
    products_->multiply({.c = out.data(),
                         .c_type = compute_type(),
                         .a = inp.data(),
                         .packed = weight.forward,
                         .bias = bias.f32(),
                         .after = epilogue == Epilogue::kGelu ? After::kGelu : After::kNone,
                         .pre = pre.data(),
                         .m = inp.dim(0),
                         .k = weight.inputs,
                         .n = weight.outputs});
  }

  void do_linear_backward(View dinp, View dweight, View dbias, ConstView dout, ConstView inp,
                          const PackedWeight& weight, Epilogue epilogue, ConstView pre,
                          Gradient gradient) override {
    const std::int64_t rows = dout.dim(0);
    products_->add_transposed({.c = dweight.f32(),
                               .add = gradient == Gradient::kAdd,
                               .column_sums = dbias.f32(),
                               .a = inp.data(),
                               .b = dout.data(),
                               .m = weight.inputs,
                               .k = rows,
                               .n = weight.outputs});
    const bool gelu = epilogue == Epilogue::kGelu;
    products_->multiply({.c = dinp.data(),
                         .c_type = compute_type(),
                         .a = dout.data(),
                         .packed = weight.backward,
                         .bias = nullptr,
                         .after = gelu ? After::kGeluGradient : After::kNone,
                         .pre = const_cast<void*>(pre.data()),  // only read
                         .m = rows,
                         .k = weight.outputs,
                         .n = weight.inputs});
  }

  void do_gelu_forward(View out, ConstView pre) override {
    base::parallel_for(parts(out.elements(), kElements), [&](std::int64_t part) {
      typed_.gelu_forward(out.data(), pre.data(), part * kElements,
                          std::min((part + 1) * kElements, out.elements()));
    });
  }

  // ---- attention ------------------------------------------------------------------------------

  void do_attention_forward(View out, View lse, ConstView qkv, const Dropout& dropout) override {
    attention_.forward(out, lse, qkv, dropout);
  }

  void do_attention_backward(View dqkv, ConstView dout, ConstView qkv, ConstView out, ConstView lse,
                             const Dropout& dropout) override {
    attention_.backward(dqkv, dout, qkv, out, lse, dropout);
  }

  void do_attention_cached(View out, ConstView qkv, std::span<const CacheRows> sequences) override {
    attention_.cached(out, qkv, sequences);
  }

  // ---- head and loss --------------------------------------------------------------------------

  /// c = a b.
  static void multiply(Products& products, void* c, DType c_type, const void* a,
                       const std::byte* packed, std::int64_t m, std::int64_t k, std::int64_t n) {
    products.multiply({.c = c,
                       .c_type = c_type,
                       .a = a,
                       .packed = packed,
                       .bias = nullptr,
                       .after = After::kNone,
                       .pre = nullptr,
                       .m = m,
                       .k = k,
                       .n = n});
  }

  struct HeadScratch {
    std::size_t logits_bytes = 0;  ///< 0: they lie where dlogits will
    std::size_t dlogits_bytes = 0;
  };
  HeadScratch head_scratch(std::int64_t rows, std::int64_t padded_vocab, bool training) const {
    const std::size_t logits = float_bytes(std::min(rows, kLogitsRows) * padded_vocab);
    if (!training) return {.logits_bytes = logits, .dlogits_bytes = 0};
    const std::int64_t elements = std::min(rows, kHeadRows) * padded_vocab;
    return {.logits_bytes = compute_type() == DType::kF32 ? 0 : logits,
            .dlogits_bytes = static_cast<std::size_t>(elements) * size_of(compute_type())};
  }

  double do_head_loss(View losses, View dx, View dwte, ConstView x, const PackedWeight& wte,
                      ConstView targets, std::int64_t vocab, float scale, Gradient gradient,
                      const LossOptions& options) override {
    const bool training = !dx.empty();
    const std::int64_t rows = x.dim(0);
    const HeadScratch scratch = head_scratch(rows, wte.outputs, training);
    auto* memory =
        static_cast<std::byte*>(scratch_.take(scratch.logits_bytes + scratch.dlogits_bytes));
    for (std::int64_t first = 0; first < rows; first += kHeadRows) {
      const std::int64_t count = std::min(kHeadRows, rows - first);
      for (std::int64_t row = 0; row < count; row += kLogitsRows) {
        const std::int64_t part = std::min(kLogitsRows, count - row);
        std::byte* dlogits = memory + scratch.logits_bytes +
                             static_cast<std::size_t>(row * wte.outputs) * size_of(compute_type());
        // f32 logits become their gradients in place; bf16 ones would spoil the losses.
        auto* logits = reinterpret_cast<float*>(scratch.logits_bytes == 0 ? dlogits : memory);
        multiply(products(wte.order), logits, DType::kF32, at(x, (first + row) * wte.inputs),
                 wte.forward, part, wte.inputs, wte.outputs);
        const SoftmaxLoss op{.logits = logits,
                             .dlogits = training ? dlogits : nullptr,
                             .losses = losses.f32() + first + row,
                             .targets = targets.i32() + first + row,
                             .vocab = vocab,
                             .stride = wte.outputs,
                             .scale = scale,
                             .label_smoothing = options.label_smoothing,
                             .z_loss = options.z_loss};
        base::parallel_for_dynamic(
            part, [&](std::int64_t n) { typed_.softmax_loss(op, n, n + 1); }, 4);
      }
      if (!training) continue;
      const std::byte* dlogits = memory + scratch.logits_bytes;
      multiply(*products_, at(dx, first * wte.inputs), compute_type(), dlogits, wte.backward, count,
               wte.outputs, wte.inputs);
      products_->add_transposed({.c = dwte.f32(),
                                 .add = first > 0 || gradient == Gradient::kAdd,
                                 .column_sums = nullptr,
                                 .a = dlogits,
                                 .b = at(x, first * wte.inputs),
                                 .m = wte.outputs,
                                 .k = count,
                                 .n = wte.inputs});
    }
    double sum = 0;
    for (std::int64_t n = 0; n < rows; ++n) sum += static_cast<double>(losses.f32()[n]);
    return sum;
  }

  void do_head_logits(View logits, ConstView x, const PackedWeight& wte,
                      std::int64_t vocab) override {
    const std::int64_t rows = x.dim(0);
    const std::int64_t chunk = std::min(rows, kLogitsRows);
    float* padded = scratch_.take_floats(static_cast<std::size_t>(chunk * wte.outputs));
    for (std::int64_t first = 0; first < rows; first += chunk) {
      const std::int64_t count = std::min(chunk, rows - first);
      multiply(products(wte.order), padded, DType::kF32, at(x, first * wte.inputs), wte.forward,
               count, wte.inputs, wte.outputs);
      base::parallel_for(count, [&](std::int64_t row) {
        std::memcpy(logits.f32() + (first + row) * vocab, padded + row * wte.outputs,
                    static_cast<std::size_t>(vocab) * sizeof(float));
      });
    }
  }

  // ---- optimizer ------------------------------------------------------------------------------

  double do_sum_of_squares(const float* values, std::int64_t count) const override {
    return table_.sum_of_squares(values, count);
  }

  void do_adamw_step(View parameter, ConstView gradient, View m, View v, const AdamW& hyper,
                     const PackedWeight* copies, const Average& average) override {
    // The corrections in double: 1 - beta^step loses digits while beta^step is near 1.
    const auto step = static_cast<double>(hyper.step);
    const double correction1 = 1.0 - std::pow(static_cast<double>(hyper.beta1), step);
    const double correction2 = 1.0 - std::pow(static_cast<double>(hyper.beta2), step);
    const auto rate = static_cast<double>(hyper.learning_rate);
    const AdamWStep op{
        .parameter = parameter.f32(),
        .m = m.f32(),
        .v = v.f32(),
        .gradient = gradient.f32(),
        .gradient_scale = hyper.gradient_scale,
        .beta1 = hyper.beta1,
        .beta2 = hyper.beta2,
        .keep = static_cast<float>(1.0 - rate * static_cast<double>(hyper.weight_decay)),
        .step_size = static_cast<float>(rate / correction1),
        .inverse_root_bias2 = static_cast<float>(1.0 / std::sqrt(correction2)),
        .epsilon = hyper.epsilon,
        .average = average.values.empty() ? nullptr : average.values.f32(),
        .average_rate = static_cast<float>(1.0 - average.decay)};
    const std::int64_t stripe = copies == nullptr ? 0 : products_->stripe_rows();
    if (stripe > 0) return adamw_by_stripes(op, *copies, parameter, stripe);
    const std::int64_t count = parameter.elements();
    base::parallel_for(parts(count, kElements), [&](std::int64_t part) {
      table_.adamw(op, part * kElements, std::min((part + 1) * kElements, count));
    });
    if (copies != nullptr) do_pack_weight(*copies, parameter);
  }

  /// Some rows at a time, packed while they are still in cache: one pass over memory.
  void adamw_by_stripes(const AdamWStep& op, const PackedWeight& copies, ConstView parameter,
                        std::int64_t stripe) {
    const std::int64_t rows = parameter.dim(0);
    const std::int64_t columns = parameter.dim(1);
    const bool out_in = copies.order == WeightOrder::kOutIn;
    base::parallel_for(parts(rows, stripe), [&](std::int64_t part) {
      const std::int64_t begin = part * stripe;
      const std::int64_t end = std::min(begin + stripe, rows);
      table_.adamw(op, begin * columns, end * columns);
      products_->pack_stripe(copies.forward, parameter.f32(), copies.inputs, copies.outputs, out_in,
                             begin, end);
      if (copies.backward == nullptr) return;
      products_->pack_stripe(copies.backward, parameter.f32(), copies.outputs, copies.inputs,
                             !out_in, begin, end);
    });
  }

  void do_muon_step(View parameter, ConstView gradient, View m, const Muon& hyper,
                    const PackedWeight* copies, const Average& average) override {
    muon_->run(parameter, gradient, m, hyper, average);
    if (copies != nullptr) do_pack_weight(*copies, parameter);
  }

  std::size_t do_muon_workspace_bytes(std::int64_t rows, std::int64_t columns,
                                      std::int64_t parts) const override {
    return muon_->scratch_bytes(rows, columns, parts);
  }

  const KernelTable& table_;
  const TypedKernels& typed_;
  std::unique_ptr<Products> products_;
  std::unique_ptr<Products> head_products_;  // null: products_ serve the head too
  Scratch scratch_;
  Attention attention_;
  std::optional<MuonStep> muon_;  // where weights are no integers
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(DType compute_type, const CpuChoice* choice) {
  const cpu::Choice chosen = choice == nullptr ? cpu::choices(compute_type).front()
                                               : cpu::to_choice(compute_type, *choice);
  return std::make_unique<cpu::CpuBackend>(compute_type, chosen);
}

std::unique_ptr<Backend> make_cpu_backend(WeightFormat format, const CpuChoice* choice) {
  if (is_integer(format) || choice == nullptr) {
    return std::make_unique<cpu::CpuBackend>(format, cpu::chosen_isa());
  }
  const DType type = format == WeightFormat::kF32 ? DType::kF32 : DType::kBf16;
  return std::make_unique<cpu::CpuBackend>(format, cpu::to_choice(type, *choice).isa);
}

}  // namespace kernels
