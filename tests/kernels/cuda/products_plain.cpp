// Products for the host: loops. Takes products_lt.cu's place where there is no device.

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "kernels/cuda/products.h"

#include "kernels/cuda/gpu.h"

namespace kernels::cuda {

/// There is nothing to choose; what was asked for is kept as if there were.
struct Products::State {
  std::vector<ProductChoice> seen;
};

Products::Products(Stream stream) : state_(std::make_unique<State>()), stream_(stream) {}
Products::~Products() = default;
std::vector<ProductChoice> Products::choices() const { return state_->seen; }
std::string Products::library() const { return "plain loops"; }

namespace {

double gelu(double z, double& slope) {
  const double scale = std::sqrt(2 / std::numbers::pi);
  const double t = std::tanh(scale * (z + 0.044715 * z * z * z));
  slope = 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * scale * (1 + 3 * 0.044715 * z * z);
  return 0.5 * z * (1 + t);
}

/// To 10 bits after the point, to the nearest and to even between two.
float round_to_tf32(float x) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  return std::isfinite(x) ? std::bit_cast<float>((u + 0xFFFU + (u >> 13 & 1U)) & ~0x1FFFU) : x;
}

double number(float x) { return static_cast<double>(x); }
double number(gpu::Bf16 x) { return static_cast<double>(gpu::to_float(x)); }
void store(float& to, double x) { to = static_cast<float>(x); }
void store(gpu::Bf16& to, double x) { to = gpu::to_bf16(static_cast<float>(x)); }

/// kBiasGradient's bias.
template <class A>
void sum_rows(const ProductShape& s, const ProductOperands& operands) {
  const auto* right = static_cast<const A*>(operands.right);
  for (int j = 0; j < s.columns; ++j) {
    double sum = 0;
    for (int k = 0; k < s.depth; ++k) {
      sum += number(s.right_transposed ? right[std::ptrdiff_t{j} * s.depth + k]
                                       : right[std::ptrdiff_t{k} * s.columns + j]);
    }
    store(static_cast<float*>(operands.bias)[j], sum);
  }
}

/// `left`, `right`, `bias` and `pre` are A.
template <class A>
void compute(const ProductShape& s, const ProductOperands& operands) {
  const auto* left = static_cast<const A*>(operands.left);
  const auto* right = static_cast<const A*>(operands.right);
  const bool has_bias =
      s.epilogue == ProductEpilogue::kBias || s.epilogue == ProductEpilogue::kBiasGelu;
  const auto* bias = has_bias ? static_cast<const A*>(operands.bias) : nullptr;
  auto* pre = static_cast<A*>(operands.pre);
  if (s.epilogue == ProductEpilogue::kBiasGradient) sum_rows<A>(s, operands);
  const auto factor = [&](A x) {
    return s.tf32 ? number(round_to_tf32(static_cast<float>(number(x)))) : number(x);
  };
  for (int i = 0; i < s.rows; ++i) {
    for (int j = 0; j < s.columns; ++j) {
      const std::ptrdiff_t at = std::ptrdiff_t{i} * s.columns + j;
      double sum = 0;
      for (int k = 0; k < s.depth; ++k) {
        sum += factor(s.left_transposed ? left[std::ptrdiff_t{k} * s.rows + i]
                                        : left[std::ptrdiff_t{i} * s.depth + k]) *
               factor(s.right_transposed ? right[std::ptrdiff_t{j} * s.depth + k]
                                         : right[std::ptrdiff_t{k} * s.columns + j]);
      }
      double slope = 0;
      if (bias != nullptr) sum += number(bias[j]);
      if (s.epilogue == ProductEpilogue::kBiasGelu) {
        store(pre[at], sum);
        sum = gelu(sum, slope);
      }
      if (s.epilogue == ProductEpilogue::kGeluDerivative) {
        gelu(number(pre[at]), slope);
        sum *= slope;
      }
      if (s.stores_f32()) {
        float& to = static_cast<float*>(operands.out)[at];
        store(to, sum + (s.accumulate ? number(to) : 0));
      } else {
        store(static_cast<gpu::Bf16*>(operands.out)[at], sum);
      }
    }
  }
}

}  // namespace

void Products::give(const ProductShape& s, ProductOperands operands) {
  const auto is_this = [&](const ProductChoice& choice) { return choice.shape == s; };
  if (std::ranges::none_of(state_->seen, is_this)) {
    const auto given = std::ranges::find_if(given_, is_this);
    state_->seen.push_back(given != given_.end() ? *given : ProductChoice{.shape = s});
  }
  s.f32 ? compute<float>(s, operands) : compute<gpu::Bf16>(s, operands);
}

}  // namespace kernels::cuda
