// What a backend can compute with: the list, trying it, making a backend of it.

#include <gmock/gmock.h>

#include <cstdlib>

#include "expect_error.h"
#include "kernels/helpers.h"

namespace kernels::test {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

TEST(CpuChoices, OfEachTypeAreThereAndNamed) {
  if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks the instruction set";
  for (const DType type : {DType::kF32, DType::kBf16}) {
    const std::vector<CpuChoice> choices = cpu_choices(type);
    ASSERT_FALSE(choices.empty());
    const std::vector<std::string> sets = available_instruction_sets();
    for (const CpuChoice& choice : choices) {
      EXPECT_THAT(sets, testing::Contains(choice.isa));
      EXPECT_THAT(choice.products, AnyOf("own", "onednn", "plain"));
      EXPECT_EQ(std::count(choices.begin(), choices.end(), choice), 1);
    }
    EXPECT_EQ(choices.front().isa, instruction_set());
  }
}

TEST(CpuChoices, ForcingAnInstructionSetLeavesWhatRunsWithIt) {
  if (!instruction_set_is_forced()) GTEST_SKIP() << "GPT2_CPU_ISA is not set";
  if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks it";
  for (const CpuChoice& choice : cpu_choices(DType::kBf16)) {
    EXPECT_EQ(choice.isa, std::getenv("GPT2_CPU_ISA"));
  }
}

TEST(CpuChoices, AllOfThemComputeTheSame) {
  if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks it";
  for (const DType type : {DType::kF32, DType::kBf16}) {
    Draw draw(type);
    const Tensor inp = draw({5, 70});
    const Tensor parameter = draw({70, 33});
    const Tensor bias = draw({33});
    const auto product = [&](Backend& backend) {
      Tensor out = unwritten(backend.compute_type(), {5, 33});
      const Weight weight(backend, parameter, WeightOrder::kInOut);
      backend.linear_forward(out, {}, inp.as(backend.compute_type()), weight, bias,
                             Epilogue::kNone);
      return out;
    };
    const auto truth = make_backend(Device::kReference, DType::kF32);
    const Output expected{.name = "out", .tensor = product(*truth)};
    for (const CpuChoice& choice : cpu_choices(type)) {
      SCOPED_TRACE(choice.isa + " " + choice.products);
      const auto backend = make_backend(Device::kCpu, type, &choice);
      expect_close({.name = "out", .tensor = product(*backend)}, expected, tolerance_of(type));
    }
  }
}

TEST(CpuChoices, TryingThemGivesARateOfEach) {
  if (instruction_set_missing()) GTEST_SKIP() << "this processor lacks it";
  std::vector<CpuChoice> choices = cpu_choices(DType::kF32);
  choices.resize(1);
  const std::vector<double> rates = try_cpu_choices(DType::kF32, choices);
  ASSERT_EQ(rates.size(), 1U);
  EXPECT_GT(rates.front(), 0);
  EXPECT_TRUE(try_cpu_choices(DType::kF32, {}).empty());
}

TEST(CpuChoices, OneThatDoesNotExistIsAnError) {
  const CpuChoice foreign{.isa = "sve2", .products = "own"};
  expect_error(
      "this processor or build cannot compute bf16 with own products on 'sve2'; GPT2_CPU_ISA can "
      "name another instruction set",
      [&] { (void)make_backend(Device::kCpu, DType::kBf16, &foreign); });
  const CpuChoice unknown{.isa = "generic", .products = "borrowed"};
  EXPECT_THAT(error_of([&] { (void)try_cpu_choices(DType::kF32, {unknown}); }),
              HasSubstr("with borrowed products on 'generic'"));
}

}  // namespace
}  // namespace kernels::test
