// Which of our own products serve an element type on an instruction set.

#include "kernels/cpu/matmul.h"

namespace kernels::cpu {

std::unique_ptr<Products> make_own_products(base::DType type, Isa isa) {
  if (auto tiles = make_tile_products(type, isa)) return tiles;
  return isa >= Isa::kAvx512 ? make_panel_products(type, isa) : nullptr;
}

}  // namespace kernels::cpu
