// Everything but attention and products: embedding, LayerNorm, GELU, column sums, loss, norm,
// AdamW, and generation's product.

#include <algorithm>
#include <cmath>
#include <deque>

#include "check.h"
#include "kernels/cuda/launchers.h"

namespace check {
namespace {

using namespace kernels;  // cuda::, gpu::

std::vector<double> zeros(std::size_t n) { return std::vector<double>(n, 0); }
template <class T>
double limit_of() {
  return sizeof(T) == 2 ? kBf16Limit : kF32Limit;
}
template <class T>
const char* name_of() {
  return sizeof(T) == 2 ? " bf16" : " f32";
}

// ---- embedding ----------------------------------------------------------------------------------

void check_embedding_shape(int batch, int length, int channels, int vocab) {
  const std::string at = "B" + std::to_string(batch) + " T" + std::to_string(length) + " C" +
                         std::to_string(channels) + " ";
  const int rows = batch * length;
  const auto C = static_cast<std::size_t>(channels);
  const auto N = static_cast<std::size_t>(rows);
  const int first_position = 2;
  std::vector<std::int32_t> ids;
  for (int n = 0; n < rows; ++n) ids.push_back(n % 3 == 0 ? vocab - 1 : below(vocab));
  const auto wte = random_numbers<float>(static_cast<std::size_t>(vocab) * C);
  const auto wpe = random_numbers<float>(static_cast<std::size_t>(length + first_position) * C);
  const auto dx = random_numbers<float>(N * C);
  std::vector<double> x = zeros(N * C), dwte = wte.exact, dwpe = wpe.exact;
  for (std::size_t i = 0; i < N * C; ++i) {
    const std::size_t n = i / C;
    const std::size_t token = static_cast<std::size_t>(ids[n]) * C + i % C;
    const std::size_t t = n % static_cast<std::size_t>(length);
    x[i] = wte.exact[token] + wpe.exact[(t + first_position) * C + i % C];
    dwte[token] += dx.exact[i];
    dwpe[t * C + i % C] += dx.exact[i];
  }
  Device<std::int32_t> device_ids(ids);
  Device<float> device_x(N * C), device_wte(wte.stored), device_wpe(wpe.stored),
      device_dx(dx.stored);
  cuda::embed_forward(device_x.data(), device_ids.data(), device_wte.data(), device_wpe.data(),
                      rows, channels, length, first_position, {}, {});
  see(at + "x", relative_error(device_x, x), kF32Limit);
  std::vector<std::int32_t> order(N), starts(N + 1);
  const int count = cuda::group_rows(order.data(), starts.data(), ids.data(), rows, vocab);
  Device<std::int32_t> device_order(order), device_starts(starts);
  // The gradients begin with the tables' values: they are added to.
  cuda::embed_backward(device_wte.data(), device_wpe.data(), device_dx.data(), device_ids.data(),
                       {device_order.data(), device_starts.data(), count}, rows, channels, length,
                       {}, {});
  see(at + "dwte", relative_error(device_wte, dwte), kF32Limit);
  see(at + "dwpe", relative_error(device_wpe, dwpe), kF32Limit);
}
void check_embedding() {
  check_embedding_shape(2, 5, 8, 11);
  check_embedding_shape(3, 33, 520, 50);
  if (size() == Size::kFull) check_embedding_shape(4, 1024, 768, 50257);
}
const Case embedding("embedding", check_embedding);

// ---- LayerNorm ----------------------------------------------------------------------------------

template <class A>
void check_layernorm_shape(int rows, int channels, double mean_of_rows) {
  const std::string at =
      "N" + std::to_string(rows) + " C" + std::to_string(channels) + name_of<A>() + " ";
  const auto N = static_cast<std::size_t>(rows);
  const auto C = static_cast<std::size_t>(channels);
  const auto res_in = random_numbers<float>(N * C, mean_of_rows);
  const auto branch = random_numbers<A>(N * C);
  const auto dnormed = random_numbers<A>(N * C);
  const auto dres = random_numbers<float>(N * C);
  const auto gain = random_numbers<float>(C, 1, 0.2), bias = random_numbers<float>(C);
  const auto sums0 = random_numbers<float>(C);
  std::vector<double> res = zeros(N * C), normed = res, mean = zeros(N), rstd = mean;
  std::vector<double> dres_add = dres.exact;
  std::vector<double> dgain = sums0.exact, dbias = dgain;
  for (std::size_t n = 0; n < N; ++n) {
    const auto at_row = [&](std::size_t c) { return n * C + c; };
    double squares = 0, mean_g = 0, mean_gu = 0;
    for (std::size_t c = 0; c < C; ++c) {
      res[at_row(c)] = res_in.exact[at_row(c)] + branch.exact[at_row(c)];
      res[at_row(c)] = static_cast<double>(static_cast<float>(res[at_row(c)]));  // as it is stored
      mean[n] += res[at_row(c)] / static_cast<double>(C);
    }
    for (std::size_t c = 0; c < C; ++c) squares += std::pow(res[at_row(c)] - mean[n], 2);
    rstd[n] = 1 / std::sqrt(squares / static_cast<double>(C) + 1e-5);
    const auto unit = [&](std::size_t c) { return (res[at_row(c)] - mean[n]) * rstd[n]; };
    for (std::size_t c = 0; c < C; ++c) {
      normed[at_row(c)] = unit(c) * gain.exact[c] + bias.exact[c];
      const double g = dnormed.exact[at_row(c)] * gain.exact[c];
      mean_g += g / static_cast<double>(C);
      mean_gu += g * unit(c) / static_cast<double>(C);
      dgain[c] += dnormed.exact[at_row(c)] * unit(c);
      dbias[c] += dnormed.exact[at_row(c)];
    }
    for (std::size_t c = 0; c < C; ++c) {
      const double g = dnormed.exact[at_row(c)] * gain.exact[c];
      dres_add[at_row(c)] += rstd[n] * (g - mean_g - unit(c) * mean_gu);
    }
  }
  Device<float> d_in(res_in.stored), d_res(N * C), d_mean(N), d_rstd(N), d_gain(gain.stored),
      d_bias(bias.stored);
  Device<A> d_branch(branch.stored), d_normed(N * C), d_dnormed(dnormed.stored), d_copy(N * C);
  cuda::add_layernorm_forward(d_res.data(), d_normed.data(), d_mean.data(), d_rstd.data(),
                              d_in.data(), d_branch.data(), d_gain.data(), d_bias.data(), rows,
                              channels, {}, {});
  const double spread = 1 + std::abs(mean_of_rows);  // what f32 leaves of a row far from zero
  see(at + "res", relative_error(d_res, res), kF32Limit);
  see(at + "normed", relative_error(d_normed, normed), limit_of<A>() + 1e-6 * spread);
  see(at + "mean", relative_error(d_mean, mean), 1e-5 * spread);
  see(at + "rstd", relative_error(d_rstd, rstd), 1e-5);
  // Without a branch, from the sum: the same.
  const std::vector<A> with_branch = d_normed.host();
  d_normed.poison();
  cuda::add_layernorm_forward(d_res.data(), d_normed.data(), d_mean.data(), d_rstd.data(),
                              d_res.data(), static_cast<const A*>(nullptr), d_gain.data(),
                              d_bias.data(), rows, channels, {}, {});
  see(at + "no branch", same_bits(d_normed, with_branch) ? 0 : 1, 0);

  Device<float> d_dres(dres.stored), d_dgain(sums0.stored), d_dbias(sums0.stored);
  Device<float> scratch(cuda::layernorm_scratch_floats(rows, channels));
  cuda::add_layernorm_backward(d_dres.data(), d_copy.data(), d_dgain.data(), d_dbias.data(),
                               d_dnormed.data(), d_res.data(), d_mean.data(), d_rstd.data(),
                               d_gain.data(), {}, scratch.data(), rows, channels, {});
  const double f32 = 2 * kF32Limit * spread;
  see(at + "dres", relative_error(d_dres, dres_add), f32);
  see(at + "dres copy", relative_error(d_copy, dres_add), limit_of<A>() + f32);
  see(at + "dgain", relative_error(d_dgain, dgain), 5 * f32);
  see(at + "dbias", relative_error(d_dbias, dbias), 5 * f32);
}
void check_layernorm() {
  check_layernorm_shape<Bf16>(1, 16, 0);
  check_layernorm_shape<float>(9, 40, 0);
  check_layernorm_shape<Bf16>(13, 768, 0);
  if (size() == Size::kSmall) return;
  check_layernorm_shape<Bf16>(11, 1600, 0);
  check_layernorm_shape<float>(10, 264, 100);
  for (const int channels : {512, 1024, 1280, 1536, 1792}) {
    check_layernorm_shape<Bf16>(6, channels, 0);
  }
  if (size() == Size::kFull) check_layernorm_shape<Bf16>(8191, 768, 0);
}
const Case layernorm("layernorm", check_layernorm);

// ---- GELU, column sums --------------------------------------------------------------------------

double gelu_slope(double z, double& value) {
  const double scale = std::sqrt(2 / M_PI);
  const double t = std::tanh(scale * (z + 0.044715 * z * z * z));
  value = 0.5 * z * (1 + t);
  return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * scale * (1 + 3 * 0.044715 * z * z);
}
template <class A>
void check_gelu_of() {
  const std::size_t count = size() == Size::kFull ? 1000008 : 1000 - 1000 % 8;
  auto pre = random_numbers<A>(count, 0, 3);
  const auto dout = random_numbers<A>(count);
  const float far[] = {-1e4F, 1e4F, -30, 30, 0, -0.0F};
  for (std::size_t i = 0; i < 6; ++i) {
    if constexpr (sizeof(A) == 2) {
      pre.stored[i] = round_bf16(static_cast<double>(far[i]));
      pre.exact[i] = static_cast<double>(to_f32(pre.stored[i]));
    } else {
      pre.stored[i] = far[i];
      pre.exact[i] = static_cast<double>(far[i]);
    }
  }
  std::vector<double> out = zeros(count), dpre = out;
  for (std::size_t i = 0; i < count; ++i) {
    dpre[i] = gelu_slope(pre.exact[i], out[i]) * dout.exact[i];
  }
  Device<A> d_out(count), d_pre(pre.stored), d_dout(dout.stored);
  cuda::gelu_forward(d_out.data(), d_pre.data(), count, {});
  std::vector<double> got = as_doubles(d_out.host());
  see(std::string("far") + name_of<A>(),
      relative_error({got.begin(), got.begin() + 6}, {out.begin(), out.begin() + 6}),
      limit_of<A>());
  got.erase(got.begin(), got.begin() + 6);
  see(std::string("out") + name_of<A>(), relative_error(got, {out.begin() + 6, out.end()}),
      limit_of<A>());
  cuda::gelu_backward(d_dout.data(), d_dout.data(), d_pre.data(), count, {});  // in place
  see(std::string("dpre") + name_of<A>(), relative_error(d_dout, dpre), limit_of<A>());
}
void check_gelu() {
  check_gelu_of<Bf16>();
  check_gelu_of<float>();
}
const Case gelu("gelu", check_gelu);

void check_column_sums() {
  std::vector<std::pair<int, int>> shapes = {{1, 8}, {13, 264}, {515, 72}};
  if (size() == Size::kFull) shapes.insert(shapes.end(), {{4099, 3072}, {1025, 2304}});
  for (const auto& [rows, columns] : shapes) {
    const auto C = static_cast<std::size_t>(columns);
    const auto values = random_numbers<Bf16>(static_cast<std::size_t>(rows) * C, 0.1);
    const auto old = random_numbers<float>(C);
    std::vector<double> want = old.exact;
    for (std::size_t i = 0; i < values.exact.size(); ++i) want[i % C] += values.exact[i];
    Device<float> sums(old.stored), scratch(cuda::column_sums_scratch_floats(rows, columns));
    Device<Bf16> device_values(values.stored);
    cuda::column_sums(sums.data(), device_values.data(), rows, columns, scratch.data(), {});
    see(std::to_string(rows) + " x " + std::to_string(columns), relative_error(sums, want),
        2 * kF32Limit);
  }
}
const Case sums("column sums", check_column_sums);

/// `value` as A holds it.
template <class A>
double as_stored(double value) {
  return sizeof(A) == 2 ? static_cast<double>(to_f32(round_bf16(value))) : value;
}

template <class A>
void check_convert_to() {
  const auto x = random_numbers<float>(808);
  std::vector<double> want;
  for (const double value : x.exact) want.push_back(as_stored<A>(value));
  Device<float> inp(x.stored);
  Device<A> out(808);
  cuda::convert(out.data(), inp.data(), 808, {});
  see(std::string("bits") + name_of<A>(), relative_error(out, want), 0);
}
void check_convert() {
  check_convert_to<Bf16>();
  check_convert_to<float>();
}
const Case convert("convert", check_convert);

template <class A>
void check_transpose_to() {
  for (const auto& [rows, columns] : {std::pair{1, 1}, std::pair{33, 70}, std::pair{64, 32}}) {
    const auto inp = random_numbers<float>(static_cast<std::size_t>(rows * columns));
    std::vector<double> want(inp.exact.size());
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c) {
        const double value = inp.exact[static_cast<std::size_t>(r * columns + c)];
        want[static_cast<std::size_t>(c * rows + r)] = as_stored<A>(value);
      }
    }
    Device<float> device_inp(inp.stored);
    Device<A> out(want.size());
    cuda::transpose(out.data(), device_inp.data(), rows, columns, {});
    see(std::to_string(rows) + " x " + std::to_string(columns) + name_of<A>(),
        relative_error(out, want), 0);
  }
}
void check_transpose() {
  check_transpose_to<Bf16>();
  check_transpose_to<float>();
}
const Case transpose("transpose", check_transpose);

// ---- loss ---------------------------------------------------------------------------------------

template <class A>
A not_a_number() {
  if constexpr (sizeof(A) == 2) {
    return {0x7FC0};
  } else {
    return NAN;
  }
}

template <class A>
void check_loss_shape(int rows, int vocab, int padded, double deviation) {
  const std::string at = "V" + std::to_string(vocab) + name_of<A>() + " ";
  const auto N = static_cast<std::size_t>(rows);
  const auto P = static_cast<std::size_t>(padded);
  const float scale = 1.0F / static_cast<float>(rows);
  auto logits = random_numbers<A>(N * P, -3, deviation);
  std::vector<std::int32_t> targets;
  std::vector<double> losses = zeros(N), dlogits = zeros(N * P);
  double total = 0;
  for (std::size_t n = 0; n < N; ++n) {
    targets.push_back(n % 4 == 1 ? -1 : n % 4 == 2 ? vocab - 1 : below(vocab));
    for (auto v = static_cast<std::size_t>(vocab); v < P; ++v) {
      logits.stored[n * P + v] = not_a_number<A>();  // padding takes no part
    }
    if (targets[n] < 0) continue;
    const double* row = &logits.exact[n * P];
    const double top = *std::max_element(row, row + vocab);
    double sum = 0;
    for (int v = 0; v < vocab; ++v) sum += std::exp(row[v] - top);
    losses[n] = top + std::log(sum) - row[targets[n]];
    total += losses[n];
    for (int v = 0; v < vocab; ++v) {
      dlogits[n * P + static_cast<std::size_t>(v)] =
          static_cast<double>(scale) * (std::exp(row[v] - top) / sum - (v == targets[n] ? 1 : 0));
    }
  }
  Device<A> d_logits(logits.stored);
  Device<float> d_losses(N);
  Device<std::int32_t> d_targets(targets);
  Device<double> d_total(1);
  std::vector<float> wide;
  for (const A x : logits.stored) wide.push_back(to_f32(x));
  Device<float> d_wide(wide);
  cuda::softmax_loss_forward(d_losses.data(), d_wide.data(), d_targets.data(), rows, vocab, padded,
                             {});
  see(at + "losses", relative_error(d_losses, losses), 3 * kF32Limit);
  d_losses.poison();
  cuda::softmax_loss(d_losses.data(), d_logits.data(), d_targets.data(), rows, vocab, padded,
                     {.scale = scale}, {});
  see(at + "losses again", relative_error(d_losses, losses), 3 * kF32Limit);
  see(at + "dlogits", relative_error(d_logits, dlogits), limit_of<A>());
  cuda::sum_losses(d_total.data(), d_losses.data(), rows, {});
  see(at + "sum", std::abs(d_total.host()[0] / total - 1), kF32Limit);
  Device<double> d_sums(2);
  Device<int> d_count(std::vector<int>{0});
  for (int i = 0; i < 2; ++i) {
    cuda::append_loss({d_sums.data(), d_count.data()}, d_losses.data(), rows, {});
  }
  for (const double sum : d_sums.host()) {
    see(at + "appended", std::abs(sum / total - 1), kF32Limit);
  }
  see(at + "count", d_count.host()[0] - 2, 0);
}
template <class A>
void check_loss_of() {
  check_loss_shape<A>(5, 13, 16, 1);
  check_loss_shape<A>(6, 5000, 5056, 2);
  if (size() == Size::kSmall) return;
  check_loss_shape<A>(4, 4096, 4096, 30);
  if (size() == Size::kFull) check_loss_shape<A>(67, 50257, 50304, 2);
}
void check_loss() {
  check_loss_of<Bf16>();
  check_loss_of<float>();
}
const Case loss("softmax loss", check_loss);

// ---- optimizer ----------------------------------------------------------------------------------

/// Alone, then all of them as a list: tails, a block that is full to the last element, one number.
void check_norm() {
  std::vector<std::size_t> counts = {1, 1030, 16384, 3};
  if (size() == Size::kFull) counts.insert(counts.begin() + 1, 300003);
  std::deque<Device<float>> all;
  std::vector<cuda::NormTask> tasks;
  double squares = 0;
  unsigned blocks = 0;
  Device<double> sum(1);
  for (const std::size_t count : counts) {
    const auto values = random_numbers<float>(count);
    double squared = 0;
    for (const double x : values.exact) squared += x * x;
    Device<double> scratch(cuda::norm_blocks(count));
    all.emplace_back(values.stored);
    cuda::squared_norm(sum.data(), all.back().data(), count, scratch.data(), {});
    see("squared norm", std::abs(sum.host()[0] / squared - 1), 1e-12);
    tasks.push_back({all.back().data(), count, blocks});
    blocks += cuda::norm_blocks(count);
    squares += squared;
  }
  Device<cuda::NormTask> list(tasks);
  Device<double> scratch(blocks);
  cuda::squared_norm(sum.data(), list.data(), static_cast<int>(tasks.size()), blocks,
                     scratch.data(), {});
  see("squared norm of a list", std::abs(sum.host()[0] / squares - 1), 1e-12);
}
const Case norm("gradient norm", check_norm);

/// What a parameter is before a step.
struct AdamInputs {
  explicit AdamInputs(std::size_t n)
      : p(random_numbers<float>(n)),
        m(random_numbers<float>(n)),
        v(random_numbers<float>(n)),
        g(random_numbers<float>(n)),
        average(random_numbers<float>(n)) {
    for (std::size_t i = 0; i < n; ++i) v.stored[i] = static_cast<float>(v.exact[i] *= v.exact[i]);
  }
  Numbers<float> p, m, v, g, average;
};

/// One parameter of a list, and what its step should make of it.
template <class A>
struct Adam {
  Adam(const AdamInputs& in, const cuda::AdamNumbers& x, float decay)
      : p(in.p.stored),
        m(in.m.stored),
        v(in.v.stored),
        g(in.g.stored),
        average(in.average.stored),
        copies(in.p.stored.size()) {
    const auto number = [](float value) { return static_cast<double>(value); };
    const double keep = 1 - x.rate * number(decay);
    for (std::size_t i = 0; i < in.p.exact.size(); ++i) {
      const double gradient = in.g.exact[i] * number(x.gradient_scale);
      want_m.push_back(number(x.beta1) * in.m.exact[i] + (1 - number(x.beta1)) * gradient);
      want_v.push_back(number(x.beta2) * in.v.exact[i] +
                       (1 - number(x.beta2)) * gradient * gradient);
      want_p.push_back(
          keep * in.p.exact[i] -
          number(x.step_size) * want_m[i] /
              (std::sqrt(want_v[i]) * number(x.inverse_root_bias2) + number(x.epsilon)));
      want_average.push_back(in.average.exact[i] +
                             number(x.average_rate) * (want_p[i] - in.average.exact[i]));
    }
  }
  Device<float> p, m, v, g, average;
  Device<A> copies;
  std::vector<double> want_p, want_m, want_v, want_average;
};

/// A list whose tensors end with their block, before it and beyond it; one without copies and one
/// without an average.
template <class A>
void check_adamw_of() {
  const cuda::AdamNumbers x{.rate = 1e-3,
                            .gradient_scale = 0.5F,
                            .beta1 = 0.9F,
                            .beta2 = 0.95F,
                            .epsilon = 1e-8F,
                            .step_size = 1.2e-3F,
                            .inverse_root_bias2 = 1.1F,
                            .average_rate = 0.1F};
  const std::vector<std::size_t> counts = {20000, 8, 4096, 1003, 1};
  constexpr std::size_t kWithoutCopies = 1, kWithoutAverage = 2;
  std::deque<Adam<A>> all;
  std::vector<cuda::AdamTask<A>> tasks;
  unsigned blocks = 0;
  for (std::size_t k = 0; k < counts.size(); ++k) {
    const float decay = k % 2 == 0 ? 0.1F : 0.0F;
    Adam<A>& a = all.emplace_back(AdamInputs(counts[k]), x, decay);
    tasks.push_back({.parameter = a.p.data(),
                     .m = a.m.data(),
                     .v = a.v.data(),
                     .gradient = a.g.data(),
                     .copies = k == kWithoutCopies ? nullptr : a.copies.data(),
                     .average = k == kWithoutAverage ? nullptr : a.average.data(),
                     .count = counts[k],
                     .decay = decay,
                     .first_block = blocks});
    blocks += cuda::adam_blocks(counts[k]);
  }
  Device<cuda::AdamTask<A>> list(tasks);
  cuda::adamw_step(list.data(), static_cast<int>(tasks.size()), blocks, x, {});
  for (std::size_t k = 0; k < counts.size(); ++k) {
    Adam<A>& a = all[k];
    see("p", relative_error(a.p, a.want_p), kF32Limit);
    see("m", relative_error(a.m, a.want_m), kF32Limit);
    see("v", relative_error(a.v, a.want_v), kF32Limit);
    if (k != kWithoutAverage) {
      see("average", relative_error(a.average, a.want_average), kF32Limit);
    }
    if (k == kWithoutCopies) continue;
    std::vector<double> rounded;
    for (const float value : a.p.host()) {
      const auto exact = static_cast<double>(value);
      rounded.push_back(sizeof(A) == 4 ? exact : static_cast<double>(to_f32(round_bf16(exact))));
    }
    see("copies' bits", relative_error(a.copies, rounded), 0);
  }
}
void check_adamw() {
  check_adamw_of<Bf16>();
  check_adamw_of<float>();
}
const Case adamw("adamw", check_adamw);

// ---- generation ---------------------------------------------------------------------------------

template <class A>
void check_decode_linear_of() {
  std::vector<std::pair<int, int>> shapes = {{8, 1}, {264, 37}};
  if (size() == Size::kFull) shapes.insert(shapes.end(), {{768, 2304}, {3072, 768}});
  for (const auto& [inputs, outputs] : shapes) {
    for (int rows = 1; rows <= cuda::kDecodeRows; ++rows) {
      const auto K = static_cast<std::size_t>(inputs);
      const auto M = static_cast<std::size_t>(outputs);
      const auto inp = random_numbers<A>(static_cast<std::size_t>(rows) * K);
      const auto weight = random_numbers<A>(M * K);
      const auto bias = random_numbers<float>(M);
      std::vector<double> want = zeros(static_cast<std::size_t>(rows) * M);
      for (std::size_t i = 0; i < want.size(); ++i) {
        want[i] = bias.exact[i % M];
        for (std::size_t k = 0; k < K; ++k) {
          want[i] += inp.exact[i / M * K + k] * weight.exact[i % M * K + k];
        }
      }
      Device<float> out(want.size()), d_bias(bias.stored);
      Device<A> d_inp(inp.stored), d_weight(weight.stored), narrow(want.size());
      cuda::decode_linear(out.data(), d_inp.data(), d_weight.data(), d_bias.data(), false, rows,
                          inputs, outputs, {});
      const std::string at =
          "K" + std::to_string(inputs) + " rows " + std::to_string(rows) + name_of<A>();
      see(at, relative_error(out, want), kF32Limit);
      cuda::decode_linear(narrow.data(), d_inp.data(), d_weight.data(), d_bias.data(), true, rows,
                          inputs, outputs, {});
      for (double& value : want) gelu_slope(value, value);
      // 1 + tanh cancels where a sum is far below zero, and there are few others.
      see(at + " gelu", relative_error(narrow, want), limit_of<A>() + 2e-5);
    }
  }
}
void check_decode_linear() {
  check_decode_linear_of<Bf16>();
  check_decode_linear_of<float>();
}
const Case decode_linear("decode linear", check_decode_linear);

}  // namespace
}  // namespace check
