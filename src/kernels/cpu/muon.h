#pragma once
/// Muon's step on the CPU: momentum, Newton-Schulz by the backend's dense products, update.
///
/// Law: of a matrix and its transpose, the one with more rows than columns is iterated on, so that
/// X^T X has the smaller side and is a product that needs no packing; it alone is packed, for X
/// times it.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/scratch.h"
#include "kernels/kernels.h"

namespace kernels::cpu {

class MuonStep {
 public:
  /// `table`, `products` and `scratch` outlive this. Products are taken in `type`.
  MuonStep(DType type, const KernelTable& table, Products& products, Scratch& scratch);

  /// The door's operation (kernels.h) but for the copies. A product's bits may depend on the number
  /// of threads where those of the backend's products do; nothing else does.
  void run(View parameter, ConstView gradient, View m, const Muon& hyper, const Average& average);
  /// Upper bound of the scratch memory that run() takes.
  std::size_t scratch_bytes(std::int64_t rows, std::int64_t columns, std::int64_t parts) const;

 private:
  /// Where the matrices of one step lie.
  struct Memory;

  Memory lay_out(std::byte* base, std::int64_t rows, std::int64_t columns,
                 std::int64_t parts) const;
  void momentum(const Memory& memory, ConstView gradient, View m, const Muon& hyper);
  float inverse_norm(const Memory& memory, std::int64_t part) const;
  const float* orthogonalize(const Memory& memory, std::int64_t part, float factor);
  void polynomial(const Memory& memory, const std::byte* x);
  void update(const Memory& memory, const float* x, std::int64_t part, View parameter,
              const Muon& hyper, const Average& average);

  DType type_;
  const KernelTable& table_;
  const TypedKernels& typed_;
  Products& products_;
  Scratch& scratch_;
};

}  // namespace kernels::cpu
