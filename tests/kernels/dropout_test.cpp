// Dropout on the cpu backend: the reference's masks over awkward shapes, and masks that are fair.
// CMakeLists.txt registers this file once for each instruction set.

#include "kernels/operations.h"

namespace kernels::test {
namespace {

constexpr Dropout kDropout{0.25F, 0xfedcba9876543210ULL, 1000};

class DropoutOnBackends : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
  }
  template <class Operation>
  void check(Operation operation, const Dropout& dropout = kDropout) {
    operation.dropout = dropout;
    against_reference(GetParam(), operation);
  }
};

INSTANTIATE_TEST_SUITE_P(, DropoutOnBackends,
                         testing::Values(Subject{Device::kCpu, DType::kF32},
                                         Subject{Device::kCpu, DType::kBf16}),
                         [](const auto& suite) { return name_of(suite.param); });

constexpr std::int64_t kMaskWidths[] = {1, 7, 15, 16, 17, 33, 97};

TEST_P(DropoutOnBackends, OfTheEmbedding) {
  for (const std::int64_t channels : kMaskWidths) {
    SCOPED_TRACE(channels);
    check(Embed{3, 5, channels, 11, 2});
    check(EmbedBackward{3, 5, channels});
  }
  check(EmbedBackward{4, 70, 40});
}

TEST_P(DropoutOnBackends, OfTheBranchThatLayerNormAdds) {
  for (const std::int64_t channels : kMaskWidths) {
    SCOPED_TRACE(channels);
    check(LayerNorm{5, channels});
    check(LayerNorm{3, channels, true, true});
    check(LayerNormBackward{5, channels});
  }
  check(LayerNorm{200, 24});
  check(LayerNormBackward{200, 24});
}

TEST_P(DropoutOnBackends, OfAttentionsProbabilities) {
  for (const std::int64_t length : {1, 2, 15, 17, 33, 64, 65, 129}) {
    SCOPED_TRACE(length);
    check(Attention{2, 3, length, 16});
    check(AttentionBackward{2, 3, length, 16});
  }
  for (const std::int64_t head_size : {3, 20, 64, 136}) {
    SCOPED_TRACE(head_size);
    check(Attention{1, 2, 70, head_size});
    check(AttentionBackward{1, 2, 70, head_size});
  }
  check(AttentionBackward{1, 1, 320, 16});  // more than a group of keys
}

TEST_P(DropoutOnBackends, OfAttentionWhoseReferencesMove) {
  for (const double score : {16.0, 256.0}) check(Attention{1, 2, 200, 16, score, true});
}

TEST_P(DropoutOnBackends, OfNearlyNothingAndOfNearlyEverything) {
  for (const float probability : {1e-7F, 0.96875F}) {
    const Dropout dropout{probability, 5, 0};
    check(Embed{2, 33, 97}, dropout);
    check(LayerNorm{20, 97}, dropout);
    check(Attention{1, 2, 70, 16}, dropout);
  }
}

/// Values of 1 through the embedding: the masks themselves.
Tensor mask_of(Backend& backend, const Dropout& dropout, std::int64_t rows, std::int64_t columns) {
  Tensor wte(DType::kF32, {1, columns});
  Tensor wpe(DType::kF32, {rows, columns});
  for (std::int64_t i = 0; i < columns; ++i) wte.set(i, 1);
  const Tensor ids = integers(std::vector<std::int32_t>(static_cast<std::size_t>(rows), 0));
  Tensor x = unwritten(DType::kF32, {rows, columns});
  backend.embed_forward(x, ids, wte, wpe, rows, 0, dropout);
  return x;
}

TEST_P(DropoutOnBackends, MasksAreThoseOfTheReferenceExactly) {
  const auto truth = make_backend(Device::kReference, DType::kF32);
  const auto backend = make_backend(GetParam().device, GetParam().type);
  for (const float probability : {0.1F, 0.5F, 0.9F}) {
    const Dropout dropout{probability, 77, 123'456'789'012};
    const Tensor expected = mask_of(*truth, dropout, 64, 333);
    EXPECT_EQ(mask_of(*backend, dropout, 64, 333).bytes(), expected.bytes());
  }
}

TEST_P(DropoutOnBackends, MasksOfRowsDoNotDependOnHowTheStepIsCut) {
  const auto backend = make_backend(GetParam().device, GetParam().type);
  const Tensor whole = mask_of(*backend, {0.5F, 9, 0}, 40, 50);
  const Tensor rest = mask_of(*backend, {0.5F, 9, 24}, 16, 50);
  for (std::int64_t i = 0; i < rest.size(); ++i) ASSERT_EQ(rest.at(i), whole.at(24 * 50 + i));
}

TEST_P(DropoutOnBackends, KeepsEachElementWithItsProbability) {
  const auto backend = make_backend(GetParam().device, GetParam().type);
  constexpr std::int64_t kRows = 512, kColumns = 512;
  const double count = kRows * kColumns;
  for (const float p : {0.1F, 0.5F}) {
    const auto keep = 1 - static_cast<double>(p);
    const Tensor mask = mask_of(*backend, {p, 31, 0}, kRows, kColumns);
    double kept = 0, right = 0, below = 0, sum = 0;
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t i = 0; i < kColumns; ++i) {
        const bool here = mask.at(row * kColumns + i) != 0;
        sum += mask.at(row * kColumns + i);
        kept += here ? 1 : 0;
        right += here && mask.at(row * kColumns + (i + 1) % kColumns) != 0 ? 1 : 0;
        below += here && mask.at((row + 1) % kRows * kColumns + i) != 0 ? 1 : 0;
      }
    }
    // Five standard deviations of so many coins; neighbours fall independently.
    const auto deviations = [count](double q) { return 5 * std::sqrt(q * (1 - q) / count); };
    EXPECT_NEAR(kept / count, keep, deviations(keep));
    EXPECT_NEAR(sum / count, 1, deviations(keep) / keep) << "what is kept makes up for the rest";
    EXPECT_NEAR(right / count, keep * keep, 2 * deviations(keep * keep));
    EXPECT_NEAR(below / count, keep * keep, 2 * deviations(keep * keep));
  }
}

TEST_P(DropoutOnBackends, AttentionKeepsEachProbabilityWithItsProbability) {
  // Equal scores and values of 1: the last query's output is the mean of its mask.
  const auto backend = make_backend(GetParam().device, GetParam().type);
  constexpr std::int64_t kLength = 128, kHeads = 24, kSize = 2;
  Tensor qkv(GetParam().type, {kLength, 3 * kHeads * kSize});
  for (std::int64_t row = 0; row < kLength; ++row) {
    for (std::int64_t i = 0; i < kHeads * kSize; ++i) {
      qkv.set(row * 3 * kHeads * kSize + 2 * kHeads * kSize + i, 1);
    }
  }
  Tensor out(GetParam().type, {kLength, kHeads * kSize});
  Tensor lse(DType::kF32, {1, kHeads, kLength});
  backend->attention_forward(out, lse, qkv, {0.25F, 3, 0});
  double sum = 0, seen = 0;
  for (std::int64_t row = 0; row < kLength; ++row) {
    for (std::int64_t head = 0; head < kHeads; ++head) {
      const auto keys = static_cast<double>(row + 1);
      sum += keys * out.at(row * kHeads * kSize + head * kSize);
      seen += keys;
      EXPECT_NEAR(lse.at(head * kLength + row), std::log(keys), 1e-5);
    }
  }
  EXPECT_NEAR(sum / seen, 1, 5 * std::sqrt(0.25 / 0.75 / seen));
}

TEST_P(DropoutOnBackends, LossesAreSmoothedAsTheReferenceDoes) {
  for (const LossOptions options :
       {LossOptions{0.1F, 0}, LossOptions{0, 1e-2F}, LossOptions{0.5F, 1e-3F}}) {
    HeadLoss operation{33, 33, 97, 128};
    operation.options = options;
    against_reference(GetParam(), operation);
    operation.rows = 300;
    operation.vocab = 128;
    operation.gradient = Gradient::kOverwrite;
    against_reference(GetParam(), operation);
  }
}

TEST_P(DropoutOnBackends, RefusesWhatIsNoProbability) {
  const auto backend = make_backend(GetParam().device, GetParam().type);
  for (const float wrong : {-0.1F, 1.0F, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_THROW(mask_of(*backend, {wrong, 0, 0}, 1, 1), base::Error) << wrong;
  }
  LayerNormBackward operation{3, 8, false};
  operation.dropout = kDropout;
  EXPECT_THROW(operation(*backend, Draw(GetParam().type)), base::Error) << "needs dres_copy";
  HeadLoss loss{3, 8, 97, 128};
  loss.options.label_smoothing = 1.5F;
  EXPECT_THROW(loss(*backend, Draw(GetParam().type)), base::Error);
}

}  // namespace
}  // namespace kernels::test
