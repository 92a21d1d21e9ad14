// What our own products promise beyond right sums: epilogues, rows that do not depend on the rows
// beside them, packing by stripes, and reading back what was packed.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "base/parallel.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/products_testing.h"

namespace kernels::cpu {
namespace {

using base::ConstView;
using base::DType;
using base::View;
using test::Draw;
using test::Tensor;

/// One and primes; one below, at and above what tiles, panels, pieces and blocks are cut at.
constexpr std::array kSizes = {Sizes{1, 1, 1},     Sizes{3, 5, 2},     Sizes{12, 256, 32},
                               Sizes{13, 255, 33}, Sizes{11, 257, 31}, Sizes{70, 300, 129},
                               Sizes{169, 17, 64}, Sizes{337, 40, 65}};

/// b packed, with its memory.
struct Packed {
  Packed(Products& products, const Tensor& b, std::int64_t k, std::int64_t n)
      : bytes(products.packed_bytes(k, n)), arena(bytes) {
    data = static_cast<std::byte*>(arena.take_bytes(bytes));
    products.pack(data, View(b).f32(), k, n, false);
  }
  std::size_t bytes;
  base::Arena arena;
  std::byte* data = nullptr;
};

class OwnProducts : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (test::instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
    products_.push_back(make_panel_products(GetParam(), chosen_isa()));
    if (auto products = make_own_products(GetParam(), chosen_isa())) {
      products_.push_back(std::move(products));
    }
  }

  DType type() const { return GetParam(); }
  /// Relative to the sum of the magnitudes that went into a value.
  double tolerance() const { return type() == DType::kBf16 ? 0x1p-7 : 2e-6; }

  /// c = after(a b + bias), in A.
  static void multiply(Products& products, const Tensor& c, const Tensor& a, const Packed& b,
                       const Tensor& bias, After after, const Tensor& pre, const Sizes& s) {
    products.multiply({.c = View(c).data(),
                       .c_type = View(c).type(),
                       .a = View(a).data(),
                       .packed = b.data,
                       .bias = bias.empty() ? nullptr : View(bias).f32(),
                       .after = after,
                       .pre = View(pre).data(),
                       .m = s.m,
                       .k = s.k,
                       .n = s.n});
  }

  std::vector<std::unique_ptr<Products>> products_;
};

INSTANTIATE_TEST_SUITE_P(, OwnProducts, testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& suite) { return std::string(base::name_of(suite.param)); });

TEST_P(OwnProducts, ApplyEpilogues) {
  const KernelTable& table = table_for(chosen_isa());
  const TypedKernels& kernels = type() == DType::kF32 ? table.f32 : table.bf16;
  for (const auto& products : products_) {
    for (const Sizes& s : kSizes) {
      SCOPED_TRACE(testing::Message()
                   << products->description() << " " << s.m << " " << s.k << " " << s.n);
      Draw draw(type());
      const Tensor a = draw({s.m, s.k}).as(type());
      const Tensor b = draw({s.k, s.n}, 1 / std::sqrt(static_cast<double>(s.k)));
      const Tensor bias = draw({s.n});
      const Packed packed(*products, b, s.k, s.n);
      const Tensor x = draw({s.m, s.n}, 2.0).as(type());
      Tensor pre = test::unwritten(type(), {s.m, s.n}), with_pre = pre, without_pre = pre,
             scaled = pre;
      multiply(*products, with_pre, a, packed, bias, After::kGelu, pre, s);
      multiply(*products, without_pre, a, packed, bias, After::kGelu, Tensor(), s);
      multiply(*products, scaled, a, packed, Tensor(), After::kGeluGradient, x, s);
      EXPECT_EQ(with_pre.bytes(), without_pre.bytes());
      Tensor again = test::unwritten(type(), {s.m, s.n});
      kernels.gelu_forward(View(again).data(), View(pre).data(), 0, s.m * s.n);
      EXPECT_EQ(with_pre.bytes(), again.bytes()) << "not GELU of what is kept";
      for (std::int64_t i = 0; i < s.m * s.n; ++i) {
        double sum = 0;
        double size = 0;
        for (std::int64_t l = 0; l < s.k; ++l) {
          const double term = a.at(i / s.n * s.k + l) * b.at(l * s.n + i % s.n);
          sum += term;
          size += std::abs(term);
        }
        const double z = sum + bias.at(i % s.n);
        size += std::abs(bias.at(i % s.n));
        ASSERT_NEAR(pre.at(i), z, tolerance() * size) << i;
        ASSERT_NEAR(with_pre.at(i), gelu(z), 1.2 * tolerance() * size) << i;
        // The derivative multiplies the gate's last bit by up to 2x du/dx, about 20 where x is 4.
        ASSERT_NEAR(scaled.at(i), sum * gelu_slope(x.at(i)), 4 * tolerance() * size) << i;
      }
    }
  }
}

TEST_P(OwnProducts, ARowDoesNotDependOnTheRowsBesideIt) {
  constexpr std::int64_t kRows = 400;
  for (const auto& products : products_) {
    for (const auto& [k, n] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {517, 97}, {770, 64}}) {
      Draw draw(type());
      const Tensor a = draw({kRows, k}).as(type());
      const Tensor b = draw({k, n});
      const Packed packed(*products, b, k, n);
      for (const DType c_type : {type(), DType::kF32}) {
        Tensor all(c_type, {kRows, n});
        multiply(*products, all, a, packed, Tensor(), After::kNone, Tensor(), {kRows, k, n});
        for (const std::int64_t m : {1, 2, 3, 5, 11, 12, 13, 16, 17, 24, 33, 70, 168, 169}) {
          SCOPED_TRACE(testing::Message()
                       << products->description() << " " << m << " of " << k << " " << n);
          const std::int64_t first = kRows - m;
          Tensor some(c_type, {m, n});
          const View rows = View(a).rows(first, m);
          products->multiply({.c = View(some).data(),
                              .c_type = c_type,
                              .a = rows.data(),
                              .packed = packed.data,
                              .bias = nullptr,
                              .after = After::kNone,
                              .pre = nullptr,
                              .m = m,
                              .k = k,
                              .n = n});
          const std::size_t skipped =
              some.bytes().size() / static_cast<std::size_t>(m) * static_cast<std::size_t>(first);
          EXPECT_EQ(
              std::memcmp(some.bytes().data(), all.bytes().data() + skipped, some.bytes().size()),
              0);
        }
      }
    }
  }
}

TEST_P(OwnProducts, DoNotDependOnTheThreads) {
  const int threads = base::thread_count();
  for (const auto& products : products_) {
    const Sizes s{700, 530, 90};
    Draw draw(type());
    const Tensor a = draw({s.m, s.k}).as(type());
    const Tensor b = draw({s.k, s.n});
    const Tensor right = draw({s.m, s.n}).as(type());
    const Packed packed(*products, b, s.k, s.n);
    std::vector<Tensor> results;
    for (const int count : {1, 2, 3}) {
      base::set_thread_count(count);
      Tensor c(type(), {s.m, s.n});
      multiply(*products, c, a, packed, Tensor(), After::kNone, Tensor(), s);
      Tensor gradient(DType::kF32, {s.k, s.n});
      Tensor sums(DType::kF32, {s.n});
      products->add_transposed({.c = View(gradient).f32(),
                                .add = false,
                                .column_sums = View(sums).f32(),
                                .a = View(a).data(),
                                .b = View(right).data(),
                                .m = s.k,
                                .k = s.m,
                                .n = s.n});
      for (const Tensor& result : {c, gradient, sums}) results.push_back(result);
    }
    base::set_thread_count(threads);
    for (std::size_t i = 3; i < results.size(); ++i) {
      EXPECT_EQ(results[i].bytes(), results[i % 3].bytes()) << products->description() << " " << i;
    }
  }
}

TEST_P(OwnProducts, PackByStripesWhatTheyPackAtOnce) {
  for (const auto& products : products_) {
    const std::int64_t stripe = products->stripe_rows();
    if (stripe == 0) continue;
    for (const Sizes& s : kSizes) {
      for (const bool transposed : {false, true}) {
        SCOPED_TRACE(testing::Message() << products->description() << " " << s.k << " " << s.n);
        Draw draw(type());
        const Tensor source = draw({s.k, s.n});
        const std::size_t bytes = products->packed_bytes(s.k, s.n);
        base::Arena arena(2 * bytes + 64);
        auto* whole = static_cast<std::byte*>(arena.take_bytes(bytes));
        auto* striped = static_cast<std::byte*>(arena.take_bytes(bytes));
        products->pack(whole, View(source).f32(), s.k, s.n, transposed);
        const std::int64_t rows = transposed ? s.n : s.k;
        for (std::int64_t begin = 0; begin < rows; begin += stripe) {
          products->pack_stripe(striped, View(source).f32(), s.k, s.n, transposed, begin,
                                std::min(begin + stripe, rows));
        }
        EXPECT_EQ(std::memcmp(whole, striped, bytes), 0);
      }
    }
  }
}

TEST_P(OwnProducts, ReadBackWhatTheyPacked) {
  for (const auto& products : products_) {
    if (!products->can_unpack()) continue;
    for (const Sizes& s : kSizes) {
      SCOPED_TRACE(testing::Message() << products->description() << " " << s.k << " " << s.n);
      Draw draw(type());
      const Tensor b = draw({s.k, s.n});  // exact in A
      const Packed packed(*products, b, s.k, s.n);
      Tensor column = test::unwritten(DType::kF32, {s.k});
      for (std::int64_t j = 0; j < s.n; ++j) {
        products->unpack_column(View(column).f32(), packed.data, s.k, s.n, j);
        for (std::int64_t i = 0; i < s.k; ++i) {
          ASSERT_EQ(column.at(i), b.at(i * s.n + j)) << i << ", " << j;
        }
      }
    }
  }
}

}  // namespace
}  // namespace kernels::cpu
