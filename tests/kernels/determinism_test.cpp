// Same bits: on any number of threads for our own sums, and run after run for all operations.

#include <functional>

#include "base/parallel.h"
#include "kernels/operations.h"

namespace kernels::test {
namespace {

struct Named {
  std::string name;
  std::function<Outputs(Backend&, Draw)> run;
};

/// Sums that are ours: split by shape.
std::vector<Named> own_operations() {
  return {{"embed_forward", Embed{3, 40, 33, 50}},
          {"embed_backward", EmbedBackward{3, 40, 33, 50}},
          {"embed_backward of few ids", EmbedBackward{2, 300, 33, 5}},
          {"add_layernorm_forward", LayerNorm{131, 48}},
          {"add_layernorm_backward", LayerNormBackward{131, 48}},
          {"add_layernorm_backward of many rows", LayerNormBackward{1000, 17}},
          {"attention_forward", Attention{2, 3, 130, 16}},
          {"attention_backward", AttentionBackward{2, 3, 130, 16}},
          {"attention_backward of one head", AttentionBackward{1, 1, 200, 16}},
          {"attention_cached, prompt", AttentionCached{3, 130, 16, 130}},
          {"attention_cached, token by token", AttentionCached{3, 70, 16, 1}},
          {"attention_cached, several sequences",
           AttentionOfSequences{2, 16, {{70, 1}, {0, 70}, {3, 1}, {61, 33}}}},
          {"adamw_step", AdamWSteps{{70'001}, 2}}};
}

/// The library's products, whose sums may follow the number of threads.
std::vector<Named> products() {
  return {{"linear_forward", Linear{65, 64, 96, Epilogue::kGelu}},
          {"linear_backward", LinearBackward{130, 64, 96, Epilogue::kGelu}},
          {"linear_backward of few rows", LinearBackward{5, 33, 97}},
          {"head_loss", HeadLoss{150, 32, 300, 384}},
          {"head_logits", HeadLogits{5, 32, 300, 384}},
          {"muon_step", MuonSteps{97, 300, 3}},
          {"muon_step of a tall matrix", MuonSteps{200, 64}}};
}

class Determinism : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
  }
  ~Determinism() override { base::set_thread_count(before_); }

  /// All outputs of a fresh backend, as bytes.
  std::vector<std::vector<std::byte>> bits(const Named& operation) const {
    const auto backend = make_backend(GetParam().device, GetParam().type);
    std::vector<std::vector<std::byte>> bytes;
    for (const Output& output : operation.run(*backend, Draw(GetParam().type))) {
      bytes.push_back(output.tensor.bytes());
    }
    return bytes;
  }

 private:
  int before_ = base::thread_count();
};

INSTANTIATE_TEST_SUITE_P(, Determinism,
                         testing::Values(Subject{Device::kCpu, DType::kF32},
                                         Subject{Device::kCpu, DType::kBf16}),
                         [](const auto& suite) { return name_of(suite.param); });

TEST_P(Determinism, OurOwnSumsDoNotDependOnThreads) {
  for (const Named& operation : own_operations()) {
    base::set_thread_count(1);
    const auto alone = bits(operation);
    for (const int threads : {2, 3}) {
      base::set_thread_count(threads);
      EXPECT_EQ(bits(operation), alone) << operation.name << " on " << threads << " threads";
    }
  }
}

TEST_P(Determinism, EveryRunOnTheSameThreadsGivesTheSameBits) {
  auto operations = own_operations();
  for (const Named& operation : products()) operations.push_back(operation);
  for (const int threads : {1, 3}) {
    base::set_thread_count(threads);
    for (const Named& operation : operations) {
      EXPECT_EQ(bits(operation), bits(operation)) << operation.name << " on " << threads;
    }
  }
}

}  // namespace
}  // namespace kernels::test
