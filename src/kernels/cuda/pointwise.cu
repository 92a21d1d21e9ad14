// GELU, conversion, and the sums of columns that biases' gradients are.

#include <algorithm>
#include <string>

#include "kernels/cuda/gelu.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kThreads = 256;
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

// ---- transposition ------------------------------------------------------------------------------

constexpr int kTile = 32;

/// A block turns a tile of 32 x 32 through shared memory: both sides see whole lines.
template <class A>
__global__ void __launch_bounds__(kThreads)
    transpose_tiles(A* out, const float* inp, int rows, int columns) {
  GPU_SHARED(tile, float[kTile][kTile + 1]);
  const int lane = static_cast<int>(threadIdx.x) % kTile;
  const int first = static_cast<int>(threadIdx.x) / kTile;
  const int c0 = static_cast<int>(blockIdx.x) * kTile;
  const int r0 = static_cast<int>(blockIdx.y) * kTile;
  for (int r = first; r < kTile; r += kThreads / kTile) {
    if (r0 + r < rows && c0 + lane < columns) {
      tile[r][lane] = inp[static_cast<std::size_t>(r0 + r) * columns + c0 + lane];
    }
  }
  gpu::sync_threads();
  for (int c = first; c < kTile; c += kThreads / kTile) {
    if (c0 + c < columns && r0 + lane < rows) {
      store(out[static_cast<std::size_t>(c0 + c) * rows + r0 + lane], tile[lane][c]);
    }
  }
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
template <class A>
void convert(A* out, const float* inp, std::size_t count, Stream stream) {
  map<Same, A, float>("convert", out, inp, nullptr, count, stream);
}

template <class A>
void transpose(A* out, const float* inp, int rows, int columns, Stream stream) {
  gpu::launch(transpose_tiles<A>,
              dim3(static_cast<unsigned>((columns + kTile - 1) / kTile),
                   static_cast<unsigned>((rows + kTile - 1) / kTile)),
              dim3(kThreads), 0, stream, out, inp, rows, columns);
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
template void convert(float*, const float*, std::size_t, Stream);
template void convert(Bf16*, const float*, std::size_t, Stream);
template void transpose(float*, const float*, int, int, Stream);
template void transpose(Bf16*, const float*, int, int, Stream);
template void column_sums(float*, const float*, int, int, float*, Stream);
template void column_sums(float*, const Bf16*, int, int, float*, Stream);

}  // namespace kernels::cuda
