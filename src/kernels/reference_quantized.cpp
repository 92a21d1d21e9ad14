// The reference for weights of 8 and 4 bits: both operands of a product are rounded as the door
// says, and the f32 reference takes it from there.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/quantized.h"
#include "kernels/reference.h"
#include "kernels/reference_class.h"

namespace kernels {
namespace {

/// A product's operands after rounding, as f32.
struct Operands {
  View inp;             // (N, K)
  PackedWeight weight;  // f32, as the f32 reference packs it
};

class QuantizedReference final : public Reference<Bf16> {
 public:
  explicit QuantizedReference(WeightFormat format)
      : Reference<Bf16>(DType::kBf16, format), exact_(make_reference_backend(DType::kF32)) {}
  std::string description() const override {
    return "reference, bf16 stored, " + std::string(name_of(weight_format())) +
           " weights, f64 computed";
  }

 private:
  QuantizedLayout layout(const PackedWeight& weight) const {
    return quantized_layout(weight_format(), weight.inputs, weight.outputs, weight.order);
  }

  PackedBytes do_packed_bytes(std::int64_t inputs, std::int64_t outputs, WeightOrder order,
                              bool /*with_backward*/) const override {
    return {quantized_layout(weight_format(), inputs, outputs, order).bytes, 0};
  }

  void do_pack_weight(const PackedWeight& weight, ConstView parameter) override {
    quantize_weight(weight.forward, layout(weight), parameter.f32(), weight.order);
  }

  void do_embed_packed(View x, ConstView ids, ConstView positions, const PackedWeight& wte,
                       ConstView wpe) override {
    const std::int64_t channels = x.dim(1);
    for (std::int64_t n = 0; n < x.dim(0); ++n) {
      float* row = x.f32() + n * channels;
      const float* position = wpe.f32() + positions.i32()[n] * channels;
      dequantize_output(row, wte.forward, layout(wte), ids.i32()[n]);
      for (std::int64_t c = 0; c < channels; ++c) row[c] += position[c];
    }
  }

  /// One row of inputs, rounded to multiples of its scale.
  static void round_row(float* out, const Bf16* inp, std::int64_t count) {
    float largest = 0;
    bool finite = true;
    for (std::int64_t k = 0; k < count; ++k) {
      const float value = base::to_f32(inp[k]);
      finite = finite && std::isfinite(value);
      largest = std::max(largest, std::abs(value));
    }
    const float inverse = largest < kSmallestInput ? 0.0F : 127.0F / largest;
    const float scale = largest < kSmallestInput ? 0.0F : largest / 127.0F;
    for (std::int64_t k = 0; k < count; ++k) {
      out[k] = finite ? scale * std::nearbyint(base::to_f32(inp[k]) * inverse)
                      : std::numeric_limits<float>::quiet_NaN();
    }
  }

  Operands round(ConstView inp, const PackedWeight& weight) {
    const std::int64_t rows = inp.dim(0);
    const std::int64_t inputs = weight.inputs;
    inp_.resize(static_cast<std::size_t>(rows * inputs));
    for (std::int64_t n = 0; n < rows; ++n) {
      round_row(inp_.data() + n * inputs, inp.bf16() + n * inputs, inputs);
    }
    weight_.resize(static_cast<std::size_t>(inputs * weight.outputs));
    std::vector<float> output(static_cast<std::size_t>(inputs));
    for (std::int64_t m = 0; m < weight.outputs; ++m) {
      dequantize_output(output.data(), weight.forward, layout(weight), m);
      const bool in_out = weight.order == WeightOrder::kInOut;
      const std::int64_t step = in_out ? weight.outputs : 1;
      float* to = weight_.data() + (in_out ? m : m * inputs);
      for (std::int64_t k = 0; k < inputs; ++k) to[k * step] = output[static_cast<std::size_t>(k)];
    }
    PackedWeight exact = weight;
    exact.forward = reinterpret_cast<std::byte*>(weight_.data());
    return {View(inp_.data(), DType::kF32, {rows, inputs}), exact};
  }

  void do_linear_forward(View out, View pre, ConstView inp, const PackedWeight& weight,
                         ConstView bias, Epilogue epilogue) override {
    const Operands operands = round(inp, weight);
    out_.resize(static_cast<std::size_t>(out.elements()));
    pre_.resize(static_cast<std::size_t>(pre.elements()));
    const View exact_out(out_.data(), DType::kF32, out.shape());
    const View exact_pre(pre_.data(), DType::kF32, pre.shape());
    exact_->linear_forward(exact_out, pre.empty() ? View() : exact_pre, operands.inp,
                           operands.weight, bias, epilogue);
    exact_->convert(out, exact_out);
    if (!pre.empty()) exact_->convert(pre, exact_pre);
  }

  double do_head_loss(View losses, View /*dx*/, View /*dwte*/, ConstView x, const PackedWeight& wte,
                      ConstView targets, std::int64_t vocab, float /*scale*/, Gradient /*gradient*/,
                      const LossOptions& /*options*/) override {
    const Operands operands = round(x, wte);
    return exact_->head_loss_forward(losses, operands.inp, operands.weight, targets, vocab);
  }

  void do_head_logits(View logits, ConstView x, const PackedWeight& wte,
                      std::int64_t vocab) override {
    const Operands operands = round(x, wte);
    exact_->head_logits(logits, operands.inp, operands.weight, vocab);
  }

  std::unique_ptr<Backend> exact_;
  std::vector<float> inp_;
  std::vector<float> weight_;
  std::vector<float> out_;
  std::vector<float> pre_;
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend(WeightFormat format) {
  if (!is_integer(format)) {
    return make_reference_backend(format == WeightFormat::kF32 ? DType::kF32 : DType::kBf16);
  }
  return std::make_unique<QuantizedReference>(format);
}

}  // namespace kernels
