#pragma once
/// Dense products of bf16 or f32 with f32 accumulation. On a device cuBLASLt computes them
/// (products_lt.cu); the tests bring a plain one for the host.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/gpu_types.h"

namespace kernels::cuda {

using gpu::Stream;

/// What happens to a product before it is stored, or is found beside it; `bias` and `pre` are of
/// the operands' type but for kBiasGradient.
enum class ProductEpilogue : std::uint8_t {
  kNone,
  kBias,            ///< + bias[column]
  kBiasGelu,        ///< + bias[column]: that is stored in `pre`; then GELU
  kGeluDerivative,  ///< times GELU'(pre)
  /// bias[column], f32, = the sum of right's rows: the gradient of a forward product's bias, beside
  /// that of its weight. `pre`: column_sums_scratch_floats(depth, columns) floats.
  kBiasGradient,
};

/// out (rows, columns) = left right, all row-major and dense.
/// left lies as (rows, depth), or as (depth, rows) where left_transposed; right as (depth,
/// columns), or as (columns, depth) where right_transposed. The three products of a linear layer
/// with weight (K, M) and of the head with weight (M, K):
///   out  = inp W        {N, M, K}                    or right_transposed
///   dinp = dout W^T     {N, K, M, right_transposed}  or plain
///   dW  += inp^T dout   {K, M, N, left_transposed, f32, accumulate, perhaps kBiasGradient}
struct ProductShape {
  int rows = 0;
  int columns = 0;
  int depth = 0;
  bool left_transposed = false;
  bool right_transposed = false;
  bool f32_out = false;     ///< out is f32, else what the operands are
  bool accumulate = false;  ///< out += (f32 results only)
  ProductEpilogue epilogue = ProductEpilogue::kNone;
  bool f32 = false;   ///< the operands are f32, and out with them; else bf16
  bool tf32 = false;  ///< f32 operands are rounded to TF32, 10 bits after the point
  bool operator==(const ProductShape&) const = default;
  bool stores_f32() const { return f32 || f32_out; }
};

/// Where a product's operands are.
struct ProductOperands {
  void* out = nullptr;
  const void* left = nullptr;
  const void* right = nullptr;
  void* bias = nullptr;  ///< written by kBiasGradient alone
  void* pre = nullptr;
  bool operator==(const ProductOperands&) const = default;
};

/// What was chosen for a shape.
struct ProductChoice {
  ProductShape shape;
  int tried = 0;            ///< algorithms that were timed
  double microseconds = 0;  ///< of the fastest with its epilogue; 0 where nothing was measured
  bool fused = true;        ///< the epilogue is the product's; else a kernel's after it
  /// The library's own description, which holds for one version of it.
  std::array<std::uint64_t, 8> algorithm = {};
};

/// Not copyable; one caller at a time. The rows of every matrix, as it lies, are multiples of 8
/// long.
class Products {
 public:
  /// Device memory that it takes for itself.
  static constexpr std::int64_t kWorkspaceBytes = std::int64_t{64} << 20;
  explicit Products(Stream stream);
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  /// Queues out = left right. At a shape's first call the library's candidates are timed on the
  /// caller's operands (with a copy of `out` where it accumulates), each with the epilogue in it
  /// and with a kernel after it, and the fastest is kept: that call waits for the device and takes
  /// memory for a moment. Which one wins can differ from run to run, and with it the order of sums;
  /// one choice gives the same bits every time. After some dozens of shapes, which is what
  /// evaluations of texts of all lengths come to, the library's first proposal is taken untimed.
  /// left, right: f32 or bf16 as the shape says, like bias (columns) and pre (rows, columns), which
  /// is written by kBiasGelu, read by kGeluDerivative. Throws gpu::Error where what is accumulated
  /// is not f32.
  void multiply(const ProductShape& shape, void* out, const void* left, const void* right,
                void* bias = nullptr, void* pre = nullptr);
  /// The same without the queue's passes, for the operation that multiply() queues.
  void give(const ProductShape& shape, ProductOperands at);
  /// Those that were timed or given.
  std::vector<ProductChoice> choices() const;
  /// The choices as text: a line that names library and device, a line a shape.
  std::string text() const;
  /// Shapes that `text` has are not measured, where the library can still do as it says. Returns
  /// why nothing was taken from it, empty where it was.
  std::string use(const std::string& text);

 private:
  struct State;
  /// Of text()'s first line.
  std::string library() const;

  std::unique_ptr<State> state_;
  Stream stream_;
  std::vector<ProductChoice> given_;
};

}  // namespace kernels::cuda
