// The choice of the instruction set.

#include "text/cpu/isa.h"

#include <array>
#include <cstdlib>
#include <string_view>

#include "base/error.h"

namespace text::cpu {
namespace {

/// GPT2_CPU_ISA's values, weakest first, and the kernels of this room that each allows.
struct Name {
  std::string_view name;
  std::string_view kernels;
};
constexpr std::array kNames = {Name{"generic", "generic"}, Name{"avx2", "avx2"},
                               Name{"avx512", "avx512"}, Name{"avx512_bf16", "avx512"},
                               Name{"amx", "avx512"}};

}  // namespace

std::vector<const Kernels*> available_kernels() { return detail::kernels_of_processor(); }

const Kernels& chosen_kernels() {
  const std::vector<const Kernels*> kernels = available_kernels();
  const char* wanted = std::getenv("GPT2_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return *kernels.back();
  for (const Name& name : kNames) {
    if (name.name != wanted) continue;
    for (const Kernels* const one : kernels) {
      if (one->name == name.kernels) return *one;
    }
    // A processor may have what "avx512" means to the kernels room, without VBMI2.
    if (name.kernels == "avx512" && kernels.size() > 1) return *kernels.back();
    base::fail("GPT2_CPU_ISA: this processor or build cannot run '{}'; unset it", wanted);
  }
  base::fail(
      "GPT2_CPU_ISA: unknown instruction set '{}'; choose one of generic, avx2, avx512, "
      "avx512_bf16, amx, or unset it",
      wanted);
}

}  // namespace text::cpu
