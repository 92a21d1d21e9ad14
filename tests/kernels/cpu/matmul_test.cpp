// Dense products of both makes against plain loops in double: any sizes, any instruction set.

#include "kernels/cpu/matmul.h"

#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/helpers.h"

namespace kernels::cpu {
namespace {

using base::DType;
using test::Draw;
using test::Tensor;

struct Sizes {
  std::int64_t m;
  std::int64_t k;
  std::int64_t n;
};

/// One and primes; one below, at and above the sizes at which products are cut.
constexpr std::array kSizes = {Sizes{1, 1, 1},    Sizes{2, 3, 5},      Sizes{7, 17, 31},
                               Sizes{5, 64, 65},  Sizes{95, 255, 33},  Sizes{97, 257, 257},
                               Sizes{96, 16, 64}, Sizes{130, 300, 40}, Sizes{3, 520, 300}};

class Matmul : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (test::instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
    products_.push_back(make_plain_products(GetParam(), table_for(chosen_isa())));
    products_.push_back(make_panel_products(GetParam(), chosen_isa()));
    if (!built_with_onednn()) return;
    if (auto products = make_onednn_products(GetParam(), chosen_isa())) {
      products_.push_back(std::move(products));
    }
  }

  /// Expects c (m, n) = start + the product of a (m, k) and b (k, n) + bias.
  static void expect_product(const Tensor& c, const Tensor* start, const Tensor& a, bool transposed,
                             const Tensor& b, const Tensor* bias, const Sizes& s) {
    const double tolerance = base::View(c).type() == DType::kBf16 ? 0x1p-8 : 1e-5;
    for (std::int64_t i = 0; i < s.m; ++i) {
      for (std::int64_t j = 0; j < s.n; ++j) {
        double sum = bias != nullptr ? bias->at(j) : 0;
        if (start != nullptr) sum += start->at(i * s.n + j);
        double magnitude = std::abs(sum);
        for (std::int64_t l = 0; l < s.k; ++l) {
          const double term = a.at(transposed ? l * s.m + i : i * s.k + l) * b.at(l * s.n + j);
          sum += term;
          magnitude += std::abs(term);
        }
        ASSERT_NEAR(c.at(i * s.n + j), sum, tolerance * (magnitude + 1e-3)) << i << ", " << j;
      }
    }
  }

  std::vector<std::unique_ptr<Products>> products_;
};

INSTANTIATE_TEST_SUITE_P(, Matmul, testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& suite) { return std::string(base::name_of(suite.param)); });

TEST_P(Matmul, MultipliesByPackedWeightsOfEitherOrder) {
  for (const auto& products : products_) {
    for (const Sizes& s : kSizes) {
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
            expect_product(c, nullptr, a, false, b, added, s);
          }
        }
      }
    }
  }
}

TEST_P(Matmul, AddsTransposedProducts) {
  for (const auto& products : products_) {
    for (const Sizes& s : kSizes) {
      SCOPED_TRACE(testing::Message()
                   << products->description() << " " << s.m << " " << s.k << " " << s.n);
      Draw draw(GetParam());
      const Tensor a = draw({s.k, s.m}).as(GetParam());
      const Tensor b = draw({s.k, s.n}).as(GetParam());
      const Tensor start = draw({s.m, s.n});
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
        expect_product(c, add ? &start : nullptr, a, true, b, nullptr, s);
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
      expect_product(c, nullptr, a, false, b, nullptr, s);
    }
  }
}

}  // namespace
}  // namespace kernels::cpu
