// Choosing what to compute with.

#include "cli/cpu_choice.h"

#include "base/error.h"
#include "measure/measure.h"

namespace cli {

std::string text_of(const kernels::CpuChoice& choice) {
  return fmt::format("{}, {} products", choice.isa, choice.products);
}

kernels::CpuChoice choose_cpu(const CommonOptions& common, base::DType compute_type) {
  const measure::CpuChoices chosen = measure::choose_cpu(compute_type, measure::cache_folder());
  if (chosen.origin != measure::Origin::kMeasured) return chosen.choice;
  std::string rates;
  for (std::size_t i = 0; i < chosen.choices.size(); ++i) {
    rates += fmt::format("{}{} {:.0f}", i == 0 ? "" : "; ", text_of(chosen.choices[i]),
                         chosen.rates[i] / 1e9);
  }
  note(common, fmt::format("measured once what computes {} fastest here, GFLOP/s: {}; chose {}",
                           base::name_of(compute_type), rates, text_of(chosen.choice)));
  return chosen.choice;
}

}  // namespace cli
