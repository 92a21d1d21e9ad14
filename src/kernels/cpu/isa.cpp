// The choice of the instruction set.

#include "kernels/cpu/isa.h"

#include <array>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "kernels/cpu/matmul.h"
#include "kernels/kernels.h"

namespace kernels {
namespace cpu {
namespace {

constexpr std::array kNames = {"generic", "avx2", "avx512", "avx512_bf16", "amx"};

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::string_view name_of(Isa isa) { return kNames.at(static_cast<std::size_t>(isa)); }

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  const auto strongest = static_cast<std::size_t>(detail::strongest_isa());
  for (std::size_t i = 0; i <= strongest; ++i) {
    isas.push_back(static_cast<Isa>(i));
  }
  return isas;
}

Isa chosen_isa() {
  const std::vector<Isa> isas = available_isas();
  const char* wanted = std::getenv("GPT2_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return isas.back();
  for (const Isa isa : isas) {
    if (name_of(isa) == wanted) return isa;
  }
  bool known = false;
  for (const std::string_view name : kNames) known = known || name == wanted;
  base::fail("GPT2_CPU_ISA: {} '{}'; choose one of {}, or unset it",
             known ? "this processor or build cannot run" : "unknown instruction set", wanted,
             join(available_instruction_sets()));
}

const KernelTable& table_for(Isa isa) { return detail::table_up_to(isa); }
const IntegerTable& integer_table_for(Isa isa) { return detail::integer_table_up_to(isa); }

const AttentionKernels& attention_for(Isa isa, base::DType type) {
  const KernelTable& table = table_for(isa);
  if (type == base::DType::kF32) return table.f32.attention;
  const AttentionKernels* amx = isa == Isa::kAmx ? detail::amx_attention() : nullptr;
  return amx != nullptr ? *amx : table.bf16.attention;
}

}  // namespace cpu

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> names;
  for (const cpu::Isa isa : cpu::available_isas()) names.emplace_back(cpu::name_of(isa));
  return names;
}

std::string instruction_set() { return std::string(cpu::name_of(cpu::chosen_isa())); }

bool instruction_set_is_forced() {
  const char* wanted = std::getenv("GPT2_CPU_ISA");
  return wanted != nullptr && *wanted != '\0';
}

bool bf16_products_in_hardware() {
  const cpu::Isa isa = cpu::chosen_isa();
  return cpu::detail::tiles_up_to(isa) != nullptr ||
         (cpu::built_with_onednn() && isa >= cpu::Isa::kAvx512Bf16);
}

}  // namespace kernels
