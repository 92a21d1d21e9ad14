#pragma once
/// Eight numbers at a time, of f32 or bf16, and sums over a warp and a block.

#include "kernels/cuda/gpu.h"

namespace kernels::cuda {

using gpu::Bf16;

/// Elements that a thread moves at once: 16 bytes of bf16.
inline constexpr int kVector = 8;

/// Reads 8 elements; `from` is a multiple of 16 bytes.
__device__ inline void load8(float (&to)[8], const float* from) {
  const float4 a = reinterpret_cast<const float4*>(from)[0];
  const float4 b = reinterpret_cast<const float4*>(from)[1];
  to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
  to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
}
__device__ inline void load8(float (&to)[8], const Bf16* from) {
  const uint4 a = *reinterpret_cast<const uint4*>(from);
  to[0] = gpu::bf16_low(a.x), to[1] = gpu::bf16_high(a.x);
  to[2] = gpu::bf16_low(a.y), to[3] = gpu::bf16_high(a.y);
  to[4] = gpu::bf16_low(a.z), to[5] = gpu::bf16_high(a.z);
  to[6] = gpu::bf16_low(a.w), to[7] = gpu::bf16_high(a.w);
}
__device__ inline void store8(float* to, const float (&from)[8]) {
  reinterpret_cast<float4*>(to)[0] = make_float4(from[0], from[1], from[2], from[3]);
  reinterpret_cast<float4*>(to)[1] = make_float4(from[4], from[5], from[6], from[7]);
}
__device__ inline void store8(Bf16* to, const float (&from)[8]) {
  *reinterpret_cast<uint4*>(to) =
      make_uint4(gpu::pack_bf16(from[0], from[1]), gpu::pack_bf16(from[2], from[3]),
                 gpu::pack_bf16(from[4], from[5]), gpu::pack_bf16(from[6], from[7]));
}

/// A number in A, rounded where it must be.
__device__ inline void store(float& to, float value) { to = value; }
__device__ inline void store(Bf16& to, float value) { to = gpu::to_bf16(value); }

/// Copies 8 elements, bit for bit.
template <class A>
__device__ inline void copy8(A* to, const A* from) {
  GPU_UNROLL
  for (std::size_t i = 0; i < 8 * sizeof(A) / 16; ++i) {
    reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
  }
}

/// The sum over the warp's lanes, the same bits in every lane.
template <class T>
__device__ inline T warp_sum(T value) {
  GPU_UNROLL
  for (unsigned mask = 16; mask != 0; mask /= 2) value += gpu::shuffle_xor(value, mask);
  return value;
}

/// The sum over the block, in every thread. `partial` is shared, one T for each of the kWarps
/// warps; whoever wrote it before has passed a barrier.
template <int kWarps, class T>
__device__ inline T block_sum(T value, T* partial) {
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  gpu::sync_threads();
  T sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += partial[w];
  return sum;
}

}  // namespace kernels::cuda
