// Products: transpositions, epilogues and accumulation as products.h states them.

#include <array>
#include <cmath>

#include "check.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/products.h"

namespace check {
namespace {

using namespace kernels;  // cuda::, gpu::
using cuda::ProductEpilogue;
using cuda::ProductShape;

double gelu_of(double z, double& slope) {
  const double scale = std::sqrt(2 / M_PI);
  const double t = std::tanh(scale * (z + 0.044715 * z * z * z));
  slope = 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * scale * (1 + 3 * 0.044715 * z * z);
  return 0.5 * z * (1 + t);
}

template <class A>
struct Inputs {
  Numbers<A> left, right, bias, pre;
  Numbers<float> old;
};

/// The product in double, and what kBiasGelu stores beside it.
template <class A>
void want_of(const ProductShape& s, const Inputs<A>& in, std::vector<double>& out,
             std::vector<double>& pre) {
  const auto R = static_cast<std::size_t>(s.rows), M = static_cast<std::size_t>(s.columns),
             K = static_cast<std::size_t>(s.depth);
  for (std::size_t i = 0; i < R; ++i) {
    for (std::size_t j = 0; j < M; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < K; ++k) {
        sum += in.left.exact[s.left_transposed ? k * R + i : i * K + k] *
               in.right.exact[s.right_transposed ? j * K + k : k * M + j];
      }
      double slope = 0;
      const std::size_t at = i * M + j;
      if (s.accumulate) sum += in.old.exact[at];
      if (s.epilogue == ProductEpilogue::kBias || s.epilogue == ProductEpilogue::kBiasGelu) {
        sum += in.bias.exact[j];
      }
      pre[at] = sum;
      if (s.epilogue == ProductEpilogue::kBiasGelu) sum = gelu_of(sum, slope);
      if (s.epilogue == ProductEpilogue::kGeluDerivative) {
        gelu_of(in.pre.exact[at], slope);
        sum *= slope;
      }
      out[at] = sum;
    }
  }
}

/// A: of the operands, as the shape says.
template <class A>
void check_product(cuda::Products& products, const ProductShape& s, const char* what) {
  const auto R = static_cast<std::size_t>(s.rows), M = static_cast<std::size_t>(s.columns),
             K = static_cast<std::size_t>(s.depth);
  const double deviation = 1 / std::sqrt(static_cast<double>(s.depth));
  const Inputs<A> in{random_numbers<A>(R * K), random_numbers<A>(K * M, 0, deviation),
                     random_numbers<A>(M), random_numbers<A>(R * M), random_numbers<float>(R * M)};
  std::vector<double> want(R * M), want_pre(R * M);
  want_of(s, in, want, want_pre);
  Device<A> left(in.left.stored), right(in.right.stored), bias(in.bias.stored), pre(in.pre.stored),
      out(R * M);
  Device<float> out_f32(in.old.stored);
  if (s.epilogue == ProductEpilogue::kBiasGelu) pre.poison();
  if (!s.accumulate) out_f32.poison();
  void* to = s.stores_f32() ? static_cast<void*>(out_f32.data()) : out.data();
  const bool biased =
      s.epilogue == ProductEpilogue::kBias || s.epilogue == ProductEpilogue::kBiasGelu;
  const bool sums = s.epilogue == ProductEpilogue::kBiasGradient;
  Device<float> bias_gradient(M),
      scratch(sums ? cuda::column_sums_scratch_floats(s.depth, s.columns) : 0);
  void* const by_columns = sums     ? static_cast<void*>(bias_gradient.data())
                           : biased ? bias.data()
                                    : nullptr;
  products.multiply(s, to, left.data(), right.data(), by_columns,
                    sums ? static_cast<void*>(scratch.data()) : pre.data());
  const std::string at = std::string(what) + " " + std::to_string(s.rows) + " x " +
                         std::to_string(s.columns) + " x " + std::to_string(s.depth) +
                         (!s.f32   ? " bf16"
                          : s.tf32 ? " tf32"
                                   : " f32");
  // Two factors are rounded to 2^-11 each.
  const double f32_limit = s.tf32 ? 1e-3 : 1e-5;
  const double error = s.stores_f32() ? relative_error(out_f32, want) : relative_error(out, want);
  see(at, error, s.stores_f32() ? f32_limit : kBf16Limit);
  if (sums) {
    std::vector<double> want_sums(M, 0.0);
    for (std::size_t k = 0; k < K; ++k) {
      for (std::size_t j = 0; j < M; ++j) want_sums[j] += in.right.exact[k * M + j];
    }
    see(at + " bias gradient", relative_error(bias_gradient, want_sums), f32_limit);
  }
  // A device may take exact products for the smallest.
  const bool surely = !gpu::kOnDevice || s.depth >= 256;
  if (s.tf32 && surely) see(at + " is rounded", error > 2e-5 ? 0 : 1, 0);
  if (s.epilogue == ProductEpilogue::kBiasGelu) {
    see(at + " pre", relative_error(pre, want_pre), s.f32 ? f32_limit : kBf16Limit);
  }
}

template <class A>
void check_products(bool tf32 = false) {
  cuda::Products products({});
  std::vector<std::array<int, 3>> sizes = {{8, 16, 24}, {40, 8, 136}};
  if (size() == Size::kFull) sizes.insert(sizes.end(), {{512, 768, 256}, {264, 1000, 504}});
  for (const auto& [rows, columns, depth] : sizes) {
    ProductShape plain{rows, columns, depth};
    plain.f32 = sizeof(A) == 4;
    plain.tf32 = tf32;
    ProductShape s = plain;
    check_product<A>(products, s, "plain");
    s.epilogue = ProductEpilogue::kBias;
    check_product<A>(products, s, "bias");
    s.epilogue = ProductEpilogue::kBiasGelu;
    check_product<A>(products, s, "bias gelu");
    s = plain;
    s.right_transposed = true;
    check_product<A>(products, s, "right transposed");
    s.epilogue = ProductEpilogue::kGeluDerivative;
    check_product<A>(products, s, "gelu derivative");
    s = plain;
    s.left_transposed = s.f32_out = true;
    check_product<A>(products, s, "weight gradient");
    s.accumulate = true;
    check_product<A>(products, s, "accumulated");
    check_product<A>(products, s, "accumulated again");
    s.epilogue = ProductEpilogue::kBiasGradient;
    check_product<A>(products, s, "with the bias's");
    s.accumulate = false;
    check_product<A>(products, s, "with the bias's, anew");
  }
}
const Case products("products", [] { check_products<Bf16>(); });
const Case f32_products("products of f32", [] { check_products<float>(); });
const Case tf32_products("products of f32 in tf32", [] { check_products<float>(true); });

}  // namespace
}  // namespace check
