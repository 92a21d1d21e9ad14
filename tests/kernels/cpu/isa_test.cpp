// The instruction set's choice: GPT2_CPU_ISA, its errors, what the backend says it runs.

#include <gmock/gmock.h>

#include <cstdlib>
#include <string>

#include "kernels/cpu/matmul.h"
#include "kernels/helpers.h"

namespace kernels::test {
namespace {

using testing::HasSubstr;

/// GPT2_CPU_ISA for the length of a test.
class IsaVariable {
 public:
  explicit IsaVariable(const std::string& value) {
    const char* before = std::getenv(kName);
    if (before != nullptr) before_ = before;
    had_value_ = before != nullptr;
    ::setenv(kName, value.c_str(), 1);
  }
  ~IsaVariable() {
    if (had_value_) {
      ::setenv(kName, before_.c_str(), 1);
    } else {
      ::unsetenv(kName);
    }
  }
  IsaVariable(const IsaVariable&) = delete;
  IsaVariable& operator=(const IsaVariable&) = delete;

 private:
  static constexpr const char* kName = "GPT2_CPU_ISA";
  std::string before_;
  bool had_value_ = false;
};

std::string message_of(const std::string& isa) {
  const IsaVariable variable(isa);
  try {
    (void)make_backend(Device::kCpu, DType::kF32);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Isa, GenericIsAlwaysThereAndFirst) {
  const std::vector<std::string> sets = available_instruction_sets();
  ASSERT_FALSE(sets.empty());
  EXPECT_EQ(sets.front(), "generic");
}

TEST(Isa, AnUnknownOneIsAnErrorThatListsTheChoices) {
  const std::string message = message_of("avx9");
  EXPECT_THAT(message, HasSubstr("GPT2_CPU_ISA: unknown instruction set 'avx9'"));
  EXPECT_THAT(message, HasSubstr("generic"));
  EXPECT_THAT(message_of("AVX2"), HasSubstr("unknown instruction set"));
}

TEST(Isa, OneThatTheProcessorLacksIsAnError) {
  const std::vector<std::string> sets = available_instruction_sets();
  if (sets.back() == "amx") GTEST_SKIP() << "this processor has them all";
  EXPECT_THAT(message_of("amx"), HasSubstr("cannot run 'amx'; choose one of generic"));
}

TEST(Isa, AnotherOneInTheSameProcessIsAnErrorWhereOneDnnRuns) {
  const std::vector<std::string> sets = available_instruction_sets();
  if (sets.size() < 2) GTEST_SKIP() << "one instruction set only";
  const auto first = cpu::make_onednn_products(DType::kF32, cpu::available_isas().back());
  if (!first) GTEST_SKIP() << "our own products can change";
  EXPECT_THAT(message_of(sets.front()),
              HasSubstr("oneDNN already runs with " + sets.back() + " in this process"));
}

TEST(Isa, TheDescriptionNamesWhatRuns) {
  const IsaVariable variable(available_instruction_sets().back());
  for (const DType type : {DType::kF32, DType::kBf16}) {
    const auto backend = make_backend(Device::kCpu, type);
    EXPECT_EQ(backend->name(), "cpu");
    EXPECT_THAT(backend->description(), testing::StartsWith("cpu, "));
    EXPECT_THAT(backend->description(), HasSubstr(std::string(base::name_of(type))));
  }
}

}  // namespace
}  // namespace kernels::test
