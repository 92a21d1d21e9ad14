#pragma once
// Golden models for the tests of generation.

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "formats/formats.h"
#include "generate/generate.h"

namespace generate_testing {

/// Source: two checkpoints with random weights and what an independent float64 program computes
/// from them, with the conventions spelled out in each ref.json.
inline base::Path golden(const std::string& name) {
  return base::Path(GPT2_SOURCE_DIR "/tests/golden/model_golden") / name;
}

inline nlohmann::json reference(const std::string& name) {
  return nlohmann::json::parse(base::read_file(golden(name) / "ref.json"));
}

inline model::Gpt2 load(const std::string& name, kernels::Device device) {
  return model::load_model(golden(name), kernels::make_backend(device, base::DType::kF32), false);
}

/// The same without masters, as the program loads models that only run.
inline model::Gpt2 load_for_inference(const std::string& name, kernels::Device device,
                                      base::DType type = base::DType::kF32) {
  return model::load_model(golden(name), kernels::make_backend(device, type), false);
}

/// Puts the golden parameters after ten training steps into `model`. Only "tiny" has them.
inline void set_trained(model::Gpt2& model, const std::string& name) {
  const auto file = formats::TensorFile::open(golden(name) / "ref.safetensors");
  model.parameters().for_each([&](base::View& view, const model::ParameterInfo& info) {
    const formats::Tensor* tensor = file.find("final_f64." + info.name);
    ASSERT_NE(tensor, nullptr) << info.name;
    const double* values = tensor->view().f64();
    for (std::int64_t i = 0; i < tensor->elements(); ++i) {
      view.f32()[i] = static_cast<float>(values[i]);
    }
  });
  model.pack();
}

/// Runs to the end and returns the new ids.
inline std::vector<std::int32_t> continuation(model::Gpt2& model,
                                              const std::vector<std::int32_t>& prompt,
                                              const generate::Options& options,
                                              generate::Stop* stop = nullptr) {
  std::vector<std::int32_t> ids;
  const generate::Stop end = generate::run(model, prompt, options, [&](std::int32_t id) {
    ids.push_back(id);
    return true;
  });
  if (stop != nullptr) *stop = end;
  return ids;
}

/// Expects an Error whose message has `part` in it.
template <class F>
void expect_error(const std::string& part, F&& function) {
  try {
    function();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

}  // namespace generate_testing
