// The golden cases on the cpu backend.

#include "model/golden_test.h"

namespace model_test {

constexpr BackendCase kCpuF32 = {kernels::Device::kCpu, base::DType::kF32};
constexpr BackendCase kCpuBf16 = {kernels::Device::kCpu, base::DType::kBf16};

INSTANTIATE_TEST_SUITE_P(Cpu, Golden,
                         testing::Values(GoldenCase{"tiny", kCpuF32}, GoldenCase{"small", kCpuF32},
                                         GoldenCase{"tiny", kCpuBf16},
                                         GoldenCase{"small", kCpuBf16}),
                         golden_case_name);

}  // namespace model_test
