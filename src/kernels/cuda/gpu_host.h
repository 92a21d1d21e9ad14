#pragma once
/// gpu.h's names for a host compiler: what the kernels call, played by gpu_engine.h.

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <tuple>

#include "kernels/cuda/device.h"
#include "kernels/cuda/gpu_engine.h"
#include "kernels/cuda/gpu_types.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define GPU_UNROLL
#define GPU_SHARED(name, ...)                                \
  auto& name = kernels::gpu::static_shared<__VA_ARGS__>([] { \
    static char key;                                         \
    return &key;                                             \
  }())
#define GPU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

struct alignas(8) float2 {
  float x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace kernels::gpu {

inline constexpr bool kOnDevice = false;

template <class T>
T& static_shared(const void* key) {
  const host::Unwatched unwatched;
  return *static_cast<T*>(host::engine->static_shared(key, sizeof(T)));
}
template <class T>
T* dynamic_shared() {
  const host::Unwatched unwatched;
  return static_cast<T*>(host::engine->dynamic_shared());
}

// ---- meeting points -----------------------------------------------------------------------------

inline void sync_threads(GPU_HERE) { host::engine->meet_block({"sync_threads", file, line}); }
inline void sync_warp(GPU_HERE) {
  const host::Unwatched unwatched;
  host::engine->meet_warp(0, {"sync_warp", file, line});
}
template <class T>
T shuffle_xor(T value, unsigned mask, GPU_HERE) {
  const host::Unwatched unwatched;
  const T* all = host::engine->meet_warp(value, {"shuffle_xor", file, line});
  const unsigned from = host::engine->lane() ^ mask;
  return from < 32 ? all[from] : value;
}
template <class T>
T shuffle_from(T value, unsigned lane, GPU_HERE) {
  const host::Unwatched unwatched;
  return host::engine->meet_warp(value, {"shuffle_from", file, line})[lane % 32];
}

// ---- numbers ------------------------------------------------------------------------------------

inline float to_float(float x) { return x; }
inline std::uint32_t to_bits(float x) { return std::bit_cast<std::uint32_t>(x); }
inline float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }
inline float to_float(Bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}
inline Bf16 to_bf16(float x) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  if (std::isnan(x)) return {0x7FFF};
  return {static_cast<std::uint16_t>((u + 0x7FFF + (u >> 16 & 1)) >> 16)};
}
inline std::uint32_t pack_bf16(float low, float high) {
  return to_bf16(low).bits | static_cast<std::uint32_t>(to_bf16(high).bits) << 16;
}
inline float bf16_low(std::uint32_t pair) { return std::bit_cast<float>(pair << 16); }
inline float bf16_high(std::uint32_t pair) { return std::bit_cast<float>(pair & 0xFFFF0000U); }
inline float exp2_fast(float x) { return std::exp2(x); }
inline int minimum(int a, int b) { return a < b ? a : b; }
inline float reciprocal_sqrt(float x) { return 1.0F / std::sqrt(x); }
inline float divide_fast(float a, float b) { return a / b; }

// ---- asynchronous copies ------------------------------------------------------------------------

// Plain loads and stores, not memcpy: ThreadSanitizer must see them as the issuing thread's.
using Word64 = std::uint64_t __attribute__((may_alias));
inline void host_store_16(void* to, std::uint64_t low, std::uint64_t high) {
  static_cast<Word64*>(to)[0] = low;
  static_cast<Word64*>(to)[1] = high;
}
inline void host_copy(const host::Copy& copy) {
  unsigned char bytes[16] = {};
  for (int i = 0; i < copy.bytes; ++i) bytes[i] = static_cast<const unsigned char*>(copy.from)[i];
  std::uint64_t words[2];
  std::memcpy(words, bytes, 16);
  host_store_16(copy.to, words[0], words[1]);
}
inline void copy_async_16(void* shared, const void* global, int bytes = 16) {
  bool early = false;
  {
    const host::Unwatched unwatched;
    host::Engine& e = *host::engine;
    e.check_shared(shared, "copy_async_16");
    if (bytes < 0 || bytes > 16) e.fail("copy_async_16: bytes must be 0 to 16");
    if (reinterpret_cast<std::uintptr_t>(global) % 16 != 0) {
      e.fail("copy_async_16: the global address is not a multiple of 16");
    }
    early = host::order == host::Order::kReverse ||
            (host::order == host::Order::kRandom && (e.random() & 1) != 0);
    if (!early) e.now().copies.push_back({shared, global, bytes, e.now().groups});
  }
  if (early) {
    host_copy({shared, global, bytes, 0});
  } else {
    host_store_16(shared, ~0ULL, ~0ULL);  // unreadable until the wait
  }
}
inline void copy_commit() { ++host::engine->now().groups; }
template <int kNewest>
void copy_wait() {
  host::Fiber& fiber = host::engine->now();
  std::size_t kept = 0;
  for (const host::Copy& copy : fiber.copies) {
    if (copy.group + kNewest < fiber.groups) {
      host_copy(copy);
    } else {
      fiber.copies[kept++] = copy;
    }
  }
  fiber.copies.resize(kept);
}

// ---- matrix registers ---------------------------------------------------------------------------

inline void host_load_matrix(std::uint32_t (&r)[4], const void* row, bool transposed,
                             host::Place place) {
  const void* rows[32];
  {
    const host::Unwatched unwatched;
    host::engine->check_shared(row, place.what);
    std::memcpy(rows, host::engine->meet_warp(row, place), sizeof rows);
  }
  const unsigned g = host::engine->lane() / 4;
  const unsigned t = host::engine->lane() % 4;
  for (unsigned m = 0; m < 4; ++m) {
    std::uint32_t halves[2];
    for (unsigned half = 0; half < 2; ++half) {
      const unsigned i = transposed ? 2 * t + half : g;
      const unsigned j = transposed ? g : 2 * t + half;
      halves[half] = static_cast<const std::uint16_t*>(rows[8 * m + i])[j];
    }
    r[m] = halves[0] | halves[1] << 16;
  }
}
inline void load_matrix_x4(std::uint32_t (&r)[4], const void* row, GPU_HERE) {
  host_load_matrix(r, row, false, {"load_matrix_x4", file, line});
}
inline void load_matrix_x4_transposed(std::uint32_t (&r)[4], const void* row, GPU_HERE) {
  host_load_matrix(r, row, true, {"load_matrix_x4_transposed", file, line});
}

inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                     GPU_HERE) {
  struct Operands {
    std::uint32_t a[4], b[2];
  };
  const host::Unwatched unwatched;
  const Operands* all = host::engine->meet_warp(Operands{{a[0], a[1], a[2], a[3]}, {b0, b1}},
                                                {"mma_bf16", file, line});
  const unsigned g = host::engine->lane() / 4;
  const unsigned t = host::engine->lane() % 4;
  const auto half = [](std::uint32_t x, unsigned h) { return h != 0 ? bf16_high(x) : bf16_low(x); };
  float sum[4] = {};
  for (unsigned k = 0; k < 16; ++k) {
    const unsigned lane = k % 8 / 2;
    const Operands& rows = all[g * 4 + lane];
    const float a0 = half(rows.a[k / 8 * 2], k % 2);
    const float a1 = half(rows.a[k / 8 * 2 + 1], k % 2);
    const float c0 = half(all[2 * t * 4 + lane].b[k / 8], k % 2);
    const float c1 = half(all[(2 * t + 1) * 4 + lane].b[k / 8], k % 2);
    sum[0] += a0 * c0;
    sum[1] += a0 * c1;
    sum[2] += a1 * c0;
    sum[3] += a1 * c1;
  }
  for (int i = 0; i < 4; ++i) d[i] += sum[i];
}

// ---- the host's side ----------------------------------------------------------------------------

template <class... P>
void give_launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes,
                 CUstream_st*, P... args) {
  if (host::engine == nullptr) {
    // Never freed: suspended fibers point into it until the program ends.
    static host::Engine* forever = new host::Engine;
    host::engine = forever;
  }
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> args;
  };
  const Call call{kernel, {args...}};
  host::engine->run_grid(
      grid, block, shared_bytes,
      [](const void* pointer) {
        const Call& c = *static_cast<const Call*>(pointer);
        std::apply(c.kernel, c.args);
      },
      &call);
}

}  // namespace kernels::gpu
