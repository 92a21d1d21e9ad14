// Our own products: parts of c are spread over the threads, each packs the operands it needs.
// Law: how c is cut depends on its shape alone, so results do not depend on the threads.

#include <algorithm>

#include "base/parallel.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/scratch.h"

namespace kernels::cpu {
namespace {

using base::DType;

class PlainProducts final : public UnfusedProducts {
 public:
  PlainProducts(DType type, const KernelTable& table)
      : UnfusedProducts(type, table),
        description_(std::string("own ") + std::string(base::name_of(type)) + " products" +
                     (type == DType::kBf16 ? " in f32" : "")) {}

  std::string description() const override { return description_; }

  std::size_t packed_bytes(std::int64_t k, std::int64_t n) const override {
    return static_cast<std::size_t>(k * n) * base::size_of(type());
  }

  void pack(std::byte* packed, const float* source, std::int64_t k, std::int64_t n,
            bool transposed) override {
    if (!transposed) {
      base::parallel_ranges(k * n, [&](std::int64_t begin, std::int64_t end) {
        kernels().convert_to(packed, source, begin, end);
      });
      return;
    }
    constexpr std::int64_t kRows = 64;
    base::parallel_for((n + kRows - 1) / kRows, [&](std::int64_t block) {
      kernels().transpose_to(packed, source, n, k, block * kRows, std::min((block + 1) * kRows, n));
    });
  }

  bool can_unpack() const override { return true; }
  void unpack_column(float* out, const std::byte* packed, std::int64_t k, std::int64_t n,
                     std::int64_t column) const override {
    for (std::int64_t row = 0; row < k; ++row) {
      const std::int64_t i = row * n + column;
      out[row] = type() == DType::kF32
                     ? reinterpret_cast<const float*>(packed)[i]
                     : base::to_f32(reinterpret_cast<const base::Bf16*>(packed)[i]);
    }
  }

  std::size_t scratch_bytes(std::int64_t /*m*/, std::int64_t /*k*/, std::int64_t /*n*/,
                            bool /*transposed*/) const override {
    return static_cast<std::size_t>(base::thread_count() * kProductScratch) * sizeof(float);
  }

 private:
  void multiply(void* c, DType c_type, const void* a, const std::byte* packed, const float* bias,
                std::int64_t m, std::int64_t k, std::int64_t n) override {
    run({.c = c,
         .a = a,
         .b = packed,
         .bias = bias,
         .m = m,
         .n = n,
         .k = k,
         .a_row_stride = k,
         .a_column_stride = 1,
         .c_is_f32 = c_type == DType::kF32,
         .accumulate = false});
  }

  void add_transposed(float* c, const void* a, const void* b, std::int64_t m, std::int64_t k,
                      std::int64_t n) override {
    run({.c = c,
         .a = a,
         .b = b,
         .bias = nullptr,
         .m = m,
         .n = n,
         .k = k,
         .a_row_stride = 1,
         .a_column_stride = m,
         .c_is_f32 = true,
         .accumulate = true});
  }

  void run(const Product& product) {
    const std::int64_t row_parts = (product.m + kProductRows - 1) / kProductRows;
    const std::int64_t column_parts = (product.n + kProductColumns - 1) / kProductColumns;
    auto* scratch = static_cast<float*>(scratch_.take(scratch_bytes(0, 0, 0, false)));
    base::parallel_for_dynamic(row_parts * column_parts, [&](std::int64_t part) {
      const std::int64_t m = part % row_parts * kProductRows;
      const std::int64_t n = part / row_parts * kProductColumns;
      kernels().product_part(product, m, std::min(m + kProductRows, product.m), n,
                             std::min(n + kProductColumns, product.n),
                             scratch + base::thread_index() * kProductScratch);
    });
  }

  std::string description_;
  Scratch scratch_;
};

}  // namespace

std::unique_ptr<Products> make_plain_products(DType type, const KernelTable& table) {
  return std::make_unique<PlainProducts>(type, table);
}

}  // namespace kernels::cpu
