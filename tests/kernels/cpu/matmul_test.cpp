// Dense products of both makes against plain loops in double: any sizes, any instruction set.

#include "kernels/cpu/matmul.h"

#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/cpu/products_testing.h"

namespace kernels::cpu {
namespace {

using base::DType;
using test::Draw;
using test::Tensor;

/// One and primes; one below, at and above the sizes at which products are cut.
constexpr std::array kProductSizes = {Sizes{1, 1, 1},    Sizes{2, 3, 5},      Sizes{7, 17, 31},
                                      Sizes{5, 64, 65},  Sizes{95, 255, 33},  Sizes{97, 257, 257},
                                      Sizes{96, 16, 64}, Sizes{130, 300, 40}, Sizes{3, 520, 300},
                                      Sizes{16, 64, 96}, Sizes{33, 800, 64},  Sizes{70, 32, 800},
                                      Sizes{12, 30, 32}, Sizes{23, 769, 48},  Sizes{400, 9, 330}};

class Matmul : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (test::instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
    products_.push_back(make_plain_products(GetParam(), table_for(chosen_isa())));
    products_.push_back(make_panel_products(GetParam(), chosen_isa()));
    if (auto products = make_tile_products(GetParam(), chosen_isa())) {
      products_.push_back(std::move(products));
    }
    if (!built_with_onednn()) return;
    if (auto products = make_onednn_products(GetParam(), chosen_isa())) {
      products_.push_back(std::move(products));
    }
  }

  /// The product of a (m, k), or its transposed (k, m), and b (k, n), and the sums of its terms'
  /// magnitudes: computed once for all that has to equal it, since under the sanitizers this is
  /// what takes the time.
  struct Expected {
    std::vector<double> sums, magnitudes;  // (m, n)
  };
  static Expected expected(const Tensor& a, bool transposed, const Tensor& b, const Sizes& s) {
    const std::vector<double> left = numbers(a, s.m * s.k);
    const std::vector<double> right = numbers(b, s.k * s.n);
    const auto size = static_cast<std::size_t>(s.m * s.n);
    Expected result{std::vector<double>(size), std::vector<double>(size)};
    for (std::int64_t i = 0; i < s.m; ++i) {
      double* const sums = result.sums.data() + i * s.n;
      double* const magnitudes = result.magnitudes.data() + i * s.n;
      for (std::int64_t l = 0; l < s.k; ++l) {
        const double factor = left.data()[transposed ? l * s.m + i : i * s.k + l];
        const double* const row = right.data() + l * s.n;
        for (std::int64_t j = 0; j < s.n; ++j) {
          const double term = factor * row[j];
          sums[j] += term;
          magnitudes[j] += term < 0 ? -term : term;
        }
      }
    }
    return result;
  }

  /// Expects c (m, n) = start + product + bias.
  static void expect_product(const Tensor& c, const Tensor* start, const Expected& product,
                             const Tensor* bias, const Sizes& s) {
    const double tolerance = base::View(c).type() == DType::kBf16 ? 0x1p-8 : 1e-5;
    const std::vector<double> got = numbers(c, s.m * s.n);
    for (std::int64_t i = 0; i < s.m * s.n; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double added = (bias != nullptr ? static_cast<double>(bias->at(i % s.n)) : 0.0) +
                           (start != nullptr ? static_cast<double>(start->at(i)) : 0.0);
      const double magnitude = product.magnitudes[at] + std::abs(added);
      const double want = product.sums[at] + added;
      // Written so that NaN fails; the macro's own messages cost as much as a product.
      if (!(std::abs(got[at] - want) <= tolerance * (magnitude + 1e-3))) {
        FAIL() << i / s.n << ", " << i % s.n << ": expected " << want << ", got " << got[at];
      }
    }
  }

  static std::vector<double> numbers(const Tensor& tensor, std::int64_t count) {
    std::vector<double> result(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      result[static_cast<std::size_t>(i)] = static_cast<double>(tensor.at(i));
    }
    return result;
  }

  std::vector<std::unique_ptr<Products>> products_;
};

INSTANTIATE_TEST_SUITE_P(, Matmul, testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& suite) { return std::string(base::name_of(suite.param)); });

TEST_P(Matmul, MultipliesByPackedWeightsOfEitherOrder) {
  for (const auto& products : products_) {
    for (const Sizes& s : kProductSizes) {
      SCOPED_TRACE(testing::Message()
                   << products->description() << " " << s.m << " " << s.k << " " << s.n);
      Draw draw(GetParam());
      const Tensor a = draw({s.m, s.k}).as(GetParam());
      const Tensor b = draw({s.k, s.n});
      const Tensor bias = draw({s.n});
      Tensor transposed(DType::kF32, {s.n, s.k});
      for (std::int64_t i = 0; i < s.k * s.n; ++i) {
        transposed.set(i % s.n * s.k + i / s.n, b.at(i));
      }
      const Expected product = expected(a, /*transposed=*/false, b, s);
      base::Arena arena(products->packed_bytes(s.k, s.n));
      auto* packed = static_cast<std::byte*>(arena.take_bytes(products->packed_bytes(s.k, s.n)));
      for (const bool from_transposed : {false, true}) {
        const base::View source = from_transposed ? transposed : b;
        products->pack(packed, source.f32(), s.k, s.n, from_transposed);
        for (const DType type : {GetParam(), DType::kF32}) {
          for (const Tensor* added : {&bias, static_cast<const Tensor*>(nullptr)}) {
            Tensor c(type, {s.m, s.n});
            const base::View bias_view = bias;
            products->multiply({.c = base::View(c).data(),
                                .c_type = type,
                                .a = base::View(a).data(),
                                .packed = packed,
                                .bias = added != nullptr ? bias_view.f32() : nullptr,
                                .after = After::kNone,
                                .pre = nullptr,
                                .m = s.m,
                                .k = s.k,
                                .n = s.n});
            expect_product(c, nullptr, product, added, s);
          }
        }
      }
    }
  }
}

TEST_P(Matmul, AddsTransposedProducts) {
  for (const auto& products : products_) {
    for (const Sizes& s : kProductSizes) {
      SCOPED_TRACE(testing::Message()
                   << products->description() << " " << s.m << " " << s.k << " " << s.n);
      Draw draw(GetParam());
      const Tensor a = draw({s.k, s.m}).as(GetParam());
      const Tensor b = draw({s.k, s.n}).as(GetParam());
      const Tensor start = draw({s.m, s.n});
      const Expected product = expected(a, /*transposed=*/true, b, s);
      for (const bool add : {true, false}) {
        Tensor c = start;
        Tensor sums = Tensor(DType::kF32, {s.n});
        for (std::int64_t j = 0; j < s.n; ++j) sums.set(j, 1);
        products->add_transposed({.c = base::View(c).f32(),
                                  .add = add,
                                  .column_sums = base::View(sums).f32(),
                                  .a = base::View(a).data(),
                                  .b = base::View(b).data(),
                                  .m = s.m,
                                  .k = s.k,
                                  .n = s.n});
        expect_product(c, add ? &start : nullptr, product, nullptr, s);
        for (std::int64_t j = 0; j < s.n; ++j) {
          double sum = add ? 1 : 0;
          double size = 1;
          for (std::int64_t i = 0; i < s.k; ++i) {
            sum += static_cast<double>(b.at(i * s.n + j));
            size += std::abs(static_cast<double>(b.at(i * s.n + j)));
          }
          EXPECT_NEAR(static_cast<double>(sums.at(j)), sum, 1e-6 * size) << "column " << j;
        }
      }
    }
  }
}

TEST_P(Matmul, SumsThatAreLongEnoughToBeSliced) {
  const Sizes s{3, 16385, 7};
  for (const auto& products : products_) {
    SCOPED_TRACE(products->description());
    Draw draw(GetParam());
    const Tensor a = draw({s.m, s.k}).as(GetParam());
    const Tensor b = draw({s.k, s.n}).as(GetParam()).as(DType::kF32);
    base::Arena arena(products->packed_bytes(s.k, s.n));
    auto* packed = static_cast<std::byte*>(arena.take_bytes(products->packed_bytes(s.k, s.n)));
    products->pack(packed, base::View(b).f32(), s.k, s.n, false);
    const Expected product = expected(a, /*transposed=*/false, b, s);
    for (const DType type : {GetParam(), DType::kF32}) {
      Tensor c(type, {s.m, s.n});
      products->multiply({.c = base::View(c).data(),
                          .c_type = type,
                          .a = base::View(a).data(),
                          .packed = packed,
                          .bias = nullptr,
                          .after = After::kNone,
                          .pre = nullptr,
                          .m = s.m,
                          .k = s.k,
                          .n = s.n});
      expect_product(c, nullptr, product, nullptr, s);
    }
  }
}

TEST_P(Matmul, AppliesGeluAndItsGradient) {
  const DType type = GetParam();
  for (const auto& products : products_) {
    for (const Sizes& s : {Sizes{1, 31, 33}, Sizes{37, 64, 96}, Sizes{40, 800, 70}}) {
      SCOPED_TRACE(testing::Message()
                   << products->description() << " " << s.m << " " << s.k << " " << s.n);
      Draw draw(type);
      const Tensor a = draw({s.m, s.k}, 1 / std::sqrt(static_cast<double>(s.k))).as(type);
      const Tensor b = draw({s.k, s.n});
      const Tensor bias = draw({s.n});
      base::Arena arena(products->packed_bytes(s.k, s.n));
      auto* packed = static_cast<std::byte*>(arena.take_bytes(products->packed_bytes(s.k, s.n)));
      products->pack(packed, base::View(b).f32(), s.k, s.n, false);
      Multiplication op{.c = nullptr,
                        .c_type = type,
                        .a = base::View(a).data(),
                        .packed = packed,
                        .bias = base::View(bias).f32(),
                        .after = After::kNone,
                        .pre = nullptr,
                        .m = s.m,
                        .k = s.k,
                        .n = s.n};
      const auto run = [&](After after, Tensor* pre) {
        Tensor c = test::unwritten(type, {s.m, s.n});
        op.c = base::View(c).data();
        op.after = after;
        op.pre = pre != nullptr ? base::View(*pre).data() : nullptr;
        products->multiply(op);
        return c;
      };
      const Tensor z = run(After::kNone, nullptr);
      Tensor pre = test::unwritten(type, {s.m, s.n});
      const Tensor kept = run(After::kGelu, &pre);
      const Tensor dropped = run(After::kGelu, nullptr);
      op.bias = nullptr;
      const Tensor bare = run(After::kNone, nullptr);
      const Tensor gradient = run(After::kGeluGradient, &pre);
      EXPECT_EQ(pre.bytes(), z.bytes());
      EXPECT_EQ(kept.bytes(), dropped.bytes());
      const double tolerance = type == DType::kBf16 ? 0x1p-7 : 1e-5;
      for (std::int64_t i = 0; i < s.m * s.n; ++i) {
        ASSERT_NEAR(kept.at(i), gelu(z.at(i)), tolerance * (std::abs(gelu(z.at(i))) + 1e-4)) << i;
        const double slope = bare.at(i) * gelu_slope(z.at(i));
        ASSERT_NEAR(gradient.at(i), slope, tolerance * (std::abs(slope) + 1e-2)) << i;
      }
    }
  }
}

TEST_P(Matmul, ARowDoesNotDependOnTheRowsBesideIt) {
  for (const auto& products : products_) {
    if (products->description().find("own") == std::string::npos) continue;  // oneDNN promises less
    // The second: rows in several parts, sums in many pieces.
    for (const Sizes& s : {Sizes{70, 800, 100}, Sizes{100, 3000, 70}}) {
      SCOPED_TRACE(testing::Message() << products->description() << " " << s.m);
      Draw draw(GetParam());
      const Tensor a = draw({s.m, s.k}).as(GetParam());
      const Tensor b = draw({s.k, s.n});
      base::Arena arena(products->packed_bytes(s.k, s.n));
      auto* packed = static_cast<std::byte*>(arena.take_bytes(products->packed_bytes(s.k, s.n)));
      products->pack(packed, base::View(b).f32(), s.k, s.n, false);
      const auto rows = [&](std::int64_t first, std::int64_t count) {
        Tensor c = test::unwritten(DType::kF32, {count, s.n});
        products->multiply({.c = base::View(c).data(),
                            .c_type = DType::kF32,
                            .a = base::View(a).rows(first, count).data(),
                            .packed = packed,
                            .bias = nullptr,
                            .after = After::kNone,
                            .pre = nullptr,
                            .m = count,
                            .k = s.k,
                            .n = s.n});
        return c;
      };
      const Tensor all = rows(0, s.m);
      for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 1},
                                         {5, 2},
                                         {16, 16},
                                         {30, 17},
                                         {33, 31},
                                         {3, 33},
                                         {69, 1}}) {
        const Tensor some = rows(first, count);
        const auto begin = static_cast<std::size_t>(first * s.n) * sizeof(float);
        EXPECT_TRUE(std::equal(some.bytes().begin(), some.bytes().end(),
                               all.bytes().begin() + static_cast<std::ptrdiff_t>(begin)))
            << count << " rows from " << first;
      }
    }
  }
}

TEST_P(Matmul, PacksByStripesAndUnpacksColumns) {
  for (const auto& products : products_) {
    if (products->stripe_rows() == 0 || !products->can_unpack()) continue;
    for (const Sizes& s : {Sizes{0, 1, 1}, Sizes{0, 130, 65}, Sizes{0, 64, 200}}) {
      SCOPED_TRACE(testing::Message() << products->description() << " " << s.k << " " << s.n);
      Draw draw(GetParam());
      const Tensor b = draw({s.k, s.n});
      const base::View source = b;
      const std::size_t bytes = products->packed_bytes(s.k, s.n);
      base::Arena arena(4 * bytes + 256);
      auto* whole = static_cast<std::byte*>(arena.take_bytes(bytes));
      auto* striped = static_cast<std::byte*>(arena.take_bytes(bytes));
      for (const bool transposed : {false, true}) {
        const std::int64_t k = transposed ? s.n : s.k;
        const std::int64_t n = transposed ? s.k : s.n;
        std::fill_n(striped, bytes, std::byte{0x7f});
        products->pack(whole, source.f32(), k, n, transposed);
        const std::int64_t step = products->stripe_rows();
        for (std::int64_t row = 0; row < s.k; row += step) {
          products->pack_stripe(striped, source.f32(), k, n, transposed, row,
                                std::min(row + step, s.k));
        }
        EXPECT_TRUE(std::equal(whole, whole + products->packed_bytes(k, n), striped));
        std::vector<float> column(static_cast<std::size_t>(k));
        for (std::int64_t j = 0; j < n; ++j) {
          products->unpack_column(column.data(), striped, k, n, j);
          for (std::int64_t i = 0; i < k; ++i) {
            ASSERT_EQ(static_cast<double>(column[static_cast<std::size_t>(i)]),
                      b.at(transposed ? j * k + i : i * n + j))
                << i << ", " << j;
          }
        }
      }
    }
  }
}

TEST_P(Matmul, PaddingNeverMeetsWhatFollowsARow) {
  // k and n short of whole tiles, and infinities right behind the operands' rows.
  const Sizes s{3, 33, 35};
  for (const auto& products : products_) {
    SCOPED_TRACE(products->description());
    Tensor a(GetParam(), {s.m + 1, s.k});
    for (std::int64_t i = 0; i < a.size(); ++i) {
      a.set(i, i % s.k == 0 && i > 0 ? std::numeric_limits<double>::infinity() : 0.5);
    }
    Tensor b(DType::kF32, {s.k, s.n});
    for (std::int64_t i = 0; i < b.size(); ++i) b.set(i, 1);
    base::Arena arena(products->packed_bytes(s.k, s.n));
    auto* packed = static_cast<std::byte*>(arena.take_bytes(products->packed_bytes(s.k, s.n)));
    products->pack(packed, base::View(b).f32(), s.k, s.n, false);
    Tensor c = test::unwritten(DType::kF32, {s.m, s.n});
    products->multiply({.c = base::View(c).data(),
                        .c_type = DType::kF32,
                        .a = base::View(a).data(),
                        .packed = packed,
                        .bias = nullptr,
                        .after = After::kNone,
                        .pre = nullptr,
                        .m = s.m,
                        .k = s.k,
                        .n = s.n});
    for (std::int64_t j = 0; j < s.n; ++j) EXPECT_EQ(c.at(j), 0.5 * static_cast<double>(s.k)) << j;
    for (std::int64_t j = s.n; j < c.size(); ++j) EXPECT_TRUE(std::isinf(c.at(j))) << j;
  }
}

}  // namespace
}  // namespace kernels::cpu
