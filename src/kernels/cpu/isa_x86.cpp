// What an x86-64 processor and its system offer.

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/isa.h"

namespace kernels::cpu::detail {
namespace {

/// AMX needs the system's leave: its tiles are 8 KiB of state that Linux saves only for processes
/// that asked. Source: Linux, Documentation/x86/xstate.rst; CPUID leaf 7 in Intel's SDM, volume 2.
bool amx_granted() {
  constexpr unsigned kAmxBf16 = 1U << 22;
  constexpr unsigned kAmxTile = 1U << 24;
  constexpr unsigned kAmxInt8 = 1U << 25;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILE_DATA
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kAll = kAmxBf16 | kAmxTile | kAmxInt8;
  if ((edx & kAll) != kAll) return false;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

Isa strongest_isa() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
                    __builtin_cpu_supports("f16c") != 0;
  if (!avx2) return Isa::kGeneric;
  const bool avx512 =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  if (!avx512) return Isa::kAvx2;
  const bool dots = __builtin_cpu_supports("avx512bf16") != 0 &&  // none has the first alone
                    __builtin_cpu_supports("avx512vnni") != 0;
  if (!dots) return Isa::kAvx512;
  return amx_granted() ? Isa::kAmx : Isa::kAvx512Bf16;
}

const IntegerTable& integer_table_up_to(Isa isa) {
  switch (isa) {
    case Isa::kGeneric:
      return kIntegerGenericTable;
    case Isa::kAvx2:
      return kIntegerAvx2Table;
    case Isa::kAvx512:
      return kIntegerAvx512Table;
    case Isa::kAvx512Bf16:
      return kIntegerVnniTable;
    case Isa::kAmx:
      break;
  }
  return kIntegerAmxTable;
}

const KernelTable& table_up_to(Isa isa) {
  switch (isa) {
    case Isa::kGeneric:
      return kGenericTable;
    case Isa::kAvx2:
      return kAvx2Table;
    case Isa::kAvx512:
      return kAvx512Table;
    case Isa::kAvx512Bf16:
    case Isa::kAmx:
      break;
  }
  return kAvx512Bf16Table;
}

const AttentionKernels* amx_attention() { return &kAmxAttentionTable; }

const TileTable* tiles_up_to(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
      return &kAmxTilesTable;
    case Isa::kAvx512Bf16:
      return &kDotTilesTable;
    default:
      return nullptr;
  }
}

}  // namespace kernels::cpu::detail
