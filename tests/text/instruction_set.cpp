// Skips a program's tests where the processor lacks the instruction set that GPT2_CPU_ISA names.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "text/cpu/isa.h"

namespace {

class InstructionSet : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* const wanted = std::getenv("GPT2_CPU_ISA");
    if (wanted == nullptr) return;
    for (const text::cpu::Kernels* const kernels : text::cpu::available_kernels()) {
      if (std::string_view(kernels->name) == wanted) return;
    }
    GTEST_SKIP() << "this processor has no " << wanted;
  }
};

const ::testing::Environment* const kInstructionSet =
    ::testing::AddGlobalTestEnvironment(new InstructionSet);

}  // namespace
