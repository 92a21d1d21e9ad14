// The golden cases on the cpu backend.

#include "model/golden_test.h"

namespace model_test {

constexpr BackendCase kF32 = {kernels::Device::kCpu, base::DType::kF32};
constexpr BackendCase kBf16 = {kernels::Device::kCpu, base::DType::kBf16};

INSTANTIATE_TEST_SUITE_P(Cpu, Golden,
                         testing::Values(GoldenCase{"tiny", kF32}, GoldenCase{"small", kF32},
                                         GoldenCase{"tiny", kBf16}, GoldenCase{"small", kBf16}),
                         golden_case_name);

}  // namespace model_test
