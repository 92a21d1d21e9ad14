#pragma once
/// Products of what a backend computes in, and the small things that all of its parts use.

#include <type_traits>

#include "base/error.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/products.h"

namespace kernels::cuda {

/// What products want of the sizes of their matrices: rows of 16 bytes in bf16.
inline constexpr std::int64_t kMultiple = 8;

inline int to_int(std::int64_t value) { return static_cast<int>(value); }
inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
/// Null where there is none.
inline float* f32(const base::View& view) { return view.empty() ? nullptr : view.f32(); }

/// A: f32 or bf16.
template <class A>
class TypedProducts {
  static constexpr bool kF32 = std::is_same_v<A, float>;

 public:
  TypedProducts(gpu::Queue& queue, bool tf32) : queue_(queue), products_(&queue), tf32_(tf32) {}
  Products& all() { return products_; }
  const Products& all() const { return products_; }

  /// Products::multiply() with operands in A. Throws Error for sizes that it does not take.
  void multiply(ProductShape shape, void* out, const A* left, const A* right,
                const A* bias = nullptr, A* pre = nullptr) {
    check(shape);
    products_.multiply(typed(shape), out, left, right, const_cast<A*>(bias), pre);
  }

  /// dweight (inputs, outputs) (+)= inp^T dout, and dbias, where it is given, (+)= dout's rows.
  /// inp: (rows, inputs). dout: (rows, outputs).
  void weight_gradient(float* dweight, float* dbias, const A* inp, const A* dout, int rows,
                       int inputs, int outputs, bool accumulate) {
    ProductShape shape{.rows = inputs,
                       .columns = outputs,
                       .depth = rows,
                       .left_transposed = true,
                       .f32_out = true,
                       .accumulate = accumulate};
    if (dbias == nullptr) return multiply(shape, dweight, inp, dout);
    shape.epilogue = ProductEpilogue::kBiasGradient;
    check(shape);
    // A bias gradient does not accumulate by itself.
    float* const own = accumulate ? bias_gradient_.take<float>(outputs) : dbias;
    products_.multiply(typed(shape), dweight, inp, dout, own, scratch(rows, outputs));
    if (accumulate) add_block(dbias, own, 1, outputs, outputs, &queue_);
  }
  /// dbias (outputs) += dout's rows.
  void add_rows(float* dbias, const A* dout, int rows, int outputs) {
    column_sums(dbias, dout, rows, outputs, scratch(rows, outputs), &queue_);
  }

  /// f32 numbers as what products take: themselves in f32.
  const A* converted(Buffer& buffer, const float* values, std::int64_t count) {
    if constexpr (kF32) {
      return values;
    } else {
      auto* narrow = buffer.take<A>(count);
      cuda::convert(narrow, values, static_cast<std::size_t>(count), &queue_);
      return narrow;
    }
  }

 private:
  static void check(const ProductShape& shape) {
    if (shape.columns % kMultiple != 0 ||
        (shape.right_transposed && shape.depth % kMultiple != 0) ||
        (shape.left_transposed ? shape.rows : shape.depth) % kMultiple != 0) {
      base::fail(
          "cuda: channels and padded vocabulary must be multiples of {}, got a product of "
          "{} x {} x {}",
          kMultiple, shape.rows, shape.depth, shape.columns);
    }
  }
  ProductShape typed(ProductShape shape) const {
    shape.f32 = kF32;
    shape.f32_out |= kF32;
    shape.tf32 = tf32_;
    return shape;
  }
  float* scratch(int rows, int columns) {
    return column_sums_.take<float>(
        static_cast<std::int64_t>(column_sums_scratch_floats(rows, columns)));
  }

  gpu::Queue& queue_;
  Products products_;
  bool tf32_;
  Buffer bias_gradient_{queue_}, column_sums_{queue_};
};

}  // namespace kernels::cuda
