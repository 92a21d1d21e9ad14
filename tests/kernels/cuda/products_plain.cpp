// Products for the host: loops. Takes products_lt.cu's place where there is no device.

#include <algorithm>
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

}  // namespace

void Products::give(const ProductShape& s, ProductOperands operands) {
  const auto [out, left, right, bias, pre] = operands;
  const auto is_this = [&](const ProductChoice& choice) { return choice.shape == s; };
  if (std::ranges::none_of(state_->seen, is_this)) {
    const auto given = std::ranges::find_if(given_, is_this);
    state_->seen.push_back(given != given_.end() ? *given : ProductChoice{.shape = s});
  }
  for (int i = 0; i < s.rows; ++i) {
    for (int j = 0; j < s.columns; ++j) {
      const std::ptrdiff_t at = std::ptrdiff_t{i} * s.columns + j;
      double sum = 0;
      for (int k = 0; k < s.depth; ++k) {
        const Bf16 a = s.left_transposed ? left[std::ptrdiff_t{k} * s.rows + i]
                                         : left[std::ptrdiff_t{i} * s.depth + k];
        const Bf16 b = s.right_transposed ? right[std::ptrdiff_t{j} * s.depth + k]
                                          : right[std::ptrdiff_t{k} * s.columns + j];
        sum += static_cast<double>(gpu::to_float(a)) * static_cast<double>(gpu::to_float(b));
      }
      double slope = 0;
      if (bias != nullptr) sum += static_cast<double>(gpu::to_float(bias[j]));
      if (s.epilogue == ProductEpilogue::kBiasGelu) {
        pre[at] = gpu::to_bf16(static_cast<float>(sum));
        sum = gelu(sum, slope);
      }
      if (s.epilogue == ProductEpilogue::kGeluDerivative) {
        gelu(static_cast<double>(gpu::to_float(pre[at])), slope);
        sum *= slope;
      }
      if (s.f32_out) {
        auto* to = static_cast<float*>(out) + at;
        *to = static_cast<float>(sum + (s.accumulate ? static_cast<double>(*to) : 0));
      } else {
        static_cast<Bf16*>(out)[at] = gpu::to_bf16(static_cast<float>(sum));
      }
    }
  }
}

}  // namespace kernels::cuda
