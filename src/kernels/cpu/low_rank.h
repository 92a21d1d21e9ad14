#pragma once
/// The gradients of low-rank adapters on the products of a backend.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/scratch.h"
#include "kernels/kernels.h"

namespace kernels::cpu {

/// Backend::low_rank_backward(). Borrows the backend's products and scratch.
class LowRank {
 public:
  LowRank(DType type, Products& products, Scratch& scratch)
      : type_(type), products_(products), scratch_(scratch) {}

  void backward(View da, View db, ConstView dout, ConstView inp, ConstView a, ConstView b,
                float scale);
  /// Scratch bytes that backward() takes, the products' own included.
  std::size_t scratch_bytes(std::int64_t rows, std::int64_t inputs, std::int64_t outputs,
                            std::int64_t rank) const;

 private:
  /// Where the intermediate values lie in scratch: first a scaled factor in f32.
  struct Places {
    std::size_t packed;   ///< that factor as the products want it
    std::size_t product;  ///< inp A or dout B^T (N, R), in A
    std::size_t end;
  };
  Places places(std::int64_t rows, std::int64_t inputs, std::int64_t outputs,
                std::int64_t rank) const;
  const void* thin_product(std::byte* memory, const Places& at, ConstView x, ConstView factor,
                           bool transposed, float scale);

  DType type_;
  Products& products_;
  Scratch& scratch_;
};

}  // namespace kernels::cpu
