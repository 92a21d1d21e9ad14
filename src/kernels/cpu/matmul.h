#pragma once
/// Dense products of one compute type A, behind one small interface: oneDNN's or our own.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/tensor.h"
#include "kernels/cpu/isa.h"

namespace kernels::cpu {

/// Products c = a b with f32 accumulation. Matrices are dense and row-major.
/// An object keeps scratch memory and prepared products: one caller at a time.
class Products {
 public:
  virtual ~Products() = default;

  /// "oneDNN bf16 (amx)".
  virtual std::string description() const = 0;
  /// Bytes of the packed form of b (k, n).
  virtual std::size_t packed_bytes(std::int64_t k, std::int64_t n) const = 0;
  /// packed = b in A. source: b (k, n) f32, or its transpose (n, k) where `transposed`.
  virtual void pack(std::byte* packed, const float* source, std::int64_t k, std::int64_t n,
                    bool transposed) = 0;
  /// c (m, n) = a (m, k) b + bias. c: f32 or A. a: A. bias: (n), or null.
  virtual void multiply(void* c, base::DType c_type, const void* a, const std::byte* packed,
                        const float* bias, std::int64_t m, std::int64_t k, std::int64_t n) = 0;
  /// c (m, n) += a^T b. c: f32. a: (k, m) A. b: (k, n) A.
  virtual void add_transposed(float* c, const void* a, const void* b, std::int64_t m,
                              std::int64_t k, std::int64_t n) = 0;
  /// Scratch bytes that multiply (m, k, n) or, where `transposed`, add_transposed will take.
  virtual std::size_t scratch_bytes(std::int64_t m, std::int64_t k, std::int64_t n,
                                    bool transposed) const = 0;
};

/// Our own blocked products, on any instruction set; bf16 is widened to f32 on the way in.
std::unique_ptr<Products> make_plain_products(base::DType type, const KernelTable& table);

/// oneDNN's products, capped at `isa`; null where oneDNN is not built in, or has no products of
/// `type` in hardware for `isa`. Throws Error when oneDNN already runs with another cap: it takes
/// one for the whole process.
std::unique_ptr<Products> make_onednn_products(base::DType type, Isa isa);

/// True where make_onednn_products can succeed.
bool built_with_onednn();

}  // namespace kernels::cpu
