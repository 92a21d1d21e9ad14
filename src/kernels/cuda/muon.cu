// What Muon and low-rank adapters have beside their products: passes over matrices, an element a
// thread. They are small beside a step, so that plain indexing serves.

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kThreads = 256;

dim3 grid_of(std::size_t count) {
  return dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads));
}
__device__ inline std::size_t own_index() {
  return static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
}

__global__ void __launch_bounds__(kThreads)
    momentum_elements(float* update, float* m, const float* gradient, float scale, float beta,
                      std::size_t count) {
  const std::size_t i = own_index();
  if (i >= count) return;
  const float g = scale * gradient[i];
  const float moment = beta * m[i] + (1 - beta) * g;
  m[i] = moment;
  update[i] = (1 - beta) * g + beta * moment;
}

/// Where element (r, c) of a part lies in x: turned where the part is wide.
__device__ inline std::size_t place_in_x(int r, int c, int rows, int columns) {
  return rows < columns ? static_cast<std::size_t>(c) * rows + r
                        : static_cast<std::size_t>(r) * columns + c;
}

__global__ void __launch_bounds__(kThreads)
    gather_elements(float* x, const float* update, int rows, int columns, int stride, int first) {
  const std::size_t i = own_index();
  if (i >= static_cast<std::size_t>(rows) * columns) return;
  const int r = static_cast<int>(i / static_cast<std::size_t>(columns));
  const int c = static_cast<int>(i % static_cast<std::size_t>(columns));
  x[place_in_x(r, c, rows, columns)] = update[static_cast<std::size_t>(r) * stride + first + c];
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    normalize_elements(A* out, const float* x, const double* squares, float floor,
                       std::size_t count) {
  const std::size_t i = own_index();
  if (i >= count) return;
  const double norm = sqrt(*squares);
  // A NaN goes through: it must not be hidden.
  store(out[i], x[i] * static_cast<float>(1.0 / (norm < floor ? floor : norm)));
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    polynomial_elements(A* out, const float* gram, const float* square, int n, float a, float b,
                        float c) {
  const std::size_t i = own_index();
  const auto size = static_cast<std::size_t>(n);
  if (i >= size * size) return;
  store(out[i], b * gram[i] + c * square[i] + (i / size == i % size ? a : 0.0F));
}

__global__ void __launch_bounds__(kThreads)
    apply_elements(float* parameter, float* average, const float* x, int rows, int columns,
                   int stride, int first, float keep, float step_size, float average_rate) {
  const std::size_t i = own_index();
  if (i >= static_cast<std::size_t>(rows) * columns) return;
  const int r = static_cast<int>(i / static_cast<std::size_t>(columns));
  const int c = static_cast<int>(i % static_cast<std::size_t>(columns));
  const std::size_t at = static_cast<std::size_t>(r) * stride + first + c;
  const float p = keep * parameter[at] - step_size * x[place_in_x(r, c, rows, columns)];
  parameter[at] = p;
  if (average != nullptr) average[at] += average_rate * (p - average[at]);
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    widen_elements(A* out, const float* inp, int rows, int columns, int out_rows, int out_columns,
                   float scale) {
  const std::size_t i = own_index();
  if (i >= static_cast<std::size_t>(out_rows) * out_columns) return;
  const int r = static_cast<int>(i / static_cast<std::size_t>(out_columns));
  const int c = static_cast<int>(i % static_cast<std::size_t>(out_columns));
  const bool inside = r < rows && c < columns;
  store(out[i], inside ? scale * inp[static_cast<std::size_t>(r) * columns + c] : 0.0F);
}

__global__ void __launch_bounds__(kThreads)
    add_block_elements(float* out, const float* inp, int rows, int columns, int inp_columns) {
  const std::size_t i = own_index();
  if (i >= static_cast<std::size_t>(rows) * columns) return;
  const std::size_t r = i / static_cast<std::size_t>(columns);
  const std::size_t c = i % static_cast<std::size_t>(columns);
  out[i] += inp[r * inp_columns + c];
}

}  // namespace

void muon_momentum(float* update, float* m, const float* gradient, float scale, float beta,
                   std::size_t count, Stream stream) {
  gpu::launch(momentum_elements, grid_of(count), dim3(kThreads), 0, stream, update, m, gradient,
              scale, beta, count);
}

void muon_gather(float* x, const float* update, const MuonPart& part, Stream stream) {
  const std::size_t count = static_cast<std::size_t>(part.rows) * part.columns;
  gpu::launch(gather_elements, grid_of(count), dim3(kThreads), 0, stream, x, update, part.rows,
              part.columns, part.stride, part.first);
}

template <class A>
void muon_normalize(A* out, const float* x, const double* squares, float floor, std::size_t count,
                    Stream stream) {
  gpu::launch(normalize_elements<A>, grid_of(count), dim3(kThreads), 0, stream, out, x, squares,
              floor, count);
}

template <class A>
void muon_polynomial(A* out, const float* gram, const float* square, int n, float a, float b,
                     float c, Stream stream) {
  const std::size_t count = static_cast<std::size_t>(n) * n;
  gpu::launch(polynomial_elements<A>, grid_of(count), dim3(kThreads), 0, stream, out, gram, square,
              n, a, b, c);
}

void muon_apply(float* parameter, float* average, const float* x, const MuonPart& part, float keep,
                float step_size, float average_rate, Stream stream) {
  const std::size_t count = static_cast<std::size_t>(part.rows) * part.columns;
  gpu::launch(apply_elements, grid_of(count), dim3(kThreads), 0, stream, parameter, average, x,
              part.rows, part.columns, part.stride, part.first, keep, step_size, average_rate);
}

template <class A>
void widen(A* out, const float* inp, int rows, int columns, int out_rows, int out_columns,
           float scale, Stream stream) {
  const std::size_t count = static_cast<std::size_t>(out_rows) * out_columns;
  gpu::launch(widen_elements<A>, grid_of(count), dim3(kThreads), 0, stream, out, inp, rows, columns,
              out_rows, out_columns, scale);
}

void add_block(float* out, const float* inp, int rows, int columns, int inp_columns,
               Stream stream) {
  const std::size_t count = static_cast<std::size_t>(rows) * columns;
  gpu::launch(add_block_elements, grid_of(count), dim3(kThreads), 0, stream, out, inp, rows,
              columns, inp_columns);
}

template void muon_normalize(float*, const float*, const double*, float, std::size_t, Stream);
template void muon_normalize(Bf16*, const float*, const double*, float, std::size_t, Stream);
template void muon_polynomial(float*, const float*, const float*, int, float, float, float, Stream);
template void muon_polynomial(Bf16*, const float*, const float*, int, float, float, float, Stream);
template void widen(float*, const float*, int, int, int, int, float, Stream);
template void widen(Bf16*, const float*, int, int, int, int, float, Stream);

}  // namespace kernels::cuda
