// Views borrow, arenas own; bf16 rounds to nearest even.

#include "base/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "expect_error.h"

namespace base {
namespace {

float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }

// ---- types ------------------------------------------------------------------------------------

TEST(DType, HasSizesAndNames) {
  EXPECT_EQ(size_of(DType::kF32), 4U);
  EXPECT_EQ(size_of(DType::kBf16), 2U);
  EXPECT_EQ(size_of(DType::kF16), 2U);
  EXPECT_EQ(size_of(DType::kF64), 8U);
  EXPECT_EQ(size_of(DType::kI32), 4U);
  EXPECT_EQ(name_of(DType::kF32), "f32");
  EXPECT_EQ(name_of(DType::kBf16), "bf16");
  EXPECT_EQ(name_of(DType::kF16), "f16");
  EXPECT_EQ(name_of(DType::kF64), "f64");
  EXPECT_EQ(name_of(DType::kI32), "i32");
}

TEST(Bf16, HoldsItsOwnValuesExactly) {
  for (std::uint32_t upper = 0; upper < 0x10000; ++upper) {
    const float value = from_bits(upper << 16);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(to_f32(to_bf16(value))));
    } else {
      ASSERT_EQ(to_bf16(value).bits, upper);
      ASSERT_EQ(std::bit_cast<std::uint32_t>(to_f32(to_bf16(value))), upper << 16);
    }
  }
}

TEST(Bf16, RoundsToTheNearest) {
  EXPECT_EQ(to_bf16(from_bits(0x3f800001)).bits, 0x3f80);
  EXPECT_EQ(to_bf16(from_bits(0x3f807fff)).bits, 0x3f80);
  EXPECT_EQ(to_bf16(from_bits(0x3f808001)).bits, 0x3f81);
  EXPECT_EQ(to_bf16(from_bits(0xbf808001)).bits, 0xbf81);
}

TEST(Bf16, RoundsTiesToEven) {
  EXPECT_EQ(to_bf16(from_bits(0x3f808000)).bits, 0x3f80);
  EXPECT_EQ(to_bf16(from_bits(0x3f818000)).bits, 0x3f82);
  EXPECT_EQ(to_bf16(from_bits(0xbf808000)).bits, 0xbf80);
  EXPECT_EQ(to_bf16(from_bits(0x3fff8000)).bits, 0x4000);  // carries into the exponent
}

TEST(Bf16, KeepsSpecialValues) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_f32(to_bf16(infinity)), infinity);
  EXPECT_EQ(to_f32(to_bf16(-infinity)), -infinity);
  EXPECT_EQ(to_f32(to_bf16(std::numeric_limits<float>::max())), infinity);
  EXPECT_TRUE(std::signbit(to_f32(to_bf16(-0.0F))));
  // A NaN whose payload lies only in the lower half must not become infinity.
  EXPECT_TRUE(std::isnan(to_f32(to_bf16(from_bits(0x7f800001)))));
  EXPECT_TRUE(std::isnan(to_f32(to_bf16(from_bits(0xffffffff)))));
  EXPECT_EQ(to_bf16(from_bits(0x00000001)).bits, 0);       // below half the smallest
  EXPECT_EQ(to_bf16(from_bits(0x00008001)).bits, 0x0001);  // a subnormal stays one
}

// ---- shapes and views -------------------------------------------------------------------------

TEST(Shape, CountsAndPrints) {
  EXPECT_EQ(Shape().elements(), 0);
  EXPECT_EQ(Shape({7}).elements(), 7);
  EXPECT_EQ(Shape({2, 3, 4, 5}).elements(), 120);
  EXPECT_EQ(Shape({2, 0, 4}).elements(), 0);
  EXPECT_EQ(Shape({50304, 25600, 4}).elements(), 5'151'129'600);
  EXPECT_EQ(to_string(Shape()), "()");
  EXPECT_EQ(to_string(Shape({3})), "(3)");
  EXPECT_EQ(to_string(Shape({2, 3, 4})), "(2, 3, 4)");
}

TEST(Shape, ComparesRankAndSizes) {
  EXPECT_EQ(Shape({2, 3}), Shape({2, 3}));
  EXPECT_NE(Shape({2, 3}), Shape({3, 2}));
  EXPECT_NE(Shape({2}), Shape({2, 1}));
  EXPECT_NE(Shape(), Shape({0}));
}

TEST(View, LooksAtSomebodyElsesMemory) {
  std::vector<float> memory(6);
  const View view(memory.data(), DType::kF32, {2, 3});
  view.f32()[4] = 7;
  EXPECT_EQ(memory[4], 7);
  const ConstView read_only = view;
  EXPECT_EQ(read_only.f32(), memory.data());
  EXPECT_EQ(read_only.bytes(), 24U);
  EXPECT_EQ(read_only.dim(1), 3);
  EXPECT_FALSE(read_only.empty());
  EXPECT_TRUE(View().empty());
  EXPECT_EQ(View().elements(), 0);
}

TEST(View, TakesRowsOfTheOutermostDimension) {
  std::vector<Bf16> memory(4 * 3 * 2);
  const View view(memory.data(), DType::kBf16, {4, 3, 2});
  const View rows = view.rows(1, 2);
  EXPECT_EQ(rows.bf16(), memory.data() + 6);
  EXPECT_EQ(rows.shape(), Shape({2, 3, 2}));
  EXPECT_EQ(ConstView(view).rows(3, 1).bf16(), memory.data() + 18);
  EXPECT_EQ(view.rows(4, 0).elements(), 0);
  EXPECT_EQ(View(memory.data(), DType::kBf16, {24}).rows(5, 2).shape(), Shape({2}));
  EXPECT_EQ(View(memory.data(), DType::kBf16, {2, 3, 2, 2}).rows(1, 1).shape(),
            Shape({1, 3, 2, 2}));
}

TEST(View, TakesAnotherShape) {
  std::vector<std::int32_t> memory(6);
  const View view(memory.data(), DType::kI32, {2, 3});
  EXPECT_EQ(view.reshaped({6}).shape(), Shape({6}));
  EXPECT_EQ(view.reshaped({6}).i32(), memory.data());
}

TEST(View, WithoutMemoryHasRowsWithoutMemory) {
  Arena measuring;
  const View view = measuring.take(DType::kF32, {4, 3});
  EXPECT_TRUE(view.empty());
  EXPECT_TRUE(view.rows(2, 1).empty());
  EXPECT_EQ(view.rows(2, 1).shape(), Shape({1, 3}));
}

TEST(ViewDeathTest, AssertsTypeAndRange) {
  std::vector<float> memory(6);
  const View view(memory.data(), DType::kF32, {2, 3});
  EXPECT_DEATH((void)view.bf16(), "");
  EXPECT_DEATH((void)view.rows(1, 2), "");
  EXPECT_DEATH((void)view.reshaped({5}), "");
}

TEST(RequireShape, NamesTheTensor) {
  const View view(nullptr, DType::kF32, {2});
  EXPECT_NO_THROW(require_shape("layernorm_forward", "weight", view, {2}));
  expect_error("layernorm_forward: weight: expected shape (3), got (2)",
               [&] { require_shape("layernorm_forward", "weight", view, {3}); });
}

TEST(RequireType, NamesTheTensor) {
  const View view(nullptr, DType::kBf16, {2});
  EXPECT_NO_THROW(require_type("adamw_step", "m", view, DType::kBf16));
  expect_error("adamw_step: m: expected type f32, got bf16",
               [&] { require_type("adamw_step", "m", view, DType::kF32); });
}

// ---- arenas -----------------------------------------------------------------------------------

/// Takes tensors of awkward sizes; returns their addresses.
std::vector<const std::byte*> lay_out(Arena& arena) {
  std::vector<const std::byte*> addresses;
  for (const std::int64_t size : {1, 63, 64, 65, 0, 1000}) {
    addresses.push_back(static_cast<const std::byte*>(arena.take(DType::kBf16, {size}).data()));
  }
  addresses.push_back(static_cast<const std::byte*>(arena.take_bytes(3)));
  return addresses;
}

TEST(Arena, MeasuresWhatItHandsOut) {
  Arena measuring;
  EXPECT_TRUE(measuring.measuring());
  for (const std::byte* address : lay_out(measuring)) EXPECT_EQ(address, nullptr);
  // 2, 126, 128, 130, 0, 2000 and 3 bytes in lines of 64.
  EXPECT_EQ(measuring.used_bytes(), 64U + 128 + 128 + 192 + 0 + 2048 + 64);

  Arena real(measuring.used_bytes());
  EXPECT_FALSE(real.measuring());
  (void)lay_out(real);
  EXPECT_EQ(real.used_bytes(), measuring.used_bytes());
  EXPECT_GE(real.capacity_bytes(), real.used_bytes());
}

TEST(Arena, HandsOutAlignedZeroedMemoryWithoutOverlap) {
  Arena arena(1 << 20);
  const View first = arena.take(DType::kF32, {5});
  const View second = arena.take(DType::kF32, {3, 7});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.data()) % Arena::kAlignment, 0U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(second.data()) % Arena::kAlignment, 0U);
  EXPECT_GE(second.f32(), first.f32() + 5);
  for (int i = 0; i < 21; ++i) EXPECT_EQ(second.f32()[i], 0);
  EXPECT_EQ(second.shape(), Shape({3, 7}));
}

TEST(Arena, RefusesWhatDoesNotFit) {
  Arena arena(1);
  const std::size_t capacity = arena.capacity_bytes();
  (void)arena.take_bytes(capacity - 64);
  expect_error("arena: 65 bytes asked for, 64 of " + std::to_string(capacity) + " left",
               [&] { (void)arena.take_bytes(65); });
  EXPECT_NE(arena.take_bytes(64), nullptr);
}

TEST(Arena, SaysWhenTheSystemRefuses) {
  const std::string message = error_of([] { Arena arena(std::size_t{1} << 60); });
  EXPECT_EQ(message,
            "out of memory: cannot reserve 1099511627776 MiB; choose a smaller model, "
            "batch or context");
}

TEST(Arena, MovesItsMemory) {
  Arena a(64);
  const View view = a.take(DType::kF32, {4});
  view.f32()[3] = 5;
  Arena b(std::move(a));
  EXPECT_EQ(view.f32()[3], 5);
  EXPECT_EQ(b.used_bytes(), 64U);
  Arena c;
  c = std::move(b);
  EXPECT_EQ(view.f32()[3], 5);
  EXPECT_FALSE(c.measuring());
}

TEST(MakeArena, RunsTheLayoutTwice) {
  std::vector<const std::byte*> addresses;
  int runs = 0;
  const Arena arena = make_arena([&](Arena& a) {
    ++runs;
    addresses = lay_out(a);
  });
  EXPECT_EQ(runs, 2);
  EXPECT_FALSE(arena.measuring());
  EXPECT_NE(addresses.front(), nullptr);
}

}  // namespace
}  // namespace base
