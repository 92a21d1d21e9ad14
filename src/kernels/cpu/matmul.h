#pragma once
/// Dense products of one compute type A, behind one small interface: our own or oneDNN's.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/tensor.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/table.h"
#include "kernels/kernels.h"

namespace kernels::cpu {

/// c (m, n) = after(a (m, k) b + bias). Matrices are dense and row-major.
struct Multiplication {
  void* c;
  base::DType c_type;       ///< f32 or A; A with anything but After::kNone
  const void* a;            ///< A
  const std::byte* packed;  ///< b (k, n), as pack() left it
  const float* bias;        ///< (n), or null
  After after;
  void* pre;  ///< (m, n) A: written by kGelu unless null, read by kGeluGradient
  std::int64_t m;
  std::int64_t k;
  std::int64_t n;
};

/// c (m, n) = or += a^T b, and the column sums of b beside it.
struct TransposedMultiplication {
  float* c;
  bool add;            ///< false: c and column_sums are overwritten
  float* column_sums;  ///< (n) = or += column sums of b, or null
  const void* a;       ///< (k, m) A
  const void* b;       ///< (k, n) A
  std::int64_t m;
  std::int64_t k;
  std::int64_t n;
};

/// Products with f32 accumulation. An object keeps scratch memory and prepared products: one caller
/// at a time.
///
/// Law: an element's sum over k is taken in one order that does not depend on m, so that a row's
/// result does not depend on the rows beside it (oneDNN alone does not promise that).
class Products {
 public:
  virtual ~Products() = default;

  /// "own bf16 (amx)".
  virtual std::string description() const = 0;
  /// Bytes of the packed form of b (k, n).
  virtual std::size_t packed_bytes(std::int64_t k, std::int64_t n) const = 0;
  /// packed = b in A. source: b (k, n) f32, or its transpose (n, k) where `transposed`.
  virtual void pack(std::byte* packed, const float* source, std::int64_t k, std::int64_t n,
                    bool transposed) = 0;
  /// Rows of the source that pack_stripe takes at a time; 0: it cannot.
  virtual std::int64_t stripe_rows() const { return 0; }
  /// pack() for rows [begin, end) of the source alone, on the calling thread; begin is a multiple
  /// of stripe_rows(), end too or the last row. Stripes may be packed by several threads at once.
  virtual void pack_stripe(std::byte* /*packed*/, const float* /*source*/, std::int64_t /*k*/,
                           std::int64_t /*n*/, bool /*transposed*/, std::int64_t /*begin*/,
                           std::int64_t /*end*/) {}
  /// True where packed forms can be read again by unpack_column().
  virtual bool can_unpack() const { return false; }
  /// out (k) = column `column` of b, widened to f32.
  virtual void unpack_column(float* /*out*/, const std::byte* /*packed*/, std::int64_t /*k*/,
                             std::int64_t /*n*/, std::int64_t /*column*/) const {}
  virtual void multiply(const Multiplication& op) = 0;
  virtual void add_transposed(const TransposedMultiplication& op) = 0;
  /// Scratch bytes that multiply (m, k, n) or, where `transposed`, add_transposed will take.
  virtual std::size_t scratch_bytes(std::int64_t m, std::int64_t k, std::int64_t n,
                                    bool transposed) const = 0;
};

/// Products whose epilogues are passes of their own over what a bare product left.
class UnfusedProducts : public Products {
 public:
  UnfusedProducts(base::DType type, const KernelTable& table)
      : type_(type), table_(table), kernels_(type == base::DType::kF32 ? table.f32 : table.bf16) {}

  void multiply(const Multiplication& op) final;
  void add_transposed(const TransposedMultiplication& op) final;

 protected:
  base::DType type() const { return type_; }
  const KernelTable& table() const { return table_; }
  const TypedKernels& kernels() const { return kernels_; }

 private:
  /// c = a b + bias.
  virtual void multiply(void* c, base::DType c_type, const void* a, const std::byte* packed,
                        const float* bias, std::int64_t m, std::int64_t k, std::int64_t n) = 0;
  /// c (m, n) += a^T b.
  virtual void add_transposed(float* c, const void* a, const void* b, std::int64_t m,
                              std::int64_t k, std::int64_t n) = 0;

  base::DType type_;
  const KernelTable& table_;
  const TypedKernels& kernels_;
  Scratch sums_;
};

/// Our own blocked products, on any instruction set; bf16 is widened to f32 on the way in.
std::unique_ptr<Products> make_plain_products(base::DType type, const KernelTable& table);

/// Products with weights of 8 or 4 bits in the layout of quantized.h; their inputs are bf16.
/// `order`: of the weights' parameter, which decides the bits of kInt4.
std::unique_ptr<Products> make_integer_products(WeightFormat format, WeightOrder order, Isa isa);

/// Our own products by f32 FMA on packed panels, on any instruction set; bf16 is widened in cache.
std::unique_ptr<Products> make_panel_products(base::DType type, Isa isa);

/// Our own products of bf16 tiles: AMX's, or dot products from AVX512_BF16 on. Null for other types
/// and where the instruction set has neither.
std::unique_ptr<Products> make_tile_products(base::DType type, Isa isa);

/// The fastest of our own for a type on an instruction set; null where the plain ones have to
/// serve.
std::unique_ptr<Products> make_own_products(base::DType type, Isa isa);

/// oneDNN's products, capped at `isa`; null where oneDNN is not built in, or has no products of
/// `type` in hardware for `isa`. Throws Error when oneDNN already runs with another cap: it takes
/// one for the whole process.
std::unique_ptr<Products> make_onednn_products(base::DType type, Isa isa);

/// True where make_onednn_products can succeed.
bool built_with_onednn();

}  // namespace kernels::cpu
