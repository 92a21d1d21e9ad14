// The operations that are the same on every backend: filling, converting, the gradients' norm.
// Law: results depend on the shape alone, never on the number of threads.

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "kernels/profile.h"

namespace kernels {
namespace {

using base::Bf16;

/// Elements a thread takes at a time: large enough to amortise the start, small enough to share.
constexpr std::int64_t kBlock = 64 * 1024;

/// Calls body(begin, end) on blocks of kBlock elements; the cut does not depend on the threads.
template <class Body>
void for_each_block(std::int64_t elements, Body&& body) {
  base::parallel_for((elements + kBlock - 1) / kBlock, [&](std::int64_t block) {
    const std::int64_t begin = block * kBlock;
    body(begin, std::min(begin + kBlock, elements));
  });
}

/// IEEE binary16 as stored.
struct F16 {
  std::uint16_t bits = 0;
};

/// The exact value of a binary16. Its exponent and fraction become a float's upper bits; 2^112
/// moves the bias from 15 to 127 and normalises subnormals in the same multiplication.
float widen(F16 value) {
  const std::uint32_t sign = (value.bits & 0x8000U) << 16;
  const std::uint32_t magnitude = value.bits & 0x7fffU;
  std::uint32_t bits = magnitude << 13;
  if (magnitude >= 0x7c00U) {
    bits |= 0x7f800000U;  // infinity and NaN keep their fraction
  } else {
    bits = std::bit_cast<std::uint32_t>(std::bit_cast<float>(bits) * 0x1p112F);
  }
  return std::bit_cast<float>(bits | sign);
}
float widen(float value) { return value; }
float widen(Bf16 value) { return base::to_f32(value); }

void narrow(float value, float& out) { out = value; }
void narrow(float value, Bf16& out) { out = base::to_bf16(value); }

/// Binary16 from f32, rounded to nearest, ties to even; NaN stays NaN, too large is infinity.
void narrow(float value, F16& out) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  std::uint32_t half = 0;
  if (magnitude > 0x7f800000U) {
    half = 0x7e00U;  // a quiet NaN
  } else if (magnitude >= 0x477ff000U) {
    half = 0x7c00U;  // 65520 and above round past the largest finite value, 65504
  } else if (magnitude < 0x38800000U) {
    // Below 2^-14 the result is subnormal, a multiple of 2^-24: adding 0.5 puts exactly that unit
    // in the sum's last place, so that the addition itself rounds.
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3f000000U;
  } else {
    const std::uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
    half = (rounded - (112U << 23)) >> 13;  // the bias goes from 127 to 15
  }
  out.bits = static_cast<std::uint16_t>(half | sign);
}

template <class To, class From>
void convert_elements(View out, ConstView inp) {
  auto* to = static_cast<To*>(out.data());
  const auto* from = static_cast<const From*>(inp.data());
  for_each_block(inp.elements(), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) narrow(widen(from[i]), to[i]);
  });
}

/// Calls body(T{}) with the C++ type of `type`, one of the three that convert() knows.
template <class Body>
void with_type(std::string_view name, DType type, Body&& body) {
  switch (type) {
    case DType::kF32:
      return body(float{});
    case DType::kBf16:
      return body(Bf16{});
    case DType::kF16:
      return body(F16{});
    case DType::kF64:
    case DType::kI32:
    case DType::kI8:
    case DType::kU8:
      break;
  }
  base::fail("convert: {}: expected type f32, bf16 or f16, got {}", name, base::name_of(type));
}

}  // namespace

void Backend::fill_zero(View out) {
  const Timed timed(*this, "fill_zero", {.bytes = bytes_of({out})});
  do_fill_zero(out);
}

void Backend::do_fill_zero(View out) {
  auto* data = static_cast<std::byte*>(out.data());
  for_each_block(static_cast<std::int64_t>(out.bytes()), [=](std::int64_t begin, std::int64_t end) {
    std::memset(data + begin, 0, static_cast<std::size_t>(end - begin));
  });
}

void Backend::fill_normal(View out, float mean, float deviation, std::uint64_t seed,
                          std::uint64_t stream) {
  base::require_type("fill_normal", "out", out, DType::kF32);
  finish();
  float* data = out.f32();
  for_each_block(out.elements(), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double normal = base::random_normal(seed, stream, static_cast<std::uint64_t>(i));
      data[i] =
          static_cast<float>(static_cast<double>(mean) + static_cast<double>(deviation) * normal);
    }
  });
}

void Backend::fill_uniform(View out, float low, float high, std::uint64_t seed,
                           std::uint64_t stream) {
  base::require_type("fill_uniform", "out", out, DType::kF32);
  finish();
  float* data = out.f32();
  const double width = static_cast<double>(high) - static_cast<double>(low);
  for_each_block(out.elements(), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double uniform = base::random_uniform(seed, stream, static_cast<std::uint64_t>(i));
      data[i] = static_cast<float>(static_cast<double>(low) + width * uniform);
    }
  });
}

void Backend::convert(View out, ConstView inp) {
  base::require_shape("convert", "out", out, inp.shape());
  finish();
  const Timed timed(*this, "convert", {.bytes = bytes_of({out, inp})});
  with_type("out", out.type(), [&](auto to) {
    with_type("inp", inp.type(),
              [&](auto from) { convert_elements<decltype(to), decltype(from)>(out, inp); });
  });
}

void merge_low_rank(View out, ConstView weight, ConstView a, ConstView b, float scale) {
  constexpr std::string_view kName = "merge_low_rank";
  base::require_shape(kName, "out", out, weight.shape());
  if (out.shape().rank() != 2 || a.shape().rank() != 2) {
    base::fail("{}: expected matrices, got a weight {} and a {}", kName, to_string(out.shape()),
               to_string(a.shape()));
  }
  const std::int64_t rows = out.dim(0), columns = out.dim(1), rank = a.dim(1);
  base::require_shape(kName, "a", a, {rows, rank});
  base::require_shape(kName, "b", b, {rank, columns});
  // Enough rows a task to pay for its start; some columns at a time, whose sums stay in registers
  // or L1.
  constexpr std::int64_t kRows = 8, kColumns = 256;
  base::parallel_for((rows + kRows - 1) / kRows, [&](std::int64_t part) {
    std::array<float, kColumns> sums;
    const std::int64_t end = std::min((part + 1) * kRows, rows);
    for (std::int64_t first = 0; first < columns; first += kColumns) {
      const std::int64_t count = std::min(kColumns, columns - first);
      for (std::int64_t k = part * kRows; k < end; ++k) {
        sums.fill(0);
        for (std::int64_t r = 0; r < rank; ++r) {
          const float factor = a.f32()[k * rank + r];
          const float* row = b.f32() + r * columns + first;
          for (std::int64_t m = 0; m < count; ++m) {
            sums[static_cast<std::size_t>(m)] += factor * row[m];
          }
        }
        const float* from = weight.f32() + k * columns + first;
        float* to = out.f32() + k * columns + first;
        for (std::int64_t m = 0; m < count; ++m) {
          to[m] = from[m] + scale * sums[static_cast<std::size_t>(m)];
        }
      }
    }
  });
}

double Backend::do_sum_of_squares(const float* values, std::int64_t count) const {
  double total = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    total += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  return total;
}

double Backend::squared_norm(ConstView values) {
  base::require_type("squared_norm", "values", values, DType::kF32);
  const Timed timed(*this, "squared_norm", {.bytes = bytes_of({values})});
  return do_squared_norm(values);
}

double Backend::squared_norm(std::span<const ConstView> tensors) {
  double bytes = 0;
  for (const ConstView& values : tensors) {
    base::require_type("squared_norm", "tensors", values, DType::kF32);
    bytes += bytes_of({values});
  }
  const Timed timed(*this, "squared_norm", {.bytes = bytes});
  return do_squared_norm(tensors);
}

double Backend::do_squared_norm(std::span<const ConstView> tensors) {
  double total = 0;
  for (const ConstView& values : tensors) total += do_squared_norm(values);
  return total;
}

double Backend::do_squared_norm(ConstView values) {
  const float* data = values.f32();
  const std::int64_t blocks = (values.elements() + kBlock - 1) / kBlock;
  block_sums_.resize(static_cast<std::size_t>(blocks));
  for_each_block(values.elements(), [&](std::int64_t begin, std::int64_t end) {
    block_sums_[static_cast<std::size_t>(begin / kBlock)] =
        do_sum_of_squares(data + begin, end - begin);
  });
  double total = 0;
  for (const double sum : block_sums_) total += sum;
  return total;
}

}  // namespace kernels
