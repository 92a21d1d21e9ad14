// The golden cases on the CUDA backend, whose kernels the host plays.

#include "model/golden_test.h"

namespace model_test {

constexpr BackendCase kCuda = {kernels::Device::kCuda, base::DType::kBf16};

INSTANTIATE_TEST_SUITE_P(Cuda, Golden,
                         testing::Values(GoldenCase{"tiny", kCuda}, GoldenCase{"small", kCuda}),
                         golden_case_name);

}  // namespace model_test
