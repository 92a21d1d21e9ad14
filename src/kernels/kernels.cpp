// The door's public operations: every shape and element type is checked here, once for all
// backends; then the private virtual computes.

#include "kernels/kernels.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/check.h"
#include "kernels/cpu/backend.h"
#include "kernels/cuda/backend.h"
#include "kernels/profile.h"
#include "kernels/quantized.h"
#include "kernels/reference.h"

namespace kernels {
namespace {

using base::fail;

Shape parameter_shape(const PackedWeight& weight) {
  return weight.order == WeightOrder::kInOut ? Shape{weight.inputs, weight.outputs}
                                             : Shape{weight.outputs, weight.inputs};
}

}  // namespace

// ---- memory -----------------------------------------------------------------------------------

std::size_t Backend::workspace_bytes(std::int64_t rows, std::int64_t context, std::int64_t channels,
                                     std::int64_t heads, std::int64_t padded_vocab,
                                     bool training) const {
  return do_workspace_bytes(rows, context, channels, heads, padded_vocab, training);
}

// ---- weights ----------------------------------------------------------------------------------

namespace {

/// Sums over more inputs could leave 32 bits.
void check_inputs(std::string_view operation, WeightFormat format, std::int64_t inputs) {
  if (!is_integer(format) || inputs <= kMaxInputs) return;
  fail("{}: expected at most {} inputs for {} weights, got {}", operation, kMaxInputs,
       name_of(format), inputs);
}

/// NaN and infinity have no place between a smallest and a largest integer.
void check_finite(const ConstView& parameter, WeightFormat format) {
  const float* values = parameter.f32();
  const std::int64_t count = parameter.elements();
  std::atomic<std::int64_t> first = count;  // the lowest index found so far
  base::parallel_ranges(count, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (std::isfinite(values[i])) continue;
      std::int64_t lowest = first;
      while (i < lowest && !first.compare_exchange_weak(lowest, i)) continue;
      return;
    }
  });
  if (first == count) return;
  const std::int64_t columns = parameter.dim(1);
  fail("pack_weight: parameter[{}][{}]: expected finite values for {} weights, got {}",
       first / columns, first % columns, name_of(format), values[first]);
}

}  // namespace

PackedBytes Backend::packed_bytes(std::int64_t inputs, std::int64_t outputs, WeightOrder order,
                                  bool with_backward) const {
  if (inputs < 1 || outputs < 1) {
    fail("packed_bytes: expected positive sizes, got {} inputs and {} outputs", inputs, outputs);
  }
  check_inputs("packed_bytes", weight_format_, inputs);
  PackedBytes bytes = do_packed_bytes(inputs, outputs, order, with_backward);
  if (!with_backward) bytes.backward = 0;
  return bytes;
}

void Backend::pack_weight(const PackedWeight& weight, ConstView parameter) {
  const Check check("pack_weight");
  check.weight("weight", weight, weight.order);
  check.tensor("parameter", parameter, DType::kF32, parameter_shape(weight));
  if (is_integer(weight_format_)) {
    check_inputs("pack_weight", weight_format_, weight.inputs);
    check_finite(parameter, weight_format_);
  }
  const Timed timed(
      *this, "pack_weight",
      {.bytes = bytes_of({parameter}) + Timed::copies_bytes(*this, weight, /*both=*/true)},
      &weight);
  do_pack_weight(weight, parameter);
}

// ---- embedding --------------------------------------------------------------------------------

void Backend::embed_packed(View x, ConstView ids, ConstView positions, const PackedWeight& wte,
                           ConstView wpe) {
  const Check check("embed_packed");
  check.weight("wte", wte, WeightOrder::kOutIn);
  check.rank("x", x, 2);
  const std::int64_t rows = x.dim(0);
  check.rank("wpe", wpe, 2);
  check.tensor("x", x, DType::kF32, {rows, wte.inputs});
  check.tensor("ids", ids, DType::kI32, {rows});
  check.tensor("positions", positions, DType::kI32, {rows});
  check.tensor("wpe", wpe, DType::kF32, {wpe.dim(0), wte.inputs});
  check.ids("ids", ids, 0, wte.outputs - 1);
  check.ids("positions", positions, 0, wpe.dim(0) - 1);
  if (!do_reads_packed()) {
    fail(
        "embed_packed: this backend cannot read its packed weights back; make one with "
        "make_inference_backend(), or use embed_forward()");
  }
  const Timed timed(*this, "embed_packed", {.bytes = bytes_of({x, x, x})});
  do_embed_packed(x, ids, positions, wte, wpe);
}

void Backend::embed_forward(View x, ConstView ids, ConstView wte, ConstView wpe,
                            std::int64_t length, std::int64_t first_position,
                            const Dropout& dropout) {
  const Check check("embed_forward");
  check.dropout(dropout);
  check.rank("x", x, 2);
  const std::int64_t rows = x.dim(0);
  const std::int64_t channels = x.dim(1);
  check.rank("wte", wte, 2);
  check.rank("wpe", wpe, 2);
  check.tensor("x", x, DType::kF32, {rows, channels});
  check.tensor("ids", ids, DType::kI32, {rows});
  check.tensor("wte", wte, DType::kF32, {wte.dim(0), channels});
  check.tensor("wpe", wpe, DType::kF32, {wpe.dim(0), channels});
  check.range("length", length, 1, std::min(rows, wpe.dim(0)));
  check.range("first_position", first_position, 0, wpe.dim(0) - length);
  if (rows % length != 0) {
    fail("embed_forward: x: expected a multiple of {} rows, got {}", length, rows);
  }
  check.ids("ids", ids, 0, wte.dim(0) - 1);
  // The rows of both tables, and x.
  const Timed timed(*this, "embed_forward", {.bytes = bytes_of({x, x, x})});
  do_embed_forward(x, ids, wte, wpe, length, first_position, dropout);
}

void Backend::embed_backward(View dwte, View dwpe, ConstView dx, ConstView ids, std::int64_t length,
                             const Dropout& dropout) {
  const Check check("embed_backward");
  check.dropout(dropout);
  check.rank("dx", dx, 2);
  const std::int64_t rows = dx.dim(0);
  const std::int64_t channels = dx.dim(1);
  check.tensor("dx", dx, DType::kF32, {rows, channels});
  check.tensor("ids", ids, DType::kI32, {rows});
  check.range("length", length, 1, rows);
  if (!dwpe.empty()) {
    check.rank("dwpe", dwpe, 2);
    check.tensor("dwpe", dwpe, DType::kF32, {dwpe.dim(0), channels});
    check.range("length", length, 1, dwpe.dim(0));
  }
  if (rows % length != 0) {
    fail("embed_backward: dx: expected a multiple of {} rows, got {}", length, rows);
  }
  if (!dwte.empty()) {
    check.rank("dwte", dwte, 2);
    check.tensor("dwte", dwte, DType::kF32, {dwte.dim(0), channels});
    check.ids("ids", ids, 0, dwte.dim(0) - 1);
  }
  const Timed timed(*this, "embed_backward", {.bytes = 5 * bytes_of({dx})});
  do_embed_backward(dwte, dwpe, dx, ids, length, dropout);
}

// ---- LayerNorm with the residual --------------------------------------------------------------

void Backend::add_layernorm_forward(View res_out, View normed, View mean, View rstd,
                                    ConstView res_in, ConstView branch, ConstView gain,
                                    ConstView bias, const Dropout& dropout) {
  const Check check("add_layernorm_forward");
  check.dropout(dropout);
  check.rank("res_out", res_out, 2);
  const std::int64_t rows = res_out.dim(0);
  const std::int64_t channels = res_out.dim(1);
  check.tensor("res_out", res_out, DType::kF32, {rows, channels});
  check.tensor("normed", normed, compute_type_, {rows, channels});
  check.tensor("mean", mean, DType::kF32, {rows});
  check.tensor("rstd", rstd, DType::kF32, {rows});
  check.tensor("res_in", res_in, DType::kF32, {rows, channels});
  check.tensor("gain", gain, DType::kF32, {channels});
  check.tensor("bias", bias, DType::kF32, {channels});
  if (!branch.empty()) {
    check.tensor("branch", branch, compute_type_, {rows, channels});
  } else if (res_out.data() != res_in.data()) {
    fail("add_layernorm_forward: res_out: expected the memory of res_in, since there is no branch");
  }
  const Timed timed(*this, "add_layernorm_forward",
                    {.bytes = bytes_of({res_out, normed, res_in, branch})});
  do_add_layernorm_forward(res_out, normed, mean, rstd, res_in, branch, gain, bias, dropout);
}

void Backend::add_layernorm_backward(View dres, View dres_copy, View dgain, View dbias,
                                     ConstView dnormed, ConstView res, ConstView mean,
                                     ConstView rstd, ConstView gain, const Dropout& dropout) {
  const Check check("add_layernorm_backward");
  check.dropout(dropout);
  check.rank("dres", dres, 2);
  const std::int64_t rows = dres.dim(0);
  const std::int64_t channels = dres.dim(1);
  check.tensor("dres", dres, DType::kF32, {rows, channels});
  if (!dres_copy.empty()) {
    check.tensor("dres_copy", dres_copy, compute_type_, {rows, channels});
  } else if (dropout.active()) {
    check.present("dres_copy", dres_copy);
  }
  if (!dgain.empty()) check.tensor("dgain", dgain, DType::kF32, {channels});
  if (!dbias.empty()) check.tensor("dbias", dbias, DType::kF32, {channels});
  check.tensor("dnormed", dnormed, compute_type_, {rows, channels});
  check.tensor("res", res, DType::kF32, {rows, channels});
  check.tensor("mean", mean, DType::kF32, {rows});
  check.tensor("rstd", rstd, DType::kF32, {rows});
  check.tensor("gain", gain, DType::kF32, {channels});
  const Timed timed(*this, "add_layernorm_backward",
                    {.bytes = bytes_of({dres, dres, dres_copy, dnormed, res})});
  do_add_layernorm_backward(dres, dres_copy, dgain, dbias, dnormed, res, mean, rstd, gain, dropout);
}

// ---- linear layers ----------------------------------------------------------------------------

void Backend::linear_forward(View out, View pre, ConstView inp, const PackedWeight& weight,
                             ConstView bias, Epilogue epilogue) {
  const Check check("linear_forward");
  check.weight("weight", weight, WeightOrder::kInOut);
  check.rank("inp", inp, 2);
  const std::int64_t rows = inp.dim(0);
  check.tensor("inp", inp, compute_type_, {rows, weight.inputs});
  check.tensor("out", out, compute_type_, {rows, weight.outputs});
  check.tensor("bias", bias, DType::kF32, {weight.outputs});
  if (!pre.empty()) {
    if (epilogue != Epilogue::kGelu) {
      fail("linear_forward: pre: expected none without GELU, got shape {}",
           base::to_string(pre.shape()));
    }
    check.tensor("pre", pre, compute_type_, {rows, weight.outputs});
  }
  const Timed timed(
      *this, "linear_forward",
      {.flops = product_flops(rows, weight.inputs, weight.outputs),
       .bytes = bytes_of({out, pre, inp}) + Timed::copies_bytes(*this, weight, /*both=*/false)},
      &weight);
  do_linear_forward(out, pre, inp, weight, bias, epilogue);
}

void Backend::linear_backward(View dinp, View dweight, View dbias, ConstView dout, ConstView inp,
                              const PackedWeight& weight, Epilogue epilogue, ConstView pre,
                              Gradient gradient) {
  const Check check("linear_backward");
  check_trains("linear_backward", weight_format_);
  check.weight("weight", weight, WeightOrder::kInOut);
  check.rank("dout", dout, 2);
  const std::int64_t rows = dout.dim(0);
  check.tensor("dout", dout, compute_type_, {rows, weight.outputs});
  check.tensor("inp", inp, compute_type_, {rows, weight.inputs});
  if (!dinp.empty()) {
    check.backward_copy("weight", *this, weight);
    check.tensor("dinp", dinp, compute_type_, {rows, weight.inputs});
  }
  if (!dweight.empty()) {
    check.tensor("dweight", dweight, DType::kF32, {weight.inputs, weight.outputs});
  }
  if (!dbias.empty()) check.tensor("dbias", dbias, DType::kF32, {weight.outputs});
  if (epilogue == Epilogue::kGelu) {
    check.tensor("pre", pre, compute_type_, {rows, weight.inputs});
  } else if (!pre.empty()) {
    fail("linear_backward: pre: expected none without GELU, got shape {}",
         base::to_string(pre.shape()));
  }
  const double products = (dinp.empty() ? 0 : 1) + (dweight.empty() ? 0 : 1);
  const Timed timed(
      *this, "linear_backward",
      {.flops = products * product_flops(rows, weight.inputs, weight.outputs),
       .bytes = bytes_of({dinp, dweight, read_first(dweight, gradient), dout, inp, pre}) +
                Timed::copies_bytes(*this, weight, /*both=*/false)},
      &weight);
  do_linear_backward(dinp, dweight, dbias, dout, inp, weight, epilogue, pre, gradient);
}

void Backend::low_rank_backward(View da, View db, ConstView dout, ConstView inp, ConstView a,
                                ConstView b, float scale) {
  const Check check("low_rank_backward");
  check_trains("low_rank_backward", weight_format_);
  check.rank("dout", dout, 2);
  check.rank("inp", inp, 2);
  check.rank("a", a, 2);
  const std::int64_t rows = dout.dim(0), outputs = dout.dim(1), inputs = inp.dim(1);
  const std::int64_t rank = a.dim(1);
  check.tensor("dout", dout, compute_type_, {rows, outputs});
  check.tensor("inp", inp, compute_type_, {rows, inputs});
  check.tensor("a", a, DType::kF32, {inputs, rank});
  check.tensor("b", b, DType::kF32, {rank, outputs});
  if (!da.empty()) check.tensor("da", da, DType::kF32, {inputs, rank});
  if (!db.empty()) check.tensor("db", db, DType::kF32, {rank, outputs});
  const double each = product_flops(rows, inputs, rank) + product_flops(rows, outputs, rank);
  const double products = (da.empty() ? 0 : 1) + (db.empty() ? 0 : 1);
  const Timed timed(*this, "low_rank_backward",
                    {.flops = products * each,
                     .bytes = products * bytes_of({dout, inp}) + 2 * bytes_of({da, db})});
  do_low_rank_backward(da, db, dout, inp, a, b, scale);
}

std::size_t Backend::low_rank_workspace_bytes(std::int64_t rows, std::int64_t inputs,
                                              std::int64_t outputs, std::int64_t rank) const {
  return do_low_rank_workspace_bytes(rows, inputs, outputs, rank);
}

void Backend::gelu_forward(View out, ConstView pre) {
  const Check check("gelu_forward");
  check.tensor("out", out, compute_type_, out.shape());
  check.tensor("pre", pre, compute_type_, out.shape());
  const Timed timed(*this, "gelu_forward", {.bytes = bytes_of({out, pre})});
  do_gelu_forward(out, pre);
}

// ---- attention --------------------------------------------------------------------------------

void Backend::attention_forward(View out, View lse, ConstView qkv, const Dropout& dropout) {
  const Check check("attention_forward");
  check.dropout(dropout);
  const auto [rows, channels] = check.heads(lse, qkv);
  check.tensor("lse", lse, DType::kF32, lse.shape());
  check.tensor("qkv", qkv, compute_type_, {rows, 3 * channels});
  check.tensor("out", out, compute_type_, {rows, channels});
  // Two products over half of (T, T): the other half lies in the future.
  const Timed timed(
      *this, "attention_forward",
      {.flops = product_flops(rows, lse.dim(2), channels), .bytes = bytes_of({out, lse, qkv})});
  do_attention_forward(out, lse, qkv, dropout);
}

void Backend::attention_backward(View dqkv, ConstView dout, ConstView qkv, ConstView out,
                                 ConstView lse, const Dropout& dropout) {
  const Check check("attention_backward");
  check.dropout(dropout);
  const auto [rows, channels] = check.heads(lse, qkv);
  check.tensor("lse", lse, DType::kF32, lse.shape());
  check.tensor("qkv", qkv, compute_type_, {rows, 3 * channels});
  check.tensor("dqkv", dqkv, compute_type_, {rows, 3 * channels});
  check.tensor("dout", dout, compute_type_, {rows, channels});
  check.tensor("out", out, compute_type_, {rows, channels});
  // Four products over half of (T, T); computing the scores again is not counted.
  const Timed timed(*this, "attention_backward",
                    {.flops = 2 * product_flops(rows, lse.dim(2), channels),
                     .bytes = bytes_of({dqkv, dout, qkv, out, lse})});
  do_attention_backward(dqkv, dout, qkv, out, lse, dropout);
}

void Backend::attention_cached(View out, ConstView qkv, std::span<const CacheRows> sequences) {
  const Check check("attention_cached");
  if (sequences.empty()) fail("attention_cached: sequences: expected at least one, got none");
  check.rank("keys", sequences.front().keys, 3);
  const std::int64_t heads = sequences.front().keys.dim(0);
  const std::int64_t head_size = sequences.front().keys.dim(2);
  std::int64_t rows = 0;
  std::int64_t keys = 0;   // of all sequences
  std::int64_t pairs = 0;  // of a row and a key that it sees, about
  for (const CacheRows& sequence : sequences) {
    check.rank("keys", sequence.keys, 3);
    const std::int64_t positions = sequence.keys.dim(1);
    const Shape shape{heads, positions, head_size};
    check.tensor("keys", sequence.keys, compute_type_, shape);
    check.tensor("values", sequence.values, compute_type_, shape);
    check.range("rows", sequence.rows, 1, positions);
    check.range("position", sequence.position, 0, positions - sequence.rows);
    rows += sequence.rows;
    keys += sequence.position + sequence.rows;
    pairs += sequence.rows * (sequence.position + (sequence.rows + 1) / 2);
  }
  check.tensor("out", out, compute_type_, {rows, heads * head_size});
  check.tensor("qkv", qkv, compute_type_, {rows, 3 * heads * head_size});
  const Timed timed(
      *this, "attention_cached",
      {.flops = 2 * product_flops(pairs, 1, heads * head_size),
       .bytes = bytes_of({out, qkv}) + 2 * static_cast<double>(keys * heads * head_size) *
                                           static_cast<double>(size_of(compute_type_))});
  do_attention_cached(out, qkv, sequences);
}

// ---- optimizer --------------------------------------------------------------------------------

namespace {

/// The checks of what an optimizer renews beside a parameter.
void check_renewed(const Check& check, std::string_view operation, const Backend& backend,
                   const View& parameter, const PackedWeight* copies, const Average& average) {
  if (copies != nullptr) {
    check_trains(operation, backend.weight_format());
    check.weight("copies", *copies, copies->order);
    check.tensor("parameter", parameter, DType::kF32, parameter_shape(*copies));
  }
  if (average.values.empty()) return;
  check.tensor("average", average.values, DType::kF32, parameter.shape());
  if (!(average.decay >= 0 && average.decay < 1)) {
    fail("{}: average: expected a decay of at least 0 and below 1, got {}", operation,
         average.decay);
  }
}

/// Bytes of what an optimizer renews beside a parameter.
double renewed_bytes(const Backend& backend, const PackedWeight* copies, const Average& average) {
  return 2 * bytes_of({average.values}) +
         (copies == nullptr ? 0 : Timed::copies_bytes(backend, *copies, /*both=*/true));
}

}  // namespace

void Backend::adamw_step(View parameter, ConstView gradient, View m, View v, const AdamW& hyper,
                         const PackedWeight* copies, const Average& average) {
  const Check check("adamw_step");
  const Shape shape = parameter.shape();
  check.tensor("parameter", parameter, DType::kF32, shape);
  check.tensor("gradient", gradient, DType::kF32, shape);
  check.tensor("m", m, DType::kF32, shape);
  check.tensor("v", v, DType::kF32, shape);
  if (hyper.step < 1) fail("adamw_step: step: expected 1 or more, got {}", hyper.step);
  check_renewed(check, "adamw_step", *this, parameter, copies, average);
  // Parameter and moments are read and written, the gradient is read.
  const Timed timed(*this, copies == nullptr ? "adamw_step" : "adamw_step and packing",
                    {.bytes = 7 * bytes_of({parameter}) + renewed_bytes(*this, copies, average)});
  do_adamw_step(parameter, gradient, m, v, hyper, copies, average);
}

void Backend::muon_step(View parameter, ConstView gradient, View m, const Muon& hyper,
                        const PackedWeight* copies, const Average& average) {
  const Check check("muon_step");
  check_trains("muon_step", weight_format_);
  check.rank("parameter", parameter, 2);
  const Shape shape = parameter.shape();
  check.tensor("parameter", parameter, DType::kF32, shape);
  check.tensor("gradient", gradient, DType::kF32, shape);
  check.tensor("m", m, DType::kF32, shape);
  if (hyper.parts < 1 || shape[1] % hyper.parts != 0) {
    fail("muon_step: parts: expected a divisor of the {} columns, got {}", shape[1], hyper.parts);
  }
  check_renewed(check, "muon_step", *this, parameter, copies, average);
  const std::int64_t columns = shape[1] / hyper.parts;
  const std::int64_t small = std::min(shape[0], columns);
  const std::int64_t large = std::max(shape[0], columns);
  const double iteration =
      2 * product_flops(small, small, large) +  // S, and its polynomial times X
      product_flops(small, small, small);       // S S
  const Timed timed(*this, "muon_step",
                    {.flops = kMuonIterations * static_cast<double>(hyper.parts) * iteration,
                     .bytes = 5 * bytes_of({parameter}) + renewed_bytes(*this, copies, average)},
                    copies);
  do_muon_step(parameter, gradient, m, hyper, copies, average);
}

std::size_t Backend::muon_workspace_bytes(std::int64_t rows, std::int64_t columns,
                                          std::int64_t parts) const {
  check_trains("muon_workspace_bytes", weight_format_);
  return do_muon_workspace_bytes(rows, columns, parts);
}

// ---- backends ---------------------------------------------------------------------------------

std::string cuda_trouble(int index) { return find_cuda_trouble(index); }

std::unique_ptr<Backend> make_backend(Device device, DType compute_type, const CpuChoice* choice,
                                      int index, bool tf32) {
  if (compute_type != DType::kF32 && compute_type != DType::kBf16) {
    fail("make_backend: expected compute type f32 or bf16, got {}", base::name_of(compute_type));
  }
  if (device == Device::kReference) return make_reference_backend(compute_type);
  if (device == Device::kCpu) return make_cpu_backend(compute_type, choice);
  return make_cuda_backend(index, compute_type, tf32);
}

std::unique_ptr<Backend> make_inference_backend(Device device, WeightFormat format,
                                                const CpuChoice* choice, int index, bool tf32) {
  if (device == Device::kReference) return make_reference_backend(format);
  if (device == Device::kCpu) return make_cpu_backend(format, choice);
  if (format != WeightFormat::kF32 && format != WeightFormat::kBf16) {
    fail(
        "--device cuda has weights in bf16 and fp32 only, not in {}; use --precision bf16, or "
        "--device cpu",
        name_of(format));
  }
  return make_cuda_backend(index, format == WeightFormat::kF32 ? DType::kF32 : DType::kBf16, tf32);
}

}  // namespace kernels
