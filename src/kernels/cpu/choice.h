#pragma once
/// What a backend can compute with: pairs of an instruction set and somebody's dense products.

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/matmul.h"
#include "kernels/kernels.h"

namespace kernels::cpu {

/// Whose dense products.
enum class Source : std::uint8_t {
  kOwn,     ///< "own": made for an instruction set
  kOneDnn,  ///< "onednn"
  kPlain,   ///< "plain": our blocked product that runs everywhere
};

std::string_view name_of(Source source);

/// A CpuChoice in this room's words.
struct Choice {
  Isa isa = Isa::kGeneric;
  Source source = Source::kPlain;
};

/// The products of a choice; null where there are none of that kind.
std::unique_ptr<Products> make_products(DType type, const Choice& choice);

/// What can serve `type`, the expected best first; never empty. GPT2_CPU_ISA leaves what runs with
/// that instruction set.
std::vector<Choice> choices(DType type);

/// Nothing where this processor or build lacks it.
std::optional<Choice> find_choice(DType type, const CpuChoice& choice);
/// Throws Error where this processor or build lacks it.
Choice to_choice(DType type, const CpuChoice& choice);

}  // namespace kernels::cpu
