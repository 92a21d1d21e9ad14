// Backend 0: the truth. Every formula as the door states it, in double, on one thread; values are
// rounded only where they are stored. Law: no cleverness; whoever doubts a fast kernel reads this.

#include "kernels/reference_class.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/dropout.h"
#include "kernels/reference.h"

namespace kernels {
namespace {

double load(const float* values, std::int64_t i) { return static_cast<double>(values[i]); }
double load(const Bf16* values, std::int64_t i) {
  return static_cast<double>(base::to_f32(values[i]));
}

void store(float* values, std::int64_t i, double value) { values[i] = static_cast<float>(value); }

/// Rounds once, from double to bf16: through float with round-to-odd, so that the first rounding
/// can never land on a tie of the second.
/// Source: Boldo, Melquiond 2008, "Emulation of FMA and correctly rounded sums: proved algorithms
/// using rounding to odd", theorem 3.
void store(Bf16* values, std::int64_t i, double value) {
  auto rounded = static_cast<float>(value);
  const bool odd = (std::bit_cast<std::uint32_t>(rounded) & 1U) != 0;
  if (std::isfinite(rounded) && load(&rounded, 0) != value && !odd) {
    const bool up = load(&rounded, 0) < value;
    const float infinity = std::numeric_limits<float>::infinity();
    rounded = std::nextafter(rounded, up ? infinity : -infinity);
  }
  values[i] = base::to_bf16(rounded);
}

/// sqrt(2 / pi) and the cubic's factor of the tanh GELU.
const double kGeluScale = std::sqrt(2.0 / std::numbers::pi);
constexpr double kGeluCubic = 0.044715;

/// What dropout multiplies element i of row `row` of an operation's rows with.
double factor(const Dropout& dropout, std::int64_t row, std::int64_t i) {
  if (!dropout.active()) return 1.0;
  const DropoutMask mask(dropout);
  return mask.keeps(mask.row_key(row), i) ? 1.0 / (1.0 - load(&dropout.probability, 0)) : 0.0;
}

double gelu(double z) {
  return 0.5 * z * (1.0 + std::tanh(kGeluScale * (z + kGeluCubic * z * z * z)));
}

double gelu_derivative(double z) {
  const double t = std::tanh(kGeluScale * (z + kGeluCubic * z * z * z));
  return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * kGeluScale * (1.0 + 3.0 * kGeluCubic * z * z);
}

}  // namespace

// ---- weights ----------------------------------------------------------------------------------

template <class A>
std::size_t Reference<A>::do_workspace_bytes(std::int64_t rows, std::int64_t context,
                                             std::int64_t channels, std::int64_t heads,
                                             std::int64_t /*padded_vocab*/, bool training) const {
  const std::int64_t row = std::max({context, rows, 4 * channels});
  const std::int64_t sums =
      std::max({rows * channels + channels, 3 * context * (channels / heads), 4 * channels});
  return sizeof(double) * static_cast<std::size_t>(row + (training ? sums : 0));
}

/// The one copy is the parameter in A, as it lies; it serves both directions.
template <class A>
PackedBytes Reference<A>::do_packed_bytes(std::int64_t inputs, std::int64_t outputs,
                                          WeightOrder /*order*/, bool /*with_backward*/) const {
  return {static_cast<std::size_t>(inputs * outputs) * sizeof(A), 0};
}

template <class A>
void Reference<A>::do_pack_weight(const PackedWeight& weight, ConstView parameter) {
  auto* copy = reinterpret_cast<A*>(weight.forward);
  for (std::int64_t i = 0; i < parameter.elements(); ++i) store(copy, i, load(parameter.f32(), i));
}

// ---- embedding --------------------------------------------------------------------------------

template <class A>
void Reference<A>::do_embed_forward(View x, ConstView ids, ConstView wte, ConstView wpe,
                                    std::int64_t length, std::int64_t first_position,
                                    const Dropout& dropout) {
  const std::int64_t channels = x.dim(1);
  for (std::int64_t n = 0; n < x.dim(0); ++n) {
    const float* token = wte.f32() + ids.i32()[n] * channels;
    const float* position = wpe.f32() + (first_position + n % length) * channels;
    for (std::int64_t c = 0; c < channels; ++c) {
      const double sum = load(token, c) + load(position, c);
      store(x.f32(), n * channels + c, sum * factor(dropout, n, c));
    }
  }
}

template <class A>
void Reference<A>::do_embed_packed(View x, ConstView ids, ConstView positions,
                                   const PackedWeight& wte, ConstView wpe) {
  const std::int64_t channels = x.dim(1);
  for (std::int64_t n = 0; n < x.dim(0); ++n) {
    const A* token = in(wte.forward) + ids.i32()[n] * channels;
    const float* position = wpe.f32() + positions.i32()[n] * channels;
    for (std::int64_t c = 0; c < channels; ++c) {
      store(x.f32(), n * channels + c, load(token, c) + load(position, c));
    }
  }
}

template <class A>
void Reference<A>::do_embed_backward(View dwte, View dwpe, ConstView dx, ConstView ids,
                                     std::int64_t length, const Dropout& dropout) {
  const std::int64_t rows = dx.dim(0);
  const std::int64_t channels = dx.dim(1);
  // Adds to `row` of `table` the sum of all rows of dx that `belongs`.
  const auto scatter = [&](float* table, std::int64_t row, auto&& belongs) {
    double* sum = zeroed(sums_, channels);
    for (std::int64_t n = 0; n < rows; ++n) {
      if (!belongs(n)) continue;
      for (std::int64_t c = 0; c < channels; ++c) {
        sum[c] += load(dx.f32(), n * channels + c) * factor(dropout, n, c);
      }
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      store(table, row * channels + c, load(table, row * channels + c) + sum[c]);
    }
  };
  const std::int32_t* id = ids.i32();
  for (std::int64_t n = 0; n < rows && !dwte.empty(); ++n) {
    if (std::find(id, id + n, id[n]) != id + n) continue;  // its first occurrence did the work
    scatter(dwte.f32(), id[n], [&](std::int64_t other) { return id[other] == id[n]; });
  }
  for (std::int64_t t = 0; t < length && !dwpe.empty(); ++t) {
    scatter(dwpe.f32(), t, [&](std::int64_t n) { return n % length == t; });
  }
}

// ---- LayerNorm with the residual --------------------------------------------------------------

template <class A>
void Reference<A>::do_add_layernorm_forward(View res_out, View normed, View mean, View rstd,
                                            ConstView res_in, ConstView branch, ConstView gain,
                                            ConstView bias, const Dropout& dropout) {
  const std::int64_t channels = res_out.dim(1);
  for (std::int64_t n = 0; n < res_out.dim(0); ++n) {
    float* row = res_out.f32() + n * channels;
    double sum = 0;
    for (std::int64_t c = 0; c < channels; ++c) {
      const double added = branch.empty() ? 0.0 : load(in(branch), n * channels + c);
      store(row, c, load(res_in.f32(), n * channels + c) + added * factor(dropout, n, c));
      sum += load(row, c);
    }
    const double row_mean = sum / static_cast<double>(channels);
    double squares = 0;
    for (std::int64_t c = 0; c < channels; ++c) {
      squares += (load(row, c) - row_mean) * (load(row, c) - row_mean);
    }
    const double variance = squares / static_cast<double>(channels);
    const double row_rstd = 1.0 / std::sqrt(variance + static_cast<double>(kLayerNormEpsilon));
    for (std::int64_t c = 0; c < channels; ++c) {
      const double unit = (load(row, c) - row_mean) * row_rstd;
      store(out_of(normed), n * channels + c, unit * load(gain.f32(), c) + load(bias.f32(), c));
    }
    store(mean.f32(), n, row_mean);
    store(rstd.f32(), n, row_rstd);
  }
}

/// With u = (res - mean) rstd and g = dnormed gain, a row's gradient is
///   rstd (g - mean(g) - u mean(g u)).
template <class A>
void Reference<A>::do_add_layernorm_backward(View dres, View dres_copy, View dgain, View dbias,
                                             ConstView dnormed, ConstView res, ConstView mean,
                                             ConstView rstd, ConstView gain,
                                             const Dropout& dropout) {
  const std::int64_t rows = dres.dim(0);
  const std::int64_t channels = dres.dim(1);
  const auto unit = [&](std::int64_t n, std::int64_t c) {
    return (load(res.f32(), n * channels + c) - load(mean.f32(), n)) * load(rstd.f32(), n);
  };
  for (std::int64_t n = 0; n < rows; ++n) {
    double mean_g = 0;
    double mean_gu = 0;
    for (std::int64_t c = 0; c < channels; ++c) {
      const double g = load(in(dnormed), n * channels + c) * load(gain.f32(), c);
      mean_g += g / static_cast<double>(channels);
      mean_gu += g * unit(n, c) / static_cast<double>(channels);
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::int64_t i = n * channels + c;
      const double g = load(in(dnormed), i) * load(gain.f32(), c);
      const double dx = load(rstd.f32(), n) * (g - mean_g - unit(n, c) * mean_gu);
      store(dres.f32(), i, load(dres.f32(), i) + dx);
      if (dres_copy.empty()) continue;
      store(out_of(dres_copy), i, load(dres.f32(), i) * factor(dropout, n, c));
    }
  }
  for (std::int64_t c = 0; c < channels; ++c) {
    double gain_sum = 0;
    double bias_sum = 0;
    for (std::int64_t n = 0; n < rows; ++n) {
      const double dn = load(in(dnormed), n * channels + c);
      gain_sum += dn * unit(n, c);
      bias_sum += dn;
    }
    if (!dgain.empty()) store(dgain.f32(), c, load(dgain.f32(), c) + gain_sum);
    if (!dbias.empty()) store(dbias.f32(), c, load(dbias.f32(), c) + bias_sum);
  }
}

// ---- linear layers ----------------------------------------------------------------------------

template <class A>
void Reference<A>::do_linear_forward(View out, View pre, ConstView inp, const PackedWeight& weight,
                                     ConstView bias, Epilogue epilogue) {
  const std::int64_t inputs = weight.inputs;
  const std::int64_t outputs = weight.outputs;
  const A* matrix = in(weight.forward);
  for (std::int64_t n = 0; n < inp.dim(0); ++n) {
    double* row = zeroed(scores_, outputs);
    for (std::int64_t k = 0; k < inputs; ++k) {
      const double value = load(in(inp), n * inputs + k);
      for (std::int64_t m = 0; m < outputs; ++m) row[m] += value * load(matrix, k * outputs + m);
    }
    for (std::int64_t m = 0; m < outputs; ++m) {
      const std::int64_t i = n * outputs + m;
      const double z = row[m] + load(bias.f32(), m);
      if (!pre.empty()) store(out_of(pre), i, z);
      store(out_of(out), i, epilogue == Epilogue::kGelu ? gelu(z) : z);
    }
  }
}

template <class A>
void Reference<A>::do_gelu_forward(View out, ConstView pre) {
  for (std::int64_t i = 0; i < out.elements(); ++i) {
    store(out_of(out), i, gelu(load(in(pre), i)));
  }
}

template <class A>
void Reference<A>::do_linear_backward(View dinp, View dweight, View dbias, ConstView dout,
                                      ConstView inp, const PackedWeight& weight, Epilogue epilogue,
                                      ConstView pre, Gradient gradient) {
  if (gradient == Gradient::kOverwrite) {
    if (!dweight.empty()) fill_zero(dweight);
    if (!dbias.empty()) fill_zero(dbias);
  }
  const std::int64_t rows = dout.dim(0);
  const std::int64_t inputs = weight.inputs;
  const std::int64_t outputs = weight.outputs;
  const A* matrix = in(weight.forward);
  for (std::int64_t k = 0; k < inputs; ++k) {
    double* row = zeroed(sums_, outputs);
    for (std::int64_t n = 0; n < rows; ++n) {
      const double value = load(in(inp), n * inputs + k);
      double sum = 0;
      for (std::int64_t m = 0; m < outputs; ++m) {
        const double above = load(in(dout), n * outputs + m);
        row[m] += value * above;
        sum += above * load(matrix, k * outputs + m);
      }
      const std::int64_t i = n * inputs + k;
      if (epilogue == Epilogue::kGelu) sum *= gelu_derivative(load(in(pre), i));
      if (!dinp.empty()) store(out_of(dinp), i, sum);
    }
    for (std::int64_t m = 0; m < outputs && !dweight.empty(); ++m) {
      const std::int64_t i = k * outputs + m;
      store(dweight.f32(), i, load(dweight.f32(), i) + row[m]);
    }
  }
  for (std::int64_t m = 0; m < outputs && !dbias.empty(); ++m) {
    double sum = 0;
    for (std::int64_t n = 0; n < rows; ++n) sum += load(in(dout), n * outputs + m);
    store(dbias.f32(), m, load(dbias.f32(), m) + sum);
  }
}

/// One r after the other: u = inp A and v = dout B^T have a column of it each.
template <class A>
void Reference<A>::do_low_rank_backward(View da, View db, ConstView dout, ConstView inp,
                                        ConstView a, ConstView b, float scale) {
  const std::int64_t inputs = inp.dim(1);
  const std::int64_t outputs = dout.dim(1);
  const std::int64_t rank = a.dim(1);
  for (std::int64_t r = 0; r < rank; ++r) {
    double* a_sums = zeroed(sums_, inputs + outputs);
    double* b_sums = a_sums + inputs;
    for (std::int64_t n = 0; n < inp.dim(0); ++n) {
      const auto x = [&](std::int64_t k) { return load(in(inp), n * inputs + k); };
      const auto y = [&](std::int64_t m) { return load(in(dout), n * outputs + m); };
      double u = 0;
      double v = 0;
      for (std::int64_t k = 0; k < inputs; ++k) u += x(k) * load(a.f32(), k * rank + r);
      for (std::int64_t m = 0; m < outputs; ++m) v += y(m) * load(b.f32(), r * outputs + m);
      for (std::int64_t k = 0; k < inputs; ++k) a_sums[k] += x(k) * v;
      for (std::int64_t m = 0; m < outputs; ++m) b_sums[m] += u * y(m);
    }
    const auto add = [&](const View& out, std::int64_t i, double sum) {
      if (!out.empty()) store(out.f32(), i, load(out.f32(), i) + load(&scale, 0) * sum);
    };
    for (std::int64_t k = 0; k < inputs; ++k) add(da, k * rank + r, a_sums[k]);
    for (std::int64_t m = 0; m < outputs; ++m) add(db, r * outputs + m, b_sums[m]);
  }
}

template <class A>
std::size_t Reference<A>::do_low_rank_workspace_bytes(std::int64_t /*rows*/, std::int64_t inputs,
                                                      std::int64_t outputs,
                                                      std::int64_t /*rank*/) const {
  return sizeof(double) * static_cast<std::size_t>(inputs + outputs);
}

// ---- attention --------------------------------------------------------------------------------

namespace {

/// One head of one sequence: where its rows start and how far apart they lie.
template <class A>
struct HeadRows {
  const A* first = nullptr;
  std::int64_t stride = 0;
  const A* row(std::int64_t t) const { return first + t * stride; }
};

template <class A>
double dot(const A* a, const A* b, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += load(a, i) * load(b, i);
  return sum;
}

/// probabilities[j] = softmax over j < keys of q k_j / sqrt(D); returns the log-sum-exp.
template <class A>
double softmax_row(double* probabilities, const A* q, HeadRows<A> k, std::int64_t keys,
                   std::int64_t head_size) {
  double largest = -std::numeric_limits<double>::infinity();
  for (std::int64_t j = 0; j < keys; ++j) {
    probabilities[j] = dot(q, k.row(j), head_size) / std::sqrt(static_cast<double>(head_size));
    largest = std::max(largest, probabilities[j]);
  }
  double sum = 0;
  for (std::int64_t j = 0; j < keys; ++j) {
    probabilities[j] = std::exp(probabilities[j] - largest);
    sum += probabilities[j];
  }
  for (std::int64_t j = 0; j < keys; ++j) probabilities[j] /= sum;
  return largest + std::log(sum);
}

/// out = sum over j < keys of probabilities[j] v_j.
template <class A>
void mix_values(A* out, const double* probabilities, HeadRows<A> v, std::int64_t keys,
                std::int64_t head_size) {
  for (std::int64_t d = 0; d < head_size; ++d) {
    double sum = 0;
    for (std::int64_t j = 0; j < keys; ++j) sum += probabilities[j] * load(v.row(j), d);
    store(out, d, sum);
  }
}

}  // namespace

template <class A>
void Reference<A>::do_attention_forward(View out, View lse, ConstView qkv, const Dropout& dropout) {
  const std::int64_t heads = lse.dim(1);
  const std::int64_t length = lse.dim(2);
  const std::int64_t channels = out.dim(1);
  const std::int64_t head_size = channels / heads;
  const Dropout own = of_heads(dropout, heads);
  double* probabilities = zeroed(scores_, length);
  for (std::int64_t bh = 0; bh < lse.dim(0) * heads; ++bh) {
    const std::int64_t first_row = bh / heads * length;
    const std::int64_t first_column = bh % heads * head_size;
    const A* sequence = in(qkv) + first_row * 3 * channels + first_column;
    const HeadRows<A> q{sequence, 3 * channels};
    const HeadRows<A> k{sequence + channels, 3 * channels};
    const HeadRows<A> v{sequence + 2 * channels, 3 * channels};
    for (std::int64_t t = 0; t < length; ++t) {
      const double sum = softmax_row(probabilities, q.row(t), k, t + 1, head_size);
      store(lse.f32(), bh * length + t, sum);
      const std::int64_t mask_row = (first_row + t) * heads + bh % heads;
      for (std::int64_t j = 0; j <= t; ++j) probabilities[j] *= factor(own, mask_row, j);
      A* row = out_of(out) + (first_row + t) * channels + first_column;
      mix_values(row, probabilities, v, t + 1, head_size);
    }
  }
}

/// The chain rule as written, from fresh probabilities p: with f_j dropout's factor and
/// dp_j = f_j dout v_j,
///   ds_j = p_j (dp_j - sum_i p_i dp_i) / sqrt(D), dq = sum_j ds_j k_j, dk_j += ds_j q,
///   dv_j += f_j p_j dout.
/// It needs neither out nor lse, so it also judges backends that save work with them.
template <class A>
void Reference<A>::do_attention_backward(View dqkv, ConstView dout, ConstView qkv,
                                         ConstView /*out*/, ConstView lse, const Dropout& dropout) {
  const std::int64_t heads = lse.dim(1);
  const std::int64_t length = lse.dim(2);
  const std::int64_t channels = dout.dim(1);
  const std::int64_t head_size = channels / heads;
  const std::int64_t stride = 3 * channels;
  const Dropout own = of_heads(dropout, heads);
  double* p = zeroed(scores_, length);
  for (std::int64_t bh = 0; bh < lse.dim(0) * heads; ++bh) {
    const std::int64_t first_row = bh / heads * length;
    const std::int64_t first_column = bh % heads * head_size;
    const A* sequence = in(qkv) + first_row * stride + first_column;
    const HeadRows<A> q{sequence, stride};
    const HeadRows<A> k{sequence + channels, stride};
    const HeadRows<A> v{sequence + 2 * channels, stride};
    double* dq = zeroed(sums_, 3 * length * head_size);  // then dk, then dv, (T, D) each
    double* dk = dq + length * head_size;
    double* dv = dk + length * head_size;
    for (std::int64_t t = 0; t < length; ++t) {
      const A* d_row = in(dout) + (first_row + t) * channels + first_column;
      softmax_row(p, q.row(t), k, t + 1, head_size);
      double mean_dp = 0;
      const std::int64_t mask_row = (first_row + t) * heads + bh % heads;
      for (std::int64_t j = 0; j <= t; ++j) {
        mean_dp += p[j] * factor(own, mask_row, j) * dot(d_row, v.row(j), head_size);
      }
      for (std::int64_t j = 0; j <= t; ++j) {
        const double f = factor(own, mask_row, j);
        const double dp = f * dot(d_row, v.row(j), head_size);
        const double ds = p[j] * (dp - mean_dp) / std::sqrt(static_cast<double>(head_size));
        for (std::int64_t d = 0; d < head_size; ++d) {
          dq[t * head_size + d] += ds * load(k.row(j), d);
          dk[j * head_size + d] += ds * load(q.row(t), d);
          dv[j * head_size + d] += f * p[j] * load(d_row, d);
        }
      }
    }
    A* d_sequence = out_of(dqkv) + first_row * stride + first_column;
    for (std::int64_t t = 0; t < length; ++t) {
      for (std::int64_t d = 0; d < head_size; ++d) {
        store(d_sequence + t * stride, d, dq[t * head_size + d]);
        store(d_sequence + t * stride + channels, d, dk[t * head_size + d]);
        store(d_sequence + t * stride + 2 * channels, d, dv[t * head_size + d]);
      }
    }
  }
}

template <class A>
void Reference<A>::do_attention_cached(View out, ConstView qkv,
                                       std::span<const CacheRows> sequences) {
  const std::int64_t channels = out.dim(1);
  const A* new_row = in(qkv);
  A* out_row = out_of(out);
  for (const auto& [k_cache, v_cache, position, rows] : sequences) {
    const std::int64_t heads = k_cache.dim(0);
    const std::int64_t positions = k_cache.dim(1);
    const std::int64_t head_size = k_cache.dim(2);
    double* probabilities = zeroed(scores_, position + rows);
    for (std::int64_t end = position + 1; end <= position + rows; ++end) {
      for (std::int64_t h = 0; h < heads; ++h) {
        A* keys = out_of(k_cache) + h * positions * head_size;
        A* values = out_of(v_cache) + h * positions * head_size;
        const A* q = new_row + h * head_size;
        std::copy_n(q + channels, head_size, keys + (end - 1) * head_size);
        std::copy_n(q + 2 * channels, head_size, values + (end - 1) * head_size);
        softmax_row(probabilities, q, HeadRows<A>{keys, head_size}, end, head_size);
        mix_values(out_row + h * head_size, probabilities, HeadRows<A>{values, head_size}, end,
                   head_size);
      }
      new_row += 3 * channels;
      out_row += channels;
    }
  }
}

// ---- head and loss ----------------------------------------------------------------------------

template <class A>
double Reference<A>::do_head_loss(View losses, View dx, View dwte, ConstView x,
                                  const PackedWeight& wte, ConstView targets, std::int64_t vocab,
                                  float scale, Gradient gradient, const LossOptions& options) {
  if (gradient == Gradient::kOverwrite && !dwte.empty()) fill_zero(dwte);
  const std::int64_t rows = x.dim(0);
  const std::int64_t channels = wte.inputs;
  const A* table = in(wte.forward);
  const auto logit = [&](std::int64_t n, std::int64_t token) {
    return dot(in(x) + n * channels, table + token * channels, channels);
  };
  double* lse = zeroed(scores_, rows);
  double total = 0;
  for (std::int64_t n = 0; n < rows; ++n) {
    store(losses.f32(), n, 0.0);
    if (targets.i32()[n] == kIgnoredTarget) continue;
    // A running maximum, so that one pass over the vocabulary is enough.
    double largest = -std::numeric_limits<double>::infinity();
    double sum = 0;
    for (std::int64_t token = 0; token < vocab; ++token) {
      const double value = logit(n, token);
      if (value > largest) {
        sum *= std::exp(largest - value);
        largest = value;
      }
      sum += std::exp(value - largest);
    }
    lse[n] = largest + std::log(sum);
    const double loss = lse[n] - logit(n, targets.i32()[n]);
    store(losses.f32(), n, loss);
    total += loss;
  }
  if (dx.empty()) return total;

  const double smoothing = load(&options.label_smoothing, 0);
  double* x_sums = zeroed(sums_, (rows + 1) * channels);
  double* table_row = x_sums + rows * channels;
  for (std::int64_t token = 0; token < vocab; ++token) {
    std::fill_n(table_row, channels, 0.0);
    for (std::int64_t n = 0; n < rows; ++n) {
      const std::int32_t target = targets.i32()[n];
      if (target == kIgnoredTarget) continue;
      const double probability = std::exp(logit(n, token) - lse[n]);
      const double wanted =
          smoothing / static_cast<double>(vocab) + (token == target ? 1.0 - smoothing : 0.0);
      const double z_gradient = 2 * load(&options.z_loss, 0) * lse[n] * probability;
      const double dlogit = load(&scale, 0) * (probability - wanted + z_gradient);
      for (std::int64_t c = 0; c < channels; ++c) {
        x_sums[n * channels + c] += dlogit * load(table, token * channels + c);
        table_row[c] += dlogit * load(in(x), n * channels + c);
      }
    }
    for (std::int64_t c = 0; c < channels && !dwte.empty(); ++c) {
      const std::int64_t i = token * channels + c;
      store(dwte.f32(), i, load(dwte.f32(), i) + table_row[c]);
    }
  }
  for (std::int64_t i = 0; i < rows * channels; ++i) store(out_of(dx), i, x_sums[i]);
  return total;
}

template <class A>
void Reference<A>::do_head_logits(View logits, ConstView x, const PackedWeight& wte,
                                  std::int64_t vocab) {
  const std::int64_t channels = wte.inputs;
  for (std::int64_t n = 0; n < x.dim(0); ++n) {
    for (std::int64_t token = 0; token < vocab; ++token) {
      store(logits.f32(), n * vocab + token,
            dot(in(x) + n * channels, in(wte.forward) + token * channels, channels));
    }
  }
}

// ---- optimizer --------------------------------------------------------------------------------

template <class A>
void Reference<A>::do_adamw_step(View parameter, ConstView gradient, View m, View v,
                                 const AdamW& hyper, const PackedWeight* copies,
                                 const Average& average) {
  const auto wide = [](float value) { return static_cast<double>(value); };
  const double beta1 = wide(hyper.beta1);
  const double beta2 = wide(hyper.beta2);
  const double rate = wide(hyper.learning_rate);
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(hyper.step));
  const double correction2 = 1.0 - std::pow(beta2, static_cast<double>(hyper.step));
  for (std::int64_t i = 0; i < parameter.elements(); ++i) {
    const double g = load(gradient.f32(), i) * wide(hyper.gradient_scale);
    const double m_new = beta1 * load(m.f32(), i) + (1.0 - beta1) * g;
    const double v_new = beta2 * load(v.f32(), i) + (1.0 - beta2) * g * g;
    double p = load(parameter.f32(), i);
    p -= rate * wide(hyper.weight_decay) * p;
    p -= rate * (m_new / correction1) / (std::sqrt(v_new / correction2) + wide(hyper.epsilon));
    store(m.f32(), i, m_new);
    store(v.f32(), i, v_new);
    store(parameter.f32(), i, p);
  }
  renew(parameter, copies, average);
}

template class Reference<float>;
template class Reference<Bf16>;

std::unique_ptr<Backend> make_reference_backend(DType compute_type) {
  if (compute_type == DType::kBf16) {
    return std::make_unique<Reference<Bf16>>(compute_type, WeightFormat::kBf16);
  }
  return std::make_unique<Reference<float>>(compute_type, WeightFormat::kF32);
}

}  // namespace kernels
