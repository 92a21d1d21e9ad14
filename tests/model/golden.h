#pragma once
/// The golden checkpoints and what an independent float64 program computes from them.
// Source: tests/golden/model_golden, written by a numpy float64 implementation checked against
// PyTorch 1.13's float32 one; ref.json names each quantity.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "formats/formats.h"
#include "model/model.h"

namespace model_test {

using nlohmann::json;

/// A checkpoint's folder: "tiny" or "small".
inline base::Path golden_folder(const std::string& name) {
  return base::Path(GPT2_SOURCE_DIR "/tests/golden/model_golden") / name;
}

/// Which backend a test runs on.
struct BackendCase {
  kernels::Device device;
  base::DType type;
};

inline std::string name_of(const BackendCase& c) {
  const char* const device = c.device == kernels::Device::kCpu    ? "cpu"
                             : c.device == kernels::Device::kCuda ? "cuda"
                                                                  : "reference";
  return std::string(device) + "_" + std::string(base::name_of(c.type));
}

/// For names of tests.
inline void PrintTo(const BackendCase& c, std::ostream* out) { *out << name_of(c); }

/// The reason to skip the cpu backend here: GPT2_CPU_ISA asks for what this processor lacks.
inline std::string missing_instruction_set() {
  const char* const wanted = std::getenv("GPT2_CPU_ISA");
  if (wanted == nullptr) return {};
  for (const std::string& name : kernels::available_instruction_sets()) {
    if (name == wanted) return {};
  }
  return std::string("this processor lacks ") + wanted;
}

/// (B, T) rows of ref.json as one sequence of ids.
inline std::vector<std::int32_t> flat_ids(const json& rows) {
  std::vector<std::int32_t> ids;
  for (const json& row : rows) {
    for (const json& id : row) ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

/// f64 tensors of ref.safetensors.
class GoldenTensors {
 public:
  explicit GoldenTensors(const std::string& name)
      : file_(formats::TensorFile::open(golden_folder(name) / "ref.safetensors")) {}

  /// Empty when the file has none of that name.
  std::vector<double> values(const std::string& name) const {
    const formats::Tensor* const tensor = file_.find(name);
    if (tensor == nullptr) return {};
    std::vector<double> values(tensor->bytes.size() / sizeof(double));
    std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
    return values;
  }

 private:
  formats::TensorFile file_;
};

inline json golden_json(const std::string& name) {
  return json::parse(base::read_file(golden_folder(name) / "ref.json"));
}

/// The rows of a parameter, gradient or moment that files hold.
inline std::span<const float> file_values(const base::View& view,
                                          const model::ParameterInfo& info) {
  const base::ConstView rows = view.rows(0, info.file_rows);
  return {rows.f32(), static_cast<std::size_t>(rows.elements())};
}

}  // namespace model_test
