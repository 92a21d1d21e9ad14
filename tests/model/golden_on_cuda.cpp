// The golden cases on the CUDA backend, whose kernels the host plays; or a device's (tests/device).

#include "model/golden_test.h"

namespace model_test {

constexpr BackendCase kBf16 = {kernels::Device::kCuda, base::DType::kBf16};
constexpr BackendCase kF32 = {kernels::Device::kCuda, base::DType::kF32};

INSTANTIATE_TEST_SUITE_P(Cuda, Golden,
                         testing::Values(GoldenCase{"tiny", kBf16}, GoldenCase{"small", kBf16},
                                         GoldenCase{"tiny", kF32}),
                         golden_case_name);

}  // namespace model_test
