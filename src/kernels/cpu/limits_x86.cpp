// The loops for x86-64.

#include <cpuid.h>

#include "kernels/cpu/limits.h"

namespace kernels::cpu {
namespace {

/// CPUID leaf 7: AMX for int8 is a feature of its own.
bool has_amx_int8() {
  constexpr unsigned kAmxInt8 = 1U << 25;
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAmxInt8) != 0;
}

}  // namespace

std::vector<const LimitsTable*> limits_tables(Isa most) {
  std::vector<const LimitsTable*> tables = {&kLimitsGenericTable};
  __builtin_cpu_init();
  if (most >= Isa::kAvx2) tables.push_back(&kLimitsAvx2Table);
  if (most >= Isa::kAvx512) tables.push_back(&kLimitsAvx512Table);
  if (most >= Isa::kAvx512 && __builtin_cpu_supports("avx512vnni") != 0) {
    tables.push_back(&kLimitsVnniTable);
  }
  if (most >= Isa::kAvx512Bf16) tables.push_back(&kLimitsAvx512Bf16Table);
  if (most >= Isa::kAmx && has_amx_int8()) tables.push_back(&kLimitsAmxTable);
  return tables;
}

}  // namespace kernels::cpu
