// Built only while there is no CPU backend: asking for it is an error, the reference works.

#include "base/error.h"
#include "kernels/cpu/backend.h"

namespace kernels {

std::unique_ptr<Backend> make_cpu_backend(DType /*compute_type*/) {
  base::fail("make_backend: built without the cpu backend; use the reference");
}
std::vector<std::string> available_instruction_sets() { return {}; }
bool bf16_products_in_hardware() { return false; }

}  // namespace kernels
