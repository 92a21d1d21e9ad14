// gpu.h's wrappers alone, before anything rests on them: each against a layout written down here
// from the PTX document, not from the wrappers' other half.

#include "check.h"

namespace check {
namespace {

using namespace kernels;  // gpu::

/// A (16, 16) and B (16, 8), row-major, by the fragments of mma.m16n8k16; D (16, 8).
__global__ void mma_alone(float* d_out, const Bf16* a_in, const Bf16* b_in) {
  const unsigned lane = threadIdx.x;
  const unsigned g = lane >> 2;
  const unsigned t = lane & 3;
  const auto two = [](Bf16 low, Bf16 high) {
    return static_cast<std::uint32_t>(low.bits) | static_cast<std::uint32_t>(high.bits) << 16;
  };
  std::uint32_t a[4], b[2];
  for (unsigned r = 0; r < 4; ++r) {
    const unsigned row = r == 0 || r == 2 ? g : g + 8;
    const unsigned column = 2 * t + (r >= 2 ? 8 : 0);
    a[r] = two(a_in[row * 16 + column], a_in[row * 16 + column + 1]);
  }
  for (unsigned r = 0; r < 2; ++r) {
    const unsigned row = 2 * t + (r != 0 ? 8 : 0);
    b[r] = two(b_in[row * 8 + g], b_in[(row + 1) * 8 + g]);
  }
  float d[4];
  for (unsigned r = 0; r < 4; ++r) d[r] = static_cast<float>(100 * r);  // it adds
  gpu::mma_bf16(d, a, b[0], b[1]);
  for (unsigned r = 0; r < 4; ++r) {
    d_out[(r < 2 ? g : g + 8) * 8 + 2 * t + (r & 1)] = d[r] - static_cast<float>(100 * r);
  }
}

void check_mma() {
  const auto a = random_numbers<Bf16>(256);
  const auto b = random_numbers<Bf16>(128);
  Device<Bf16> device_a(a.stored), device_b(b.stored);
  Device<float> d(128);
  gpu::launch(mma_alone, dim3(1), dim3(32), 0, gpu::Stream{}, d.data(), device_a.data(),
              device_b.data());
  std::vector<double> want(128, 0);
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 8; ++j) {
      for (std::size_t k = 0; k < 16; ++k) {
        want[i * 8 + j] += a.exact[i * 16 + k] * b.exact[k * 8 + j];
      }
    }
  }
  see("d", relative_error(d, want), 2e-5);
}
const Case mma("wrapper: mma", check_mma);

/// Row i of matrix m is the eight numbers 64 m + 8 i ...; out[lane][register][half].
__global__ void load_matrix_alone(std::uint16_t* out, bool transposed) {
  GPU_SHARED(matrices, uint4[32]);
  const unsigned lane = threadIdx.x;
  const unsigned first = lane * 8;
  const auto pair = [](unsigned x) { return x | (x + 1) << 16; };
  matrices[lane] = make_uint4(pair(first), pair(first + 2), pair(first + 4), pair(first + 6));
  gpu::sync_threads();
  std::uint32_t r[4];
  // Register m comes from the rows that lanes 8 m .. 8 m + 7 name: matrices in reverse order.
  const unsigned row = (3 - lane / 8) * 8 + lane % 8;
  if (transposed) {
    gpu::load_matrix_x4_transposed(r, &matrices[row]);
  } else {
    gpu::load_matrix_x4(r, &matrices[row]);
  }
  for (unsigned m = 0; m < 4; ++m) {
    out[(lane * 4 + m) * 2] = static_cast<std::uint16_t>(r[m] & 0xFFFF);
    out[(lane * 4 + m) * 2 + 1] = static_cast<std::uint16_t>(r[m] >> 16);
  }
}

void check_load_matrix() {
  for (const bool transposed : {false, true}) {
    Device<std::uint16_t> out(256);
    gpu::launch(load_matrix_alone, dim3(1), dim3(32), 0, gpu::Stream{}, out.data(), transposed);
    const std::vector<std::uint16_t> got = out.host();
    int wrong = 0;
    for (int lane = 0; lane < 32; ++lane) {
      for (int m = 0; m < 4; ++m) {
        for (int half = 0; half < 2; ++half) {
          const int row = transposed ? lane % 4 * 2 + half : lane / 4;
          const int column = transposed ? lane / 4 : lane % 4 * 2 + half;
          const int want = (3 - m) * 64 + row * 8 + column;
          wrong += got[static_cast<std::size_t>((lane * 4 + m) * 2 + half)] == want ? 0 : 1;
        }
      }
    }
    see(transposed ? "wrong, transposed" : "wrong, plain", wrong, 0);
  }
}
const Case load_matrix("wrapper: ldmatrix", check_load_matrix);

/// Three groups of copies, 0 to 16 bytes each, waited for one after the other.
__global__ void copies_alone(std::uint8_t* out, const std::uint8_t* inp) {
  GPU_SHARED(bytes, uint4[3][32]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int group = 0; group < 3; ++group) {
    const int count = (lane + group) % 17;
    gpu::copy_async_16(&bytes[group][lane], inp + (group * 32 + lane) * 16, count);
    gpu::copy_commit();
  }
  for (int group = 0; group < 3; ++group) {
    if (group == 0) gpu::copy_wait<2>();
    if (group == 1) gpu::copy_wait<1>();
    if (group == 2) gpu::copy_wait<0>();
    gpu::sync_threads();
    const int other = 31 - lane;
    const auto* piece = reinterpret_cast<const std::uint8_t*>(&bytes[group][other]);
    for (int i = 0; i < 16; ++i) out[(group * 32 + other) * 16 + i] = piece[i];
  }
}

void check_copies() {
  std::vector<std::uint8_t> numbers(3 * 32 * 16);
  for (auto& x : numbers) x = static_cast<std::uint8_t>(below(255) + 1);
  Device<std::uint8_t> inp(numbers), out(numbers.size());
  gpu::launch(copies_alone, dim3(1), dim3(32), 0, gpu::Stream{}, out.data(), inp.data());
  const std::vector<std::uint8_t> got = out.host();
  int wrong = 0;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::size_t count = (i / 16 % 32 + i / 512) % 17;
    wrong += got[i] == (i % 16 < count ? numbers[i] : 0) ? 0 : 1;
  }
  see("wrong bytes", wrong, 0);
}
const Case copies("wrapper: cp.async", check_copies);

__global__ void shuffles_alone(float* out) {
  const float mine = static_cast<float>(threadIdx.x * 3);
  out[threadIdx.x] = gpu::shuffle_xor(mine, 5);
  out[64 + threadIdx.x] = gpu::shuffle_from(mine, (threadIdx.x + 7) % 32);
}
__global__ void conversions_alone(Bf16* out, float* powers, const float* inp, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  const std::uint32_t pair = gpu::pack_bf16(inp[i], -inp[i]);
  out[2 * i] = gpu::to_bf16(inp[i]);
  out[2 * i + 1] = gpu::to_bf16(gpu::bf16_high(pair));
  powers[i] = gpu::exp2_fast(gpu::bf16_low(pair));
}

void check_shuffles() {
  Device<float> out(128);
  gpu::launch(shuffles_alone, dim3(1), dim3(64), 0, gpu::Stream{}, out.data());
  std::vector<double> want;
  for (int i = 0; i < 64; ++i) want.push_back(3 * (i / 32 * 32 + (i % 32 ^ 5)));
  for (int i = 0; i < 64; ++i) want.push_back(3 * (i / 32 * 32 + (i + 7) % 32));
  see("wrong", relative_error(out, want), 0);
}
const Case shuffles("wrapper: shuffles", check_shuffles);

void check_conversions() {
  const int count = 1000;
  const auto x = random_numbers<float>(count, 0, 8);
  Device<float> inp(x.stored), powers(count);
  Device<Bf16> out(2 * count);
  gpu::launch(conversions_alone, dim3(8), dim3(128), 0, gpu::Stream{}, out.data(), powers.data(),
              inp.data(), count);
  std::vector<double> want, want_powers;
  for (const double value : x.exact) {
    const auto rounded = static_cast<double>(to_f32(round_bf16(value)));
    want.insert(want.end(), {rounded, -rounded});
    want_powers.push_back(__builtin_exp2(rounded));
  }
  see("bf16", relative_error(out, want), 0);
  see("exp2", relative_error(powers, want_powers), 1e-6);
}
const Case conversions("wrapper: conversions", check_conversions);

}  // namespace
}  // namespace check
