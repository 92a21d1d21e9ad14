#pragma once
/// The reference backend's class, for the two files that hold it: reference.cpp, where every
/// formula stands, and reference_quantized.cpp, which puts numbers that were rounded to integers
/// into them.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"

namespace kernels {

using base::Bf16;

/// The backend in compute type A (float or Bf16).
template <class A>
class Reference : public Backend {
 public:
  Reference(DType compute_type, WeightFormat format) : Backend(compute_type, format) {}
  std::string_view name() const override { return "reference"; }
  std::string description() const override {
    return "reference, " + std::string(base::name_of(compute_type())) + " stored, f64 computed";
  }

 protected:
  static const A* in(const ConstView& view) { return static_cast<const A*>(view.data()); }
  static A* out_of(const View& view) { return static_cast<A*>(view.data()); }
  static const A* in(const std::byte* memory) { return reinterpret_cast<const A*>(memory); }

  /// `count` zeroed doubles, memory that is kept between calls.
  static double* zeroed(std::vector<double>& memory, std::int64_t count) {
    memory.assign(static_cast<std::size_t>(count), 0.0);
    return memory.data();
  }

  std::size_t do_workspace_bytes(std::int64_t rows, std::int64_t context, std::int64_t channels,
                                 std::int64_t heads, std::int64_t padded_vocab,
                                 bool training) const override;
  PackedBytes do_packed_bytes(std::int64_t inputs, std::int64_t outputs, WeightOrder order,
                              bool with_backward) const override;
  void do_pack_weight(const PackedWeight& weight, ConstView parameter) override;
  void do_embed_forward(View x, ConstView ids, ConstView wte, ConstView wpe, std::int64_t length,
                        std::int64_t first_position, const Dropout& dropout) override;
  bool do_reads_packed() const override { return true; }
  void do_embed_packed(View x, ConstView ids, ConstView positions, const PackedWeight& wte,
                       ConstView wpe) override;
  void do_embed_backward(View dwte, View dwpe, ConstView dx, ConstView ids, std::int64_t length,
                         const Dropout& dropout) override;
  void do_add_layernorm_forward(View res_out, View normed, View mean, View rstd, ConstView res_in,
                                ConstView branch, ConstView gain, ConstView bias,
                                const Dropout& dropout) override;
  void do_add_layernorm_backward(View dres, View dres_copy, View dgain, View dbias,
                                 ConstView dnormed, ConstView res, ConstView mean, ConstView rstd,
                                 ConstView gain, const Dropout& dropout) override;
  void do_linear_forward(View out, View pre, ConstView inp, const PackedWeight& weight,
                         ConstView bias, Epilogue epilogue) override;
  void do_linear_backward(View dinp, View dweight, View dbias, ConstView dout, ConstView inp,
                          const PackedWeight& weight, Epilogue epilogue, ConstView pre,
                          Gradient gradient) override;
  void do_gelu_forward(View out, ConstView pre) override;
  void do_attention_forward(View out, View lse, ConstView qkv, const Dropout& dropout) override;
  void do_attention_backward(View dqkv, ConstView dout, ConstView qkv, ConstView out, ConstView lse,
                             const Dropout& dropout) override;
  void do_attention_cached(View out, ConstView qkv, std::span<const CacheRows> sequences) override;
  double do_head_loss(View losses, View dx, View dwte, ConstView x, const PackedWeight& wte,
                      ConstView targets, std::int64_t vocab, float scale, Gradient gradient,
                      const LossOptions& options) override;
  void do_head_logits(View logits, ConstView x, const PackedWeight& wte,
                      std::int64_t vocab) override;
  void do_adamw_step(View parameter, ConstView gradient, View m, View v, const AdamW& hyper,
                     const PackedWeight* copies, const Average& average) override;
  void do_muon_step(View parameter, ConstView gradient, View m, const Muon& hyper,
                    const PackedWeight* copies, const Average& average) override;
  std::size_t do_muon_workspace_bytes(std::int64_t rows, std::int64_t columns,
                                      std::int64_t parts) const override;
  /// What an optimizer renews beside its parameter.
  void renew(View parameter, const PackedWeight* copies, const Average& average);

  std::vector<double> scores_;  // one row of attention, or of sums over outputs
  std::vector<double> sums_;    // gradients while they are summed
};

}  // namespace kernels
