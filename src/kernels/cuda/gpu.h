#pragma once
/// The one header that kernels include. Under nvcc it is CUDA; under a host compiler it plays the
/// grid on the CPU (gpu_host.h), so that one kernel text runs under the sanitizers without a GPU.
///
/// Law: a kernel uses only these names: threadIdx blockIdx blockDim gridDim, GPU_SHARED(name,
/// type), dynamic_shared<T>(), GPU_UNROLL and the functions below. Warp operations are for whole
/// warps: all 32 lanes take part. The host calls launch() and the memory functions.
///
/// What both halves share is a reading of the PTX document: tests/kernels/cuda/wrappers_check.cu
/// holds the matrix wrappers to layouts written down independently, first of all on a new device.

#include <tuple>

#include "kernels/cuda/device.h"
#include "kernels/cuda/gpu_types.h"

#ifndef __CUDACC__
#include "kernels/cuda/gpu_host.h"
#else
#include <cuda_runtime.h>

#define GPU_SHARED(name, ...)       \
  using name##_type_ = __VA_ARGS__; \
  __shared__ name##_type_ name
#define GPU_UNROLL _Pragma("unroll")

namespace kernels::gpu {

/// True where launches run on a device.
inline constexpr bool kOnDevice = true;

// ---- meeting points -----------------------------------------------------------------------------

__device__ inline void sync_threads() { __syncthreads(); }
__device__ inline void sync_warp() { __syncwarp(); }
template <class T>
__device__ inline T shuffle_xor(T value, unsigned mask) {
  return __shfl_xor_sync(~0U, value, static_cast<int>(mask));
}
template <class T>
__device__ inline T shuffle_from(T value, unsigned lane) {
  return __shfl_sync(~0U, value, static_cast<int>(lane));
}

/// The block's dynamic shared memory, of the size that launch() was given.
template <class T>
__device__ inline T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char gpu_dynamic_shared_bytes[];
  return reinterpret_cast<T*>(gpu_dynamic_shared_bytes);
}

// ---- numbers ------------------------------------------------------------------------------------

__host__ __device__ inline float to_float(float x) { return x; }
/// A float's bits, and back.
__device__ inline std::uint32_t to_bits(float x) { return __float_as_uint(x); }
__device__ inline float from_bits(std::uint32_t bits) { return __uint_as_float(bits); }
__device__ inline float to_float(Bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
/// Round to nearest even.
__device__ inline Bf16 to_bf16(float x) {
  Bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
/// Two bf16 in one register, `low` at the lower address.
__device__ inline std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
__device__ inline float bf16_low(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float bf16_high(std::uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000U);
}
/// 2^x to about 2 ulp; 2^-inf = 0.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline int minimum(int a, int b) { return a < b ? a : b; }
__device__ inline float reciprocal_sqrt(float x) { return rsqrtf(x); }
__device__ inline float divide_fast(float a, float b) { return __fdividef(a, b); }

// ---- asynchronous copies ------------------------------------------------------------------------

/// Copies `bytes` (0..16) from global to shared memory and fills the rest of the 16 with zeros;
/// both addresses are multiples of 16. Done after copy_wait.
__device__ inline void copy_async_16(void* shared, const void* global, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(shared))),
               "l"(global), "r"(bytes)
               : "memory");
}
/// Closes this thread's group of copies.
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `kNewest` of this thread's groups are under way.
template <int kNewest>
__device__ inline void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNewest) : "memory");
}

// ---- matrix registers ---------------------------------------------------------------------------

/// Four 8 x 8 matrices of bf16: lane 8 m + i gives the address of row i of matrix m (16 bytes,
/// aligned). Register m of a lane holds row lane / 4, columns 2 (lane % 4) and the next.
__device__ inline void load_matrix_x4(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row))));
}
/// The same with each matrix transposed: column lane / 4, rows 2 (lane % 4) and the next.
__device__ inline void load_matrix_x4_transposed(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row))));
}
/// d += a b, a (16, 16) and b (16, 8) of bf16, d (16, 8) of f32, spread over the warp as the PTX
/// document's "Matrix Fragments for mma.m16n8k16" says: with g = lane / 4 and t = lane % 4
///   a: register r, half h: row g + 8 (r % 2), column 2 t + h + 8 (r / 2)
///   b: register r, half h: row 2 t + h + 8 r, column g
///   d: register r: row g + 8 (r / 2), column 2 t + r % 2
__device__ inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- the host's side ----------------------------------------------------------------------------

/// Throws Error where a CUDA call failed.
inline void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  fail(std::string(what) + ": " + cudaGetErrorName(result) + " (" + cudaGetErrorString(result) +
       ")");
}

template <class... P>
inline void give_launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes,
                        CUstream_st* stream, P... args) {
  if (shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "cudaFuncSetAttribute");
  }
  // clang-format off
  kernel<<<grid, block, shared_bytes, stream>>>(args...);
  // clang-format on
  check(cudaGetLastError(), "launch");
}

}  // namespace kernels::gpu
#endif

namespace kernels::gpu {

/// A launch, kept or not.
template <class... P>
class Launch final : public Operation {
 public:
  Launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, P... args)
      : kernel_(kernel), grid_(grid), block_(block), shared_bytes_(shared_bytes), args_(args...) {}
  void run(Queue& queue) const override {
    std::apply(
        [&](const P&... args) {
          give_launch(kernel_, grid_, block_, shared_bytes_, queue.handle(), args...);
        },
        args_);
  }
  bool same(const Operation& other) const override {
    const auto* launch = dynamic_cast<const Launch*>(&other);
    return launch != nullptr && launch->kernel_ == kernel_ && equal(launch->grid_, grid_) &&
           equal(launch->block_, block_) && launch->shared_bytes_ == shared_bytes_ &&
           launch->args_ == args_;
  }
  std::unique_ptr<Operation> kept() const override { return std::make_unique<Launch>(*this); }

 private:
  static bool equal(dim3 a, dim3 b) { return a.x == b.x && a.y == b.y && a.z == b.z; }

  void (*kernel_)(P...);
  dim3 grid_, block_;
  std::size_t shared_bytes_;
  std::tuple<P...> args_;
};

/// Queues kernel(args...) for every thread of `grid` blocks of `block` threads.
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, Stream stream,
            A... args) {
  if (stream == nullptr) {
    give_launch(kernel, grid, block, shared_bytes, nullptr, static_cast<P>(args)...);
    return;
  }
  stream->push(Launch<P...>(kernel, grid, block, shared_bytes, static_cast<P>(args)...));
}

}  // namespace kernels::gpu
