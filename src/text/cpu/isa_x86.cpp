// What an x86-64 processor offers.

#include <cpuid.h>

#include "text/cpu/isa.h"

namespace text::cpu::detail {
namespace {

/// GCC 12 has no name for LZCNT in __builtin_cpu_supports. Source: Intel SDM, volume 2, CPUID leaf
/// 80000001H.
bool has_lzcnt() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(0x80000001U, &eax, &ebx, &ecx, &edx) != 0 && (ecx & 1U << 5) != 0;
}

}  // namespace

std::vector<const Kernels*> kernels_of_processor() {
  __builtin_cpu_init();
  std::vector<const Kernels*> kernels = {&kGenericTable};
  const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("bmi") != 0 &&
                    __builtin_cpu_supports("bmi2") != 0 && __builtin_cpu_supports("aes") != 0 &&
                    __builtin_cpu_supports("popcnt") != 0 && has_lzcnt();
  if (avx2) kernels.push_back(&kAvx2Table);
  const bool avx512 =
      avx2 && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
      __builtin_cpu_supports("avx512vbmi") != 0 && __builtin_cpu_supports("avx512vbmi2") != 0;
  if (avx512) kernels.push_back(&kAvx512Table);
  return kernels;
}

}  // namespace text::cpu::detail
