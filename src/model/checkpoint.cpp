// Model directories as transformers writes and reads them, and files of bare parameters.
// Law: a tensor is used only when its name, shape and type are what the configuration says.

#include <algorithm>
#include <cstring>
#include <map>

#include "base/error.h"
#include "model/model.h"
#include "model/parameters.h"
#include "model/tensors.h"

namespace model {
namespace {

using formats::Tensor;
using formats::TensorFile;

constexpr std::size_t kStagingElements = std::size_t{1} << 16;  // converted at a time when writing

const std::map<std::string, std::string> kMetadata = {
    {"format", "pt"}};  // what transformers expects

/// Writes a set; the tensors' bytes stream through a small buffer where they change their type.
std::uint32_t write_set(const base::Path& path, const ParameterSet& set, DType type) {
  std::vector<formats::TensorSpec> specs;
  set.for_each([&](const View& view, const ParameterInfo& info) {
    if (view.empty()) return;
    const Shape shape = file_shape(info);
    formats::TensorSpec spec{.name = info.name, .type = type, .shape = {shape[0]}};
    if (shape.rank() == 2) spec.shape.push_back(shape[1]);
    specs.push_back(std::move(spec));
  });
  formats::SafetensorsWriter writer(path, std::move(specs), kMetadata);
  std::vector<base::Bf16> staging(type == DType::kBf16 ? kStagingElements : 0);
  set.for_each([&](const View& view, const ParameterInfo& info) {
    if (view.empty()) return;
    const ConstView rows = view.rows(0, info.file_rows);
    std::span<const float> values(rows.f32(), static_cast<std::size_t>(rows.elements()));
    if (type == DType::kF32) return writer.write(std::as_bytes(values));
    while (!values.empty()) {
      const auto part = values.first(std::min(values.size(), kStagingElements));
      std::ranges::transform(part, staging.begin(), base::to_bf16);
      writer.write(std::as_bytes(std::span(staging).first(part.size())));
      values = values.subspan(part.size());
    }
  });
  return writer.commit();
}

}  // namespace

Gpt2 load_model(const base::Path& folder, std::unique_ptr<kernels::Backend> backend, bool trainable,
                std::optional<std::int64_t> context) {
  Config config = read_config(folder);
  const TensorFile file = TensorFile::open_model(folder);
  const std::vector<const Tensor*> tensors = match_parameters(file, parameter_list(config));
  if (context) {
    if (*context < 1 || *context > config.context) {
      base::fail("{}: context: expected 1 to the model's {}, got {}", folder.string(),
                 config.context, *context);
    }
    config.context = *context;
  }
  Gpt2 model(config, std::move(backend), trainable);
  set_parameters(model, tensors);
  return model;
}

void save_model(const base::Path& folder, const ParameterSet& parameters, DType type) {
  if (type != DType::kF32 && type != DType::kBf16) {
    base::fail("{}: model files are written in f32 or bf16, not {}", folder.string(),
               name_of(type));
  }
  write_set(folder / "model.safetensors", parameters, type);
  base::write_file(folder / "config.json", config_json(parameters.config(), type));
}

std::uint32_t save_parameters(const base::Path& path, const ParameterSet& parameters) {
  return write_set(path, parameters, DType::kF32);
}

void load_parameters(const base::Path& path, ParameterSet& parameters) {
  const TensorFile file = TensorFile::open(path);
  std::vector<ParameterInfo> list;
  std::vector<View> views;
  parameters.for_each([&](View& view, const ParameterInfo& info) {
    if (view.empty()) return;
    list.push_back(info);
    views.push_back(view);
  });
  const std::vector<const Tensor*> tensors = match_parameters(file, list, {DType::kF32});
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::memcpy(views[i].data(), tensors[i]->bytes.data(), tensors[i]->bytes.size());
  }
}

}  // namespace model
