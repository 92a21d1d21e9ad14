// GELU, conversion, and the sums of columns that biases' gradients are.

#include <algorithm>
#include <string>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kThreads = 256;
// sqrt(2 / pi) and the cubic's factor of the tanh GELU (arXiv:1606.08415).
constexpr float kScale = 0.7978845608F;
constexpr float kCubic = 0.044715F;

/// tanh(u) = 1 - 2 / (1 + e^2u), by base 2; exact limits at both ends.
__device__ inline float tanh_of(float u) {
  constexpr float kTwoLog2E = 2.885390082F;
  return 1 - gpu::divide_fast(2, 1 + gpu::exp2_fast(fminf(u * kTwoLog2E, 100)));
}

struct Gelu {
  __device__ float operator()(float z) const {
    return 0.5F * z * (1 + tanh_of(kScale * (z + kCubic * z * z * z)));
  }
};
struct GeluDerivative {
  __device__ float operator()(float z) const {
    const float t = tanh_of(kScale * (z + kCubic * z * z * z));
    return 0.5F * (1 + t) + 0.5F * z * (1 - t * t) * kScale * (1 + 3 * kCubic * z * z);
  }
};

/// out[i] = function(inp[i]), times factor[i] where there is one.
template <class Function, class Out, class In>
__global__ void __launch_bounds__(kThreads)
    map_vectors(Out* out, const In* inp, const In* factor, std::size_t vectors) {
  const std::size_t v = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (v >= vectors) return;
  float x[8];
  load8(x, inp + v * 8);
  GPU_UNROLL
  for (int i = 0; i < 8; ++i) x[i] = Function()(x[i]);
  if (factor != nullptr) {
    float f[8];
    load8(f, factor + v * 8);
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) x[i] *= f[i];
  }
  store8(out + v * 8, x);
}

struct Same {
  __device__ float operator()(float x) const { return x; }
};

template <class Function, class Out, class In>
void map(const char* what, Out* out, const In* inp, const In* factor, std::size_t count,
         Stream stream) {
  if (count % kVector != 0) {
    gpu::fail(std::string(what) + ": the number of elements must be a multiple of 8, got " +
              std::to_string(count));
  }
  const std::size_t vectors = count / kVector;
  const dim3 grid(static_cast<unsigned>((vectors + kThreads - 1) / kThreads));
  gpu::launch(map_vectors<Function, Out, In>, grid, dim3(kThreads), 0, stream, out, inp, factor,
              vectors);
}

// ---- column sums --------------------------------------------------------------------------------

constexpr int kWarps = kThreads / 32;
constexpr int kColumns = 32 * kVector;  // of a block
/// Rows that one block sums: the split is the shape's.
constexpr int kRows = 512;

template <class A>
__global__ void __launch_bounds__(kThreads)
    sum_rows(float* scratch, const A* values, int rows, int columns) {
  GPU_SHARED(all, float[kWarps][kColumns]);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int c = static_cast<int>(blockIdx.x) * kColumns + lane * 8;
  const int first = static_cast<int>(blockIdx.y) * kRows;
  const int last = gpu::minimum(rows, first + kRows);
  float sum[8] = {};
  if (c < columns) {
    GPU_UNROLL
    for (int n = first + warp; n < last; n += kWarps) {
      float x[8];
      load8(x, values + static_cast<std::size_t>(n) * columns + c);
      GPU_UNROLL
      for (int i = 0; i < 8; ++i) sum[i] += x[i];
    }
  }
  GPU_UNROLL
  for (int i = 0; i < 8; ++i) all[warp][i * 32 + lane] = sum[i];  // no two lanes in one bank
  gpu::sync_threads();
  const int own = static_cast<int>(threadIdx.x);
  const int column = static_cast<int>(blockIdx.x) * kColumns + own % 32 * 8 + own / 32;
  if (column >= columns) return;
  float total = 0;
  for (int w = 0; w < kWarps; ++w) total += all[w][own];
  scratch[static_cast<std::size_t>(blockIdx.y) * columns + column] = total;
}

__global__ void __launch_bounds__(kThreads)
    add_parts(float* sums, const float* scratch, int parts, int columns) {
  const int c = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (c >= columns) return;
  float sum = 0;
  for (int p = 0; p < parts; ++p) sum += scratch[static_cast<std::size_t>(p) * columns + c];
  sums[c] += sum;
}

int parts_of(int rows) { return (rows + kRows - 1) / kRows; }

}  // namespace

template <class A>
void gelu_forward(A* out, const A* pre, std::size_t count, Stream stream) {
  map<Gelu, A, A>("gelu_forward", out, pre, nullptr, count, stream);
}
template <class A>
void gelu_backward(A* dpre, const A* dout, const A* pre, std::size_t count, Stream stream) {
  map<GeluDerivative, A, A>("gelu_backward", dpre, pre, dout, count, stream);
}
void convert_to_bf16(Bf16* out, const float* inp, std::size_t count, Stream stream) {
  map<Same, Bf16, float>("convert_to_bf16", out, inp, nullptr, count, stream);
}

std::size_t column_sums_scratch_floats(int rows, int columns) {
  return static_cast<std::size_t>(parts_of(rows)) * static_cast<std::size_t>(columns);
}

template <class A>
void column_sums(float* sums, const A* values, int rows, int columns, float* scratch,
                 Stream stream) {
  if (columns % kVector != 0) {
    gpu::fail("column_sums: columns must be a multiple of 8, got " + std::to_string(columns));
  }
  const int parts = parts_of(rows);
  gpu::launch(sum_rows<A>,
              dim3(static_cast<unsigned>((columns + kColumns - 1) / kColumns),
                   static_cast<unsigned>(parts)),
              dim3(kThreads), 0, stream, scratch, values, rows, columns);
  gpu::launch(add_parts, dim3(static_cast<unsigned>((columns + kThreads - 1) / kThreads)),
              dim3(kThreads), 0, stream, sums, scratch, parts, columns);
}

template void gelu_forward(float*, const float*, std::size_t, Stream);
template void gelu_forward(Bf16*, const Bf16*, std::size_t, Stream);
template void gelu_backward(float*, const float*, const float*, std::size_t, Stream);
template void gelu_backward(Bf16*, const Bf16*, const Bf16*, std::size_t, Stream);
template void column_sums(float*, const float*, int, int, float*, Stream);
template void column_sums(float*, const Bf16*, int, int, float*, Stream);

}  // namespace kernels::cuda
