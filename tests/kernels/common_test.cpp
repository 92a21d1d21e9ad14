// The operations that every backend shares: filling, converting, the norm.

#include <bit>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/helpers.h"

namespace kernels::test {
namespace {

class Common : public testing::Test {
 protected:
  ~Common() override { base::set_thread_count(threads_); }
  std::unique_ptr<Backend> backend = make_backend(Device::kReference, DType::kF32);

 private:
  int threads_ = base::thread_count();
};

/// More than two blocks, and a tail.
constexpr std::int64_t kMany = 150'001;

TEST_F(Common, FillsWithZero) {
  Tensor tensor = unwritten(DType::kF32, {kMany});
  backend->fill_zero(tensor);
  EXPECT_EQ(tensor.bytes(), Tensor(DType::kF32, {kMany}).bytes());
}

TEST_F(Common, FillsWithTheNormalNumbersOfTheGenerator) {
  Tensor tensor = unwritten(DType::kF32, {kMany});
  backend->fill_normal(tensor, 0.5F, 0.25F, 42, 3);
  double sum = 0;
  double squares = 0;
  for (std::int64_t i = 0; i < kMany; ++i) {
    const double expected = 0.5 + 0.25 * base::random_normal(42, 3, static_cast<std::uint64_t>(i));
    ASSERT_EQ(tensor.at(i), static_cast<double>(static_cast<float>(expected))) << i;
    sum += tensor.at(i);
    squares += (tensor.at(i) - 0.5) * (tensor.at(i) - 0.5);
  }
  // Four standard errors of the mean and of the variance.
  const double n = static_cast<double>(kMany);
  EXPECT_NEAR(sum / n, 0.5, 4 * 0.25 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 0.0625, 4 * 0.0625 * std::sqrt(2 / n));
}

TEST_F(Common, FillsWithTheUniformNumbersOfTheGenerator) {
  Tensor tensor = unwritten(DType::kF32, {kMany});
  backend->fill_uniform(tensor, -0.5F, 1.5F, 42, 3);
  double sum = 0;
  for (std::int64_t i = 0; i < kMany; ++i) {
    const double expected = -0.5 + 2 * base::random_uniform(42, 3, static_cast<std::uint64_t>(i));
    ASSERT_EQ(tensor.at(i), static_cast<double>(static_cast<float>(expected))) << i;
    sum += tensor.at(i);
  }
  const double n = static_cast<double>(kMany);
  EXPECT_NEAR(sum / n, 0.5, 4 * 2 / std::sqrt(12 * n));  // four standard errors
}

TEST_F(Common, MergesALowRankProductIntoAMatrixOnAnyNumberOfThreads) {
  struct Sizes {
    std::int64_t rows, columns, rank;
  };
  for (const auto& [rows, columns, rank] :
       {Sizes{1, 1, 1}, Sizes{5, 255, 3}, Sizes{17, 257, 8}, Sizes{33, 600, 2}}) {
    Draw draw(DType::kF32);
    const Tensor weight = draw({rows, columns}), a = draw({rows, rank}), b = draw({rank, columns});
    Tensor out = unwritten(DType::kF32, {rows, columns});
    base::set_thread_count(1);
    merge_low_rank(out, weight, a, b, 0.75F);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (std::int64_t r = 0; r < rank; ++r) sum += a.at(i * rank + r) * b.at(r * columns + j);
        const double expected = weight.at(i * columns + j) + 0.75 * sum;
        ASSERT_NEAR(out.at(i * columns + j), expected, 1e-5) << i << ", " << j;
      }
    }
    Tensor in_place = weight;
    base::set_thread_count(3);
    merge_low_rank(in_place, in_place, a, b, 0.75F);
    EXPECT_EQ(in_place.bytes(), out.bytes());
  }
}

TEST_F(Common, MergingNamesTheTensorWhoseShapeIsWrong) {
  Tensor out(DType::kF32, {3, 5});
  const Tensor a(DType::kF32, {3, 2}), b(DType::kF32, {2, 4});
  try {
    merge_low_rank(out, out, a, b, 1.0F);
    FAIL() << "no error";
  } catch (const base::Error& error) {
    EXPECT_STREQ(error.what(), "merge_low_rank: b: expected shape (2, 5), got (2, 4)");
  }
}

TEST_F(Common, NormIsTheSumOfSquaresOnAnyNumberOfThreads) {
  for (const std::int64_t size : {std::int64_t{1}, std::int64_t{15}, std::int64_t{17}, kMany}) {
    Draw draw(DType::kF32);
    const Tensor values = draw({size});
    double expected = 0;
    for (std::int64_t i = 0; i < size; ++i) expected += values.at(i) * values.at(i);
    base::set_thread_count(1);
    const double norm = backend->squared_norm(values);
    EXPECT_NEAR(norm, expected, 1e-12 * expected) << size;
    for (const int threads : {2, 3}) {
      base::set_thread_count(threads);
      EXPECT_EQ(backend->squared_norm(values), norm) << size << " on " << threads;
    }
  }
}

TEST_F(Common, NormShowsInfinityAndNan) {
  Tensor values(DType::kF32, {40});
  values.set(3, 1e30);
  EXPECT_NEAR(backend->squared_norm(values), 1e60, 1e54) << "f64 does not overflow";
  values.set(39, std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(std::isnan(backend->squared_norm(values)));
}

/// The value that IEEE 754 gives a binary16 pattern.
double half_value(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const double fraction = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST_F(Common, ConvertsEveryHalfThereAndBack) {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> floats(halves.size());
  std::vector<std::uint16_t> back(halves.size());
  const Shape shape{65536};
  backend->convert(View(floats.data(), DType::kF32, shape),
                   ConstView(halves.data(), DType::kF16, shape));
  backend->convert(View(back.data(), DType::kF16, shape),
                   ConstView(floats.data(), DType::kF32, shape));
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const double expected = half_value(halves[i]);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(floats[i])) << i;
      ASSERT_TRUE(std::isnan(half_value(back[i]))) << i;
      continue;
    }
    ASSERT_EQ(static_cast<double>(floats[i]), expected) << i;
    ASSERT_EQ(back[i], halves[i]);
  }
}

TEST_F(Common, RoundsToTheNearestHalfTiesToEven) {
  std::vector<float> floats;
  for (std::uint16_t bits = 0; bits < 0x7bff; ++bits) {
    const auto middle = static_cast<float>((half_value(bits) + half_value(bits + 1)) / 2);
    floats.push_back(std::nextafter(middle, 0.0F));
    floats.push_back(middle);
    floats.push_back(std::nextafter(middle, 1e9F));
  }
  std::vector<std::uint16_t> halves(floats.size());
  const Shape shape{static_cast<std::int64_t>(floats.size())};
  backend->convert(View(halves.data(), DType::kF16, shape),
                   ConstView(floats.data(), DType::kF32, shape));
  for (std::size_t i = 0; i < floats.size(); i += 3) {
    const auto below = static_cast<std::uint16_t>(i / 3);
    const auto even = static_cast<std::uint16_t>(below + (below & 1));
    // Between 0 and the first subnormal the middle is 2^-25; its lower neighbour still rounds to 0.
    ASSERT_EQ(halves[i], below) << floats[i];
    ASSERT_EQ(halves[i + 1], even) << floats[i + 1];
    ASSERT_EQ(halves[i + 2], below + 1) << floats[i + 2];
  }
}

TEST_F(Common, TooLargeForAHalfIsInfinity) {
  const std::vector<float> floats{65504.0F, 65519.0F, 65520.0F, 1e30F, -1e30F};
  std::vector<std::uint16_t> halves(floats.size());
  backend->convert(View(halves.data(), DType::kF16, {5}),
                   ConstView(floats.data(), DType::kF32, {5}));
  EXPECT_EQ(halves, (std::vector<std::uint16_t>{0x7bff, 0x7bff, 0x7c00, 0x7c00, 0xfc00}));
}

TEST_F(Common, ConvertsBetweenF32AndBf16) {
  Draw draw(DType::kF32);
  const Tensor values = draw({kMany});
  Tensor rounded(DType::kBf16, {kMany});
  Tensor wide(DType::kF32, {kMany});
  backend->convert(rounded, values);
  backend->convert(wide, rounded);
  EXPECT_EQ(rounded.bytes(), values.as(DType::kBf16).bytes());
  EXPECT_EQ(wide.bytes(), rounded.as(DType::kF32).bytes());
}

}  // namespace
}  // namespace kernels::test
