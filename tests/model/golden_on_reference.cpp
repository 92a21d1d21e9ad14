// The golden cases on the reference backend.

#include "model/golden_test.h"

namespace model_test {

constexpr BackendCase kReference = {kernels::Device::kReference, base::DType::kF32};

INSTANTIATE_TEST_SUITE_P(Reference, Golden,
                         testing::Values(GoldenCase{"tiny", kReference},
                                         GoldenCase{"small", kReference}),
                         golden_case_name);

}  // namespace model_test
