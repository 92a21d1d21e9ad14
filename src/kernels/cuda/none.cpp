// In place of the CUDA backend where the build has no CUDA.

#include "base/error.h"
#include "kernels/cuda/backend.h"

namespace kernels {

std::string find_cuda_trouble(int) {
  return "this program was built without CUDA; configure with the preset cuda, or use --device cpu";
}

std::unique_ptr<Backend> make_cuda_backend(int index, DType, bool) {
  base::fail("{}", find_cuda_trouble(index));
}

}  // namespace kernels
