// GPT-2's own sizes against the reference: too slow for the fast tests.

#include "kernels/operations.h"

namespace kernels::test {
namespace {

class LargeShapes : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
  }
  template <class Operation>
  void check(const Operation& operation) {
    against_reference(GetParam(), operation);
  }
};

INSTANTIATE_TEST_SUITE_P(, LargeShapes,
                         testing::Values(Subject{Device::kCpu, DType::kF32},
                                         Subject{Device::kCpu, DType::kBf16}),
                         [](const auto& suite) { return name_of(suite.param); });

TEST_P(LargeShapes, RowsOf768Channels) {
  check(Embed{2, 64, 768, 300});
  check(EmbedBackward{2, 64, 768, 300});
  check(LayerNorm{129, 768});
  check(LayerNormBackward{129, 768});
}

TEST_P(LargeShapes, Linear768) {
  check(Linear{9, 768, 768});
  check(Linear{3, 768, 3072, Epilogue::kGelu});
  check(LinearBackward{5, 768, 768});
  check(LinearBackward{3, 3072, 768, Epilogue::kGelu});
}

TEST_P(LargeShapes, Attention64) {
  check(Attention{1, 2, 300, 64});
  check(AttentionBackward{1, 1, 300, 64});
}

TEST_P(LargeShapes, HeadOf50257Tokens) {
  check(HeadLoss{3, 20, 50257, 50304});
  check(HeadLoss{2, 20, 50257, 50304, 1.0, 0, false});
  check(HeadLogits{1, 20, 50257, 50304});
}

TEST_P(LargeShapes, HeadOf768Channels) { check(HeadLoss{9, 768, 1000, 1024}); }

}  // namespace
}  // namespace kernels::test
