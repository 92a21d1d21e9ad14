// Embedding, forward and backward.

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/mask.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kThreads = 128;

__device__ inline float4 masked4(float4 x, const Mask& mask, std::uint64_t key, int c) {
  return make_float4(masked(x.x, mask, key, c), masked(x.y, mask, key, c + 1),
                     masked(x.z, mask, key, c + 2), masked(x.w, mask, key, c + 3));
}

__global__ void __launch_bounds__(kThreads)
    embed_rows(float* x, const std::int32_t* ids, const float* wte, const float* wpe, int channels,
               int length, int first_position, Mask mask) {
  const int n = static_cast<int>(blockIdx.x);
  const float* token = wte + static_cast<std::size_t>(ids[n]) * channels;
  const float* position = wpe + static_cast<std::size_t>(first_position + n % length) * channels;
  float* row = x + static_cast<std::size_t>(n) * channels;
  for (int c = static_cast<int>(threadIdx.x) * 4; c < channels; c += kThreads * 4) {
    const float4 a = *reinterpret_cast<const float4*>(token + c);
    const float4 b = *reinterpret_cast<const float4*>(position + c);
    float4 sum = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
    if (mask.threshold != 0) sum = masked4(sum, mask, row_key(mask, blockIdx.x), c);
    *reinterpret_cast<float4*>(row + c) = sum;
  }
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    embed_packed_rows(float* x, const std::int32_t* ids, const std::int32_t* positions,
                      const A* wte, const float* wpe, int channels) {
  const std::size_t n = blockIdx.x;
  const A* token = wte + static_cast<std::size_t>(ids[n]) * channels;
  const float* position = wpe + static_cast<std::size_t>(positions[n]) * channels;
  for (int c = static_cast<int>(threadIdx.x) * 8; c < channels; c += kThreads * 8) {
    float a[8], b[8];
    load8(a, token + c);
    load8(b, position + c);
    GPU_UNROLL
    for (int i = 0; i < 8; ++i) a[i] += b[i];
    store8(x + n * channels + c, a);
  }
}

/// to += the sum over i < count of dx's masked row row_of(i), four channels a thread, in the order
/// of i. Eight rows are in flight: the rows of a frequent token are one long chain.
template <class RowOf>
__device__ inline void add_rows(float* to, const float* dx, int count, int channels,
                                const Mask& mask, RowOf row_of) {
  constexpr int kInFlight = 8;
  for (int c = static_cast<int>(threadIdx.x) * 4; c < channels; c += kThreads * 4) {
    float4 sum = make_float4(0, 0, 0, 0);
    for (int i = 0; i < count; i += kInFlight) {
      float4 rows[kInFlight];
      GPU_UNROLL
      for (int j = 0; j < kInFlight; ++j) {
        rows[j] = make_float4(0, 0, 0, 0);
        if (i + j >= count) continue;
        const auto row = static_cast<std::size_t>(row_of(i + j));
        rows[j] = *reinterpret_cast<const float4*>(dx + row * channels + c);
        if (mask.threshold != 0) rows[j] = masked4(rows[j], mask, row_key(mask, row), c);
      }
      GPU_UNROLL
      for (int j = 0; j < kInFlight; ++j) {
        sum.x += rows[j].x, sum.y += rows[j].y, sum.z += rows[j].z, sum.w += rows[j].w;
      }
    }
    float4* place = reinterpret_cast<float4*>(to + c);
    const float4 old = *place;
    *place = make_float4(old.x + sum.x, old.y + sum.y, old.z + sum.z, old.w + sum.w);
  }
}

__global__ void __launch_bounds__(kThreads)
    add_token_rows(float* dwte, const float* dx, const std::int32_t* ids, const std::int32_t* order,
                   const std::int32_t* starts, int channels, Mask mask) {
  const std::int32_t* group = order + starts[blockIdx.x];
  const int count = starts[blockIdx.x + 1] - starts[blockIdx.x];
  if (count == 0) return;  // the whole block
  float* to = dwte + static_cast<std::size_t>(ids[group[0]]) * channels;
  add_rows(to, dx, count, channels, mask, [group](int i) { return group[i]; });
}

__global__ void __launch_bounds__(kThreads)
    add_position_rows(float* dwpe, const float* dx, int rows, int channels, int length, Mask mask) {
  const int t = static_cast<int>(blockIdx.x);
  add_rows(dwpe + static_cast<std::size_t>(t) * channels, dx, rows / length, channels, mask,
           [t, length](int i) { return t + i * length; });
}

void require_vectors(const char* what, int channels) {
  if (channels % kVector == 0) return;
  gpu::fail(std::string(what) + ": channels must be a multiple of 8, got " +
            std::to_string(channels));
}

}  // namespace

void embed_forward(float* x, const std::int32_t* ids, const float* wte, const float* wpe, int rows,
                   int channels, int length, int first_position, const Mask& mask, Stream stream) {
  require_vectors("embed_forward", channels);
  gpu::launch(embed_rows, dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0, stream, x, ids, wte,
              wpe, channels, length, first_position, mask);
}

template <class A>
void embed_packed(float* x, const std::int32_t* ids, const std::int32_t* positions, const A* wte,
                  const float* wpe, int rows, int channels, Stream stream) {
  require_vectors("embed_packed", channels);
  gpu::launch(embed_packed_rows<A>, dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0, stream, x,
              ids, positions, wte, wpe, channels);
}
template void embed_packed(float*, const std::int32_t*, const std::int32_t*, const float*,
                           const float*, int, int, Stream);
template void embed_packed(float*, const std::int32_t*, const std::int32_t*, const Bf16*,
                           const float*, int, int, Stream);

int group_rows(std::int32_t* order, std::int32_t* starts, const std::int32_t* ids, int rows,
               int vocab) {
  std::vector<std::int32_t> next(static_cast<std::size_t>(vocab) + 1, 0);
  for (int n = 0; n < rows; ++n) ++next[static_cast<std::size_t>(ids[n]) + 1];
  int groups = 0;
  for (int id = 0; id < vocab; ++id) {
    const auto i = static_cast<std::size_t>(id);
    if (next[i + 1] != 0) starts[groups++] = next[i];
    next[i + 1] += next[i];
  }
  for (int g = groups; g <= rows; ++g) starts[g] = rows;
  for (int n = 0; n < rows; ++n) order[next[static_cast<std::size_t>(ids[n])]++] = n;
  return groups;
}

void embed_backward(float* dwte, float* dwpe, const float* dx, const std::int32_t* ids,
                    const IdGroups& groups, int rows, int channels, int length, const Mask& mask,
                    Stream stream) {
  require_vectors("embed_backward", channels);
  if (dwte != nullptr) {
    gpu::launch(add_token_rows, dim3(static_cast<unsigned>(groups.count)), dim3(kThreads), 0,
                stream, dwte, dx, ids, groups.order, groups.starts, channels, mask);
  }
  if (dwpe != nullptr) {
    gpu::launch(add_position_rows, dim3(static_cast<unsigned>(length)), dim3(kThreads), 0, stream,
                dwpe, dx, rows, channels, length, mask);
  }
}

}  // namespace kernels::cuda
