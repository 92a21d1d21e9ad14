// Built without oneDNN: there are only our own products.

#include "kernels/cpu/matmul.h"

namespace kernels::cpu {

std::unique_ptr<Products> make_onednn_products(base::DType /*type*/, Isa /*isa*/) {
  return nullptr;
}

bool built_with_onednn() { return false; }

}  // namespace kernels::cpu
