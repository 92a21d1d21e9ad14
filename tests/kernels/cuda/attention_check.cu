// Attention, forward and backward, of training and of generation.

#include <cmath>

#include "base/rng.h"
#include "check.h"
#include "kernels/cuda/launchers.h"

namespace check {
namespace {

using namespace kernels;  // cuda::, gpu::

struct Shape {
  int batch, length, heads, head_size;
  std::string text() const {
    return "B" + std::to_string(batch) + " T" + std::to_string(length) + " H" +
           std::to_string(heads) + " D" + std::to_string(head_size);
  }
  std::size_t rows() const { return static_cast<std::size_t>(batch) * length; }
  std::size_t channels() const { return static_cast<std::size_t>(heads) * head_size; }
};

struct Truth {
  std::vector<double> out, lse, dqkv;
};

/// What dropout multiplies the probability of row n H + h for key `key` with.
double kept(const cuda::Mask& mask, std::size_t row, std::size_t key) {
  if (mask.threshold == 0) return 1;
  const std::uint64_t row_key = base::random_bits(mask.key, 0, mask.first_row + row);
  const auto index = static_cast<std::uint32_t>(key);
  return base::random_bits32(row_key, index) < mask.threshold ? 0 : static_cast<double>(mask.scale);
}

/// One head of one sequence, as the formulas say, in double.
void one_head(Truth& truth, const std::vector<double>& qkv, const std::vector<double>& dout,
              const Shape& s, const cuda::Mask& mask, int b, int h) {
  const std::size_t C = s.channels();
  const auto T = static_cast<std::size_t>(s.length);
  const auto D = static_cast<std::size_t>(s.head_size);
  const std::size_t row0 = b * T;
  const auto in = [&](std::size_t t, std::size_t part) {
    return &qkv[(row0 + t) * 3 * C + part * C + h * D];
  };
  const auto gradient = [&](std::size_t t, std::size_t part) {
    return &truth.dqkv[(row0 + t) * 3 * C + part * C + h * D];
  };
  const double root = 1 / std::sqrt(static_cast<double>(s.head_size));
  std::vector<double> p(T), dp(T), keep(T);
  for (std::size_t t = 0; t < T; ++t) {
    double top = -INFINITY, sum = 0, mean = 0;
    double* out = &truth.out[(row0 + t) * C + h * D];
    const std::size_t mask_row = (row0 + t) * static_cast<std::size_t>(s.heads) + h;
    const double* above = &dout[(row0 + t) * C + h * D];
    for (std::size_t j = 0; j <= t; ++j) {
      p[j] = dp[j] = 0;
      for (std::size_t d = 0; d < D; ++d) {
        p[j] += in(t, 0)[d] * in(j, 1)[d] * root;
        dp[j] += above[d] * in(j, 2)[d];
      }
      keep[j] = kept(mask, mask_row, j);
      dp[j] *= keep[j];
      top = std::max(top, p[j]);
    }
    for (std::size_t j = 0; j <= t; ++j) sum += p[j] = std::exp(p[j] - top);
    truth.lse[(static_cast<std::size_t>(b) * s.heads + h) * T + t] = top + std::log(sum);
    for (std::size_t j = 0; j <= t; ++j) mean += (p[j] /= sum) * dp[j];
    for (std::size_t j = 0; j <= t; ++j) {
      const double ds = p[j] * (dp[j] - mean) * root;
      for (std::size_t d = 0; d < D; ++d) {
        out[d] += p[j] * keep[j] * in(j, 2)[d];
        gradient(t, 0)[d] += ds * in(j, 1)[d];
        gradient(j, 1)[d] += ds * in(t, 0)[d];
        gradient(j, 2)[d] += p[j] * keep[j] * above[d];
      }
    }
  }
}

Truth truth_of(const std::vector<double>& qkv, const std::vector<double>& dout, const Shape& s,
               const cuda::Mask& mask) {
  Truth truth{std::vector<double>(dout.size(), 0),
              std::vector<double>(s.rows() * static_cast<std::size_t>(s.heads), 0),
              std::vector<double>(qkv.size(), 0)};
  for (int b = 0; b < s.batch; ++b) {
    for (int h = 0; h < s.heads; ++h) one_head(truth, qkv, dout, s, mask, b, h);
  }
  return truth;
}

/// `part` of q, k, v out of (N, 3C).
std::vector<double> part_of(const std::vector<double>& qkv, std::size_t channels,
                            std::size_t part) {
  std::vector<double> values;
  for (std::size_t i = 0; i < qkv.size(); ++i) {
    if (i / channels % 3 == part) values.push_back(qkv[i]);
  }
  return values;
}

template <class A>
constexpr bool kIsF32 = sizeof(A) == 4;

/// `deviation` of q and k: 4 makes the softmax pick few keys, with scores of some 16.
template <class A>
void check_attention(const Shape& s, double deviation, const cuda::Mask& mask = {}) {
  auto qkv = random_numbers<A>(s.rows() * 3 * s.channels(), 0, deviation);
  const auto dout = random_numbers<A>(s.rows() * s.channels());
  const Truth truth = truth_of(qkv.exact, dout.exact, s, mask);
  Device<A> device_qkv(qkv.stored), out(dout.exact.size()), device_dout(dout.stored);
  Device<A> dqkv(qkv.exact.size());
  Device<float> lse(truth.lse.size()), delta(truth.lse.size());
  const cuda::AttentionShape shape{.batch = s.batch,
                                   .length = s.length,
                                   .heads = s.heads,
                                   .head_size = s.head_size,
                                   .scale = 1 / std::sqrt(static_cast<float>(s.head_size)),
                                   .mask = mask};
  cuda::attention_forward(out.data(), lse.data(), device_qkv.data(), shape, {});
  const std::string at = s.text() + (kIsF32<A> ? " f32 " : " bf16 ");
  see(at + "out", relative_error(out, truth.out), kIsF32<A> ? 5 * kF32Limit : kBf16Limit);
  see(at + "lse", relative_error(lse, truth.lse), 1e-5);
  const auto backward = [&] {
    cuda::attention_backward(dqkv.data(), delta.data(), device_dout.data(), device_qkv.data(),
                             out.data(), lse.data(), shape, {});
  };
  backward();
  const std::vector<double> got = as_doubles(dqkv.host());
  const char* const names[] = {"dq", "dk", "dv"};
  for (std::size_t part = 0; part < 3; ++part) {
    // A single key has no gradient of scores but rounding.
    const std::vector<double> want = part_of(truth.dqkv, s.channels(), part);
    if (s.length == 1 && part < 2) {
      see(at + names[part] + " of one key", relative_error(part_of(got, s.channels(), part), want),
          (kIsF32<A> ? 1e-5 : 0.2) * deviation * std::sqrt(static_cast<double>(want.size())));
    } else {
      see(at + names[part], relative_error(part_of(got, s.channels(), part), want),
          kIsF32<A> ? 1e-5 : 1e-2);
    }
  }
  const std::vector<A> first = dqkv.host();
  dqkv.poison();
  backward();
  see(at + "same bits twice", same_bits(dqkv, first) ? 0 : 1, 0);
}

void check_shapes() {
  std::vector<Shape> shapes = {{1, 1, 1, 64}, {2, 17, 2, 64}, {1, 65, 1, 64}, {1, 33, 1, 128}};
  if (size() >= Size::kHost) {
    shapes.insert(shapes.end(),
                  {{1, 64, 2, 64}, {1, 128, 1, 64}, {2, 200, 1, 64}, {1, 130, 1, 128}});
  }
  if (size() == Size::kFull) {
    shapes.insert(shapes.end(), {{2, 129, 3, 64},
                                 {3, 255, 2, 64},
                                 {1, 1024, 2, 64},
                                 {2, 333, 2, 128},
                                 {1, 511, 1, 128},
                                 {1, 1025, 1, 64}});
  }
  for (const Shape& s : shapes) check_attention<Bf16>(s, 1);
}
const Case all_shapes("attention: shapes", check_shapes);

void check_f32_shapes() {
  std::vector<Shape> shapes = {{1, 1, 1, 64}, {2, 17, 2, 20}, {1, 65, 1, 64}, {1, 33, 1, 128}};
  if (size() >= Size::kHost) {
    shapes.insert(shapes.end(), {{1, 64, 2, 8}, {2, 100, 1, 32}, {1, 130, 1, 80}});
  }
  if (size() == Size::kFull) {
    shapes.insert(shapes.end(), {{2, 333, 2, 128}, {1, 1024, 2, 64}, {3, 255, 5, 48}});
  }
  for (const Shape& s : shapes) check_attention<float>(s, 1);
}
const Case f32_shapes("attention: shapes in f32", check_f32_shapes);

void check_dropout() {
  const cuda::Mask quarter{.threshold = 1U << 30, .scale = 4.0F / 3, .key = 77, .first_row = 1000};
  check_attention<Bf16>({2, 70, 2, 64}, 1, quarter);
  check_attention<float>({2, 70, 2, 64}, 1, quarter);
  check_attention<float>({1, 35, 1, 128}, 1, quarter);
}
const Case dropout("attention: dropout", check_dropout);

void check_sharp() {
  const Shape shape{1, size() == Size::kSmall ? 66 : 190, 1, 64};
  check_attention<Bf16>(shape, 4);
  check_attention<float>(shape, 4);
}
const Case sharp("attention: large scores", check_sharp);

/// A row at some position of each of several caches.
template <class A>
void check_cached(bool appends) {
  std::vector<Shape> shapes = {{2, 9, 2, 64}, {1, 40, 1, 128}, {2, 12, 3, 24}};
  if (size() != Size::kSmall) shapes.push_back({2, 300, 1, 64});  // groups with several keys
  if (size() == Size::kFull) shapes.insert(shapes.end(), {{3, 1024, 12, 64}, {1, 777, 5, 128}});
  for (const Shape& s : shapes) {
    const std::size_t C = s.channels();
    const auto D = static_cast<std::size_t>(s.head_size);
    const auto T = static_cast<std::size_t>(s.length);
    const auto H = static_cast<std::size_t>(s.heads);
    const auto qkv = random_numbers<A>(static_cast<std::size_t>(s.batch) * 3 * C);
    auto k = random_numbers<A>(s.rows() * C);
    auto v = random_numbers<A>(s.rows() * C);
    Device<A> out(static_cast<std::size_t>(s.batch) * C), d_qkv(qkv.stored), d_k(k.stored),
        d_v(v.stored);
    std::vector<cuda::CachedRow<A>> rows;
    std::vector<std::int32_t> positions;
    std::vector<double> want(static_cast<std::size_t>(s.batch) * C, 0), p(T);
    for (std::size_t b = 0; b < static_cast<std::size_t>(s.batch); ++b) {
      const std::size_t cache = b * T * C;
      const int position = b == 0 ? s.length - 1 : below(s.length);
      rows.push_back(
          {d_k.data() + cache, d_v.data() + cache, s.length, static_cast<std::int64_t>(b)});
      positions.push_back(position);
      for (std::size_t h = 0; h < H; ++h) {
        const std::size_t own = b * 3 * C + h * D;
        const std::size_t head = cache + h * T * D;
        double sum = 0;
        for (std::size_t j = 0; j <= static_cast<std::size_t>(position); ++j) {
          p[j] = 0;
          for (std::size_t d = 0; d < D; ++d) {
            if (j == static_cast<std::size_t>(position)) {  // its own come from qkv
              k.exact[head + j * D + d] = qkv.exact[own + C + d];
              v.exact[head + j * D + d] = qkv.exact[own + 2 * C + d];
            }
            p[j] += qkv.exact[own + d] * k.exact[head + j * D + d];
          }
          sum += p[j] = std::exp(p[j] / std::sqrt(static_cast<double>(D)));
        }
        for (std::size_t j = 0; j <= static_cast<std::size_t>(position); ++j) {
          for (std::size_t d = 0; d < D; ++d) {
            want[b * C + h * D + d] += p[j] / sum * v.exact[head + j * D + d];
          }
        }
      }
    }
    Device<cuda::CachedRow<A>> d_rows(rows);
    Device<std::int32_t> d_positions(positions);
    if (!appends) {
      cuda::append_to_caches(d_rows.data(), d_positions.data(), d_qkv.data(), s.batch, s.heads,
                             s.head_size, {});
    }
    cuda::attention_cached(out.data(), d_qkv.data(), d_rows.data(), d_positions.data(), s.batch,
                           s.heads, s.head_size, appends, {});
    const std::string at = s.text() + (kIsF32<A> ? " f32" : " bf16");
    see(at, relative_error(out, want), kIsF32<A> ? kF32Limit : kBf16Limit);
    see(at + " keys", relative_error(d_k, k.exact), 0);
    see(at + " values", relative_error(d_v, v.exact), 0);
  }
}
const Case cached("attention: cached", [] {
  for (const bool appends : {false, true}) {
    check_cached<Bf16>(appends);
    check_cached<float>(appends);
  }
});

}  // namespace
}  // namespace check
