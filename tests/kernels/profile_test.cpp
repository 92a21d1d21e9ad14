// The profile of a backend: which calls it counts, and with how much work.

#include <gmock/gmock.h>

#include "kernels/helpers.h"

namespace kernels::test {
namespace {

void multiply(Backend& backend, std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  const Weight weight(backend, Tensor(DType::kF32, {inputs, outputs}), WeightOrder::kInOut);
  const Tensor out(DType::kF32, {rows, outputs});
  const Tensor inp(DType::kF32, {rows, inputs});
  const Tensor bias(DType::kF32, {outputs});
  backend.linear_forward(out, {}, inp, weight, bias, Epilogue::kNone);
}

TEST(Profile, IsEmptyUntilItIsStarted) {
  const auto backend = make_backend(Device::kReference, DType::kF32);
  multiply(*backend, 2, 3, 4);
  EXPECT_TRUE(backend->profile().empty());
}

TEST(Profile, KeepsWeightsOfDifferentShapesApart) {
  const auto backend = make_backend(Device::kReference, DType::kF32);
  backend->start_profile(base::Clock::kWall);
  multiply(*backend, 2, 3, 4);
  multiply(*backend, 5, 3, 4);
  multiply(*backend, 2, 4, 3);
  std::vector<OperationTotals> products;
  for (const OperationTotals& totals : backend->profile()) {
    if (totals.operation == "linear_forward") products.push_back(totals);
  }
  ASSERT_EQ(products.size(), 2U);
  EXPECT_EQ(products[0].inputs, 3);
  EXPECT_EQ(products[0].outputs, 4);
  EXPECT_EQ(products[0].calls, 2);
  EXPECT_EQ(products[0].flops, 2 * (2 + 5) * 3 * 4);
  // Two calls: inp, out and the weight of each.
  const double weight =
      static_cast<double>(backend->packed_bytes(3, 4, WeightOrder::kInOut, false).forward);
  EXPECT_EQ(products[0].bytes, 4 * (2 + 5) * (3 + 4) + 2 * weight);
  EXPECT_GT(products[0].seconds, 0);
  EXPECT_EQ(products[1].calls, 1);
}

TEST(Profile, StartsFromNothingEachTime) {
  const auto backend = make_backend(Device::kReference, DType::kF32);
  const Tensor values(DType::kF32, {100});
  backend->start_profile(base::Clock::kThread);
  (void)backend->squared_norm(values);
  backend->start_profile(base::Clock::kThread);
  EXPECT_TRUE(backend->profile().empty());
  (void)backend->squared_norm(values);
  backend->fill_zero(values);
  ASSERT_EQ(backend->profile().size(), 2U);
  EXPECT_EQ(backend->profile()[0].operation, "squared_norm");
  EXPECT_EQ(backend->profile()[0].calls, 1);
  EXPECT_EQ(backend->profile()[0].bytes, 400);
  EXPECT_EQ(backend->profile()[1].operation, "fill_zero");
}

TEST(Profile, CountsHalfOfCausalAttention) {
  const auto backend = make_backend(Device::kReference, DType::kF32);
  const std::int64_t length = 6;
  const std::int64_t channels = 4;
  const Tensor qkv(DType::kF32, {length, 3 * channels});
  const Tensor out(DType::kF32, {length, channels});
  const Tensor lse(DType::kF32, {1, 2, length});
  backend->start_profile(base::Clock::kWall);
  backend->attention_forward(out, lse, qkv);
  ASSERT_EQ(backend->profile().size(), 1U);
  // q k^T and p v: each 2 T T C, of which half lies in the past.
  EXPECT_EQ(backend->profile()[0].flops, 2 * length * length * channels);
}

TEST(LimitMeter, MeasuresEveryLimit) {
  LimitMeter meter;
  for (const Limit limit : {Limit::kF32, Limit::kBf16, Limit::kInt8, Limit::kRead, Limit::kCopy}) {
    EXPECT_GT(meter.measure(limit, 0.002), 0);
    EXPECT_GT(meter.measure(limit, 0.002, base::Clock::kThread), 0);
  }
}

}  // namespace
}  // namespace kernels::test
