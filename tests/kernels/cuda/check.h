#pragma once
/// A small judge of kernels for machines without GoogleTest: cases that run kernels on poisoned,
/// exactly sized buffers and hold them to double references. The same text runs on a device (nvcc)
/// and on the host (g++, gpu_host.h).

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/gpu.h"

namespace check {

using kernels::gpu::Bf16;

/// Small: shapes that suit racecheck and ThreadSanitizer. Host: what the player of grids does in
/// seconds. Full: for a device.
enum class Size : std::uint8_t { kSmall, kHost, kFull };
Size size();

/// One comparison of the running case: `error` against `limit`; NaN never passes.
void see(const std::string& what, double error, double limit);

/// A case named `name` that main() runs.
struct Case {
  Case(const char* name, std::function<void()> run);
};

/// Deterministic normal numbers, as doubles.
double gauss();
/// A whole number in [0, below).
int below(int below);

float to_f32(Bf16 x);
inline float to_f32(float x) { return x; }
Bf16 round_bf16(double x);

/// Device memory of exactly n elements, every bit set (NaN in f32 and bf16) until written.
template <class T>
class Device {
 public:
  explicit Device(std::size_t n) : n_(n), data_(kernels::gpu::allocate_bytes(n * sizeof(T))) {
    poison();
  }
  explicit Device(const std::vector<T>& values) : Device(values.size()) {
    kernels::gpu::copy_bytes_in(data_, values.data(), n_ * sizeof(T), {});
  }
  ~Device() { kernels::gpu::release(data_); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  void poison() { kernels::gpu::fill_bytes(data_, 0xFF, n_ * sizeof(T), {}); }
  T* data() { return static_cast<T*>(data_); }
  std::vector<T> host() const {
    std::vector<T> values(n_);
    kernels::gpu::copy_bytes_out(values.data(), data_, n_ * sizeof(T), {});
    return values;
  }

 private:
  std::size_t n_;
  void* data_;
};

/// Numbers as the kernel sees them: rounded to T, and what they are as doubles.
template <class T>
struct Numbers {
  std::vector<T> stored;
  std::vector<double> exact;
};
template <class T>
Numbers<T> random_numbers(std::size_t n, double mean = 0, double deviation = 1) {
  Numbers<T> numbers{std::vector<T>(n), std::vector<double>(n)};
  for (std::size_t i = 0; i < n; ++i) {
    const double x = mean + deviation * gauss();
    if constexpr (sizeof(T) == 2) {
      numbers.stored[i] = round_bf16(x);
      numbers.exact[i] = static_cast<double>(to_f32(numbers.stored[i]));
    } else {
      numbers.stored[i] = static_cast<T>(x);
      numbers.exact[i] = static_cast<double>(numbers.stored[i]);
    }
  }
  return numbers;
}

std::vector<double> as_doubles(const std::vector<float>& values);
std::vector<double> as_doubles(const std::vector<Bf16>& values);

/// ||got - want|| / ||want|| (or ||got|| where want is zero); NaN where got has one.
double relative_error(const std::vector<double>& got, const std::vector<double>& want);
template <class T>
double relative_error(const Device<T>& got, const std::vector<double>& want) {
  return relative_error(as_doubles(got.host()), want);
}
template <class T>
bool same_bits(const Device<T>& a, const std::vector<T>& b) {
  const std::vector<T> got = a.host();
  return got.size() == b.size() &&
         __builtin_memcmp(got.data(), b.data(), b.size() * sizeof(T)) == 0;
}

/// Limits of relative errors: of f32 sums, and of bf16 results (2^-9 a rounding).
inline constexpr double kF32Limit = 2e-6;
inline constexpr double kBf16Limit = 4e-3;

}  // namespace check
