// Which of our own products serve an element type on an instruction set.

#include "kernels/cpu/matmul.h"

namespace kernels::cpu {

std::unique_ptr<Products> make_own_products(base::DType type, Isa isa) {
  if (type == base::DType::kF32 && isa >= Isa::kAvx512) return make_panel_products(type, isa);
  if (type == base::DType::kBf16 && isa == Isa::kAvx512) return make_panel_products(type, isa);
  return nullptr;
}

}  // namespace kernels::cpu
