#pragma once
/// The golden cases' fixture; each executable names the backends that it runs them on.

#include <gtest/gtest.h>

#include <string>

#include "model/golden.h"

namespace model_test {

struct GoldenCase {
  std::string model;
  BackendCase backend;
};

class Golden : public testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    if (GetParam().backend.device != kernels::Device::kCpu) return;
    if (const std::string reason = missing_instruction_set(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
  }
};

inline std::string name_of(const GoldenCase& c) { return c.model + "_" + name_of(c.backend); }
inline void PrintTo(const GoldenCase& c, std::ostream* out) { *out << name_of(c); }
inline std::string golden_case_name(const testing::TestParamInfo<GoldenCase>& c) {
  return name_of(c.param);
}

}  // namespace model_test
