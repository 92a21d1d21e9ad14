// The reference's Muon: the door's formula in double, a matrix at a time; and what both optimizers
// renew beside a parameter.

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/reference_class.h"

namespace kernels {
namespace {

/// A matrix of doubles, row-major.
struct Matrix {
  std::int64_t rows = 0, columns = 0;
  std::vector<double> values;

  Matrix(std::int64_t r, std::int64_t c)
      : rows(r), columns(c), values(static_cast<std::size_t>(r * c)) {}
  double& at(std::int64_t r, std::int64_t c) {
    return values[static_cast<std::size_t>(r * columns + c)];
  }
  double at(std::int64_t r, std::int64_t c) const {
    return values[static_cast<std::size_t>(r * columns + c)];
  }
};

Matrix transpose(const Matrix& a) {
  Matrix result(a.columns, a.rows);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t c = 0; c < a.columns; ++c) result.at(c, r) = a.at(r, c);
  }
  return result;
}

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix result(a.rows, b.columns);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t i = 0; i < a.columns; ++i) {
      for (std::int64_t c = 0; c < b.columns; ++c) result.at(r, c) += a.at(r, i) * b.at(i, c);
    }
  }
  return result;
}

/// X for a matrix u: what the iteration makes of u / |u|. S = X X^T is taken on the shorter side,
/// which gives the same X: (b S + c S S) X = X (b S' + c S' S') with S' = X^T X.
Matrix orthogonalized(Matrix u) {
  const bool tall = u.rows > u.columns;
  if (tall) u = transpose(u);
  double sum = 0;
  for (const double value : u.values) sum += value * value;
  const double norm = std::max(std::sqrt(sum), kMuonNormFloor);
  for (double& value : u.values) value /= norm;
  for (int i = 0; i < kMuonIterations; ++i) {
    const Matrix s = product(u, transpose(u));
    Matrix polynomial = product(s, s);
    for (std::size_t k = 0; k < s.values.size(); ++k) {
      polynomial.values[k] = kMuonB * s.values[k] + kMuonC * polynomial.values[k];
    }
    Matrix next = product(polynomial, u);
    for (std::size_t k = 0; k < u.values.size(); ++k) next.values[k] += kMuonA * u.values[k];
    u = std::move(next);
  }
  return tall ? transpose(u) : u;
}

}  // namespace

template <class A>
void Reference<A>::do_muon_step(View parameter, ConstView gradient, View m, const Muon& hyper,
                                const PackedWeight* copies, const Average& average) {
  const auto beta = static_cast<double>(hyper.momentum);
  const auto rate = static_cast<double>(hyper.learning_rate);
  const double keep = 1.0 - rate * static_cast<double>(hyper.weight_decay);
  const std::int64_t rows = parameter.dim(0);
  const std::int64_t stride = parameter.dim(1);
  const std::int64_t columns = stride / hyper.parts;
  for (std::int64_t part = 0; part < hyper.parts; ++part) {
    Matrix u(rows, columns);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        const std::int64_t i = r * stride + part * columns + c;
        const double g =
            static_cast<double>(gradient.f32()[i]) * static_cast<double>(hyper.gradient_scale);
        const double moment = beta * static_cast<double>(m.f32()[i]) + (1.0 - beta) * g;
        m.f32()[i] = static_cast<float>(moment);
        u.at(r, c) = (1.0 - beta) * g + beta * moment;
      }
    }
    const Matrix x = orthogonalized(std::move(u));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        float& p = parameter.f32()[r * stride + part * columns + c];
        p = static_cast<float>(keep * static_cast<double>(p) -
                               rate * static_cast<double>(hyper.scale) * x.at(r, c));
      }
    }
  }
  renew(parameter, copies, average);
}

template <class A>
std::size_t Reference<A>::do_muon_workspace_bytes(std::int64_t rows, std::int64_t columns,
                                                  std::int64_t parts) const {
  const std::int64_t small = std::min(rows, columns / parts);
  constexpr std::int64_t kMatrices = 4;  // u, its transpose, the next one, and that one's
  return static_cast<std::size_t>(kMatrices * rows * (columns / parts) + 3 * small * small) *
         sizeof(double);
}

template <class A>
void Reference<A>::renew(View parameter, const PackedWeight* copies, const Average& average) {
  if (copies != nullptr) do_pack_weight(*copies, parameter);
  if (average.values.empty()) return;
  for (std::int64_t i = 0; i < parameter.elements(); ++i) {
    float& kept = average.values.f32()[i];
    const auto mean = static_cast<double>(kept);
    const auto p = static_cast<double>(parameter.f32()[i]);
    kept = static_cast<float>(mean + (1.0 - average.decay) * (p - mean));
  }
}

template void Reference<float>::renew(View, const PackedWeight*, const Average&);
template void Reference<Bf16>::renew(View, const PackedWeight*, const Average&);
template void Reference<float>::do_muon_step(View, ConstView, View, const Muon&,
                                             const PackedWeight*, const Average&);
template void Reference<Bf16>::do_muon_step(View, ConstView, View, const Muon&, const PackedWeight*,
                                            const Average&);
template std::size_t Reference<float>::do_muon_workspace_bytes(std::int64_t, std::int64_t,
                                                               std::int64_t) const;
template std::size_t Reference<Bf16>::do_muon_workspace_bytes(std::int64_t, std::int64_t,
                                                              std::int64_t) const;

}  // namespace kernels
