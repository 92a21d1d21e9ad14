// Muon against PyTorch: its author's formula in double, and torch.optim.Muon.

#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/helpers.h"

namespace kernels::test {
namespace {

using nlohmann::json;

Tensor tensor_of(const json& values, std::int64_t rows, std::int64_t columns) {
  Tensor tensor(DType::kF32, {rows, columns});
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    tensor.set(i, values.at(static_cast<std::size_t>(i)).get<double>());
  }
  return tensor;
}

class MuonGolden : public testing::TestWithParam<Subject> {};

INSTANTIATE_TEST_SUITE_P(, MuonGolden,
                         testing::Values(Subject{Device::kReference, DType::kF32},
                                         Subject{Device::kCpu, DType::kF32},
                                         Subject{Device::kCpu, DType::kBf16}),
                         [](const auto& suite) { return name_of(suite.param); });

TEST_P(MuonGolden, FourStepsOnMatricesOfAllShapes) {
  std::ifstream file(GPT2_SOURCE_DIR "/tests/golden/muon/muon.json");
  const json golden = json::parse(file);
  const auto backend = make_backend(GetParam().device, GetParam().type);
  // Four steps of 0.05 move an element by some 0.05; what bf16 makes of the iteration is a
  // twentieth of that, the reference's rounding to f32 much less.
  const double exact = GetParam().type == DType::kBf16           ? 5e-3
                       : GetParam().device == Device::kReference ? 1e-6
                                                                 : 1e-5;
  for (const json& c : golden["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const auto rows = c["rows"].get<std::int64_t>(), columns = c["columns"].get<std::int64_t>();
    Tensor parameter = tensor_of(c["weight"], rows, columns), m(DType::kF32, {rows, columns});
    const Muon hyper{.learning_rate = golden["lr"].get<float>(),
                     .momentum = golden["momentum"].get<float>(),
                     .weight_decay = golden["weight_decay"].get<float>(),
                     .parts = c["parts"].get<std::int64_t>(),
                     .scale = c["scale"].get<float>()};
    for (const json& gradient : c["gradients"]) {
      backend->muon_step(parameter, tensor_of(gradient, rows, columns), m, hyper, nullptr);
    }
    for (std::int64_t i = 0; i < parameter.size(); ++i) {
      const auto k = static_cast<std::size_t>(i);
      EXPECT_NEAR(parameter.at(i), c["f64"][k].get<double>(), exact) << i;
      EXPECT_NEAR(m.at(i), c["momentum_f64"][k].get<double>(), 1e-6) << i;
      EXPECT_NEAR(parameter.at(i), c["torch"][k].get<double>(), 5e-3) << i;
    }
  }
  EXPECT_EQ(golden["cases"].size(), 8U);
}

}  // namespace
}  // namespace kernels::test
