// Model directories as transformers writes and reads them, and files of bare parameters.
// Law: a tensor is used only when its name, shape and type are what the configuration says.

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>

#include "base/error.h"
#include "formats/formats.h"
#include "model/model.h"
#include "model/parameters.h"

namespace model {
namespace {

using formats::Tensor;
using formats::TensorFile;

constexpr std::string_view kPrefix = "transformer.";
constexpr std::string_view kHead = "lm_head.weight";
constexpr std::size_t kStagingElements = std::size_t{1} << 16;  // converted at a time when writing

const std::map<std::string, std::string> kMetadata = {
    {"format", "pt"}};  // what transformers expects

std::string shape_text(const std::vector<std::int64_t>& dims) {
  std::string text = "(";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(dims[i]);
  }
  return text + ")";
}

/// The shape that files hold: the vocabulary without its padding.
Shape file_shape(const ParameterInfo& info) {
  return info.shape.rank() == 1 ? Shape{info.file_rows} : Shape{info.file_rows, info.shape[1]};
}

/// "h.<number>.attn.bias" and "h.<number>.attn.masked_bias": the causal mask as older versions of
/// transformers stored it.
bool is_mask_buffer(std::string_view name) {
  if (!name.starts_with("h.")) return false;
  name.remove_prefix(2);
  const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  const std::string_view rest = name.substr(digits);
  return digits > 0 && (rest == ".attn.bias" || rest == ".attn.masked_bias");
}

/// A file's tensors by their names without the prefix; buffers are left out.
std::map<std::string_view, const Tensor*> by_plain_name(const TensorFile& file) {
  std::map<std::string_view, const Tensor*> tensors;
  for (const Tensor& tensor : file.tensors()) {
    std::string_view name = tensor.name;
    if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
    if (is_mask_buffer(name)) continue;
    if (!tensors.emplace(name, &tensor).second) {
      base::fail("{}: tensor {} is there twice, with and without \"{}\"", file.path().string(),
                 name, kPrefix);
    }
  }
  return tensors;
}

void check_tensor(const TensorFile& file, const Tensor& tensor, const Shape& expected,
                  std::initializer_list<DType> types) {
  std::vector<std::int64_t> dims;
  for (std::size_t i = 0; i < expected.rank(); ++i) dims.push_back(expected[i]);
  if (tensor.shape != dims) {
    base::fail("{}: tensor {}: expected {}, got {}", file.path().string(), tensor.name,
               base::to_string(expected), shape_text(tensor.shape));
  }
  if (!tensor.type || std::ranges::find(types, *tensor.type) == types.end()) {
    std::string names;
    for (const DType type : types)
      names += fmt::format("{}{}", names.empty() ? "" : ", ", name_of(type));
    base::fail("{}: tensor {}: expected type {}, got {}", file.path().string(), tensor.name, names,
               tensor.type_name);
  }
}

/// Finds every parameter of the list, in its order; refuses what is missing, unknown or misshapen.
std::vector<const Tensor*> match(const TensorFile& file, const std::vector<ParameterInfo>& list,
                                 std::initializer_list<DType> types) {
  std::map<std::string_view, const Tensor*> tensors = by_plain_name(file);
  std::vector<const Tensor*> found;
  for (const ParameterInfo& info : list) {
    const auto entry = tensors.find(info.name);
    if (entry == tensors.end()) {
      base::fail("{}: tensor {} is missing", file.path().string(), info.name);
    }
    check_tensor(file, *entry->second, file_shape(info), types);
    found.push_back(entry->second);
    tensors.erase(entry);
  }
  if (const auto head = tensors.find(kHead); head != tensors.end()) {
    const Tensor& wte = *found.front();
    const Tensor& own = *head->second;
    if (own.type_name != wte.type_name || own.shape != wte.shape ||
        !std::ranges::equal(own.bytes, wte.bytes)) {
      base::fail(
          "{}: untied head: {} differs from wte.weight; only a head that shares the token "
          "embedding is implemented",
          file.path().string(), own.name);
    }
    tensors.erase(head);
  }
  if (!tensors.empty()) {
    base::fail("{}: unknown tensor {}; a GPT-2 of this config.json has none of that name",
               file.path().string(), tensors.begin()->second->name);
  }
  return found;
}

/// Bytes of a file may start anywhere; what computes wants whole elements' addresses.
ConstView aligned(const Tensor& tensor, std::vector<std::byte>& staging) {
  const ConstView view = tensor.view();
  const auto address = reinterpret_cast<std::uintptr_t>(view.data());
  if (address % base::size_of(view.type()) == 0) return view;
  staging.assign(tensor.bytes.begin(), tensor.bytes.end());
  return {staging.data(), view.type(), view.shape()};
}

/// Sets the model's parameters from what match() found; a shorter context takes wpe's first rows.
void fill(Gpt2& model, const std::vector<const Tensor*>& tensors) {
  std::vector<std::byte> staging;
  std::size_t next = 0;
  model.set_parameters([&](const ParameterInfo& info) {
    return aligned(*tensors[next++], staging).rows(0, info.file_rows);
  });
}

/// Writes a set; the tensors' bytes stream through a small buffer where they change their type.
std::uint32_t write_set(const base::Path& path, const ParameterSet& set, DType type) {
  std::vector<formats::TensorSpec> specs;
  set.for_each([&](const View&, const ParameterInfo& info) {
    const Shape shape = file_shape(info);
    formats::TensorSpec spec{.name = info.name, .type = type, .shape = {shape[0]}};
    if (shape.rank() == 2) spec.shape.push_back(shape[1]);
    specs.push_back(std::move(spec));
  });
  formats::SafetensorsWriter writer(path, std::move(specs), kMetadata);
  std::vector<base::Bf16> staging(type == DType::kBf16 ? kStagingElements : 0);
  set.for_each([&](const View& view, const ParameterInfo& info) {
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
  const std::vector<const Tensor*> tensors =
      match(file, parameter_list(config), {DType::kF32, DType::kBf16, DType::kF16});
  if (context) {
    if (*context < 1 || *context > config.context) {
      base::fail("{}: context: expected 1 to the model's {}, got {}", folder.string(),
                 config.context, *context);
    }
    config.context = *context;
  }
  Gpt2 model(config, std::move(backend), trainable);
  fill(model, tensors);
  return model;
}

Gpt2 load_for_inference(const base::Path& folder, std::unique_ptr<kernels::Backend> backend) {
  const Config config = read_config(folder);
  const TensorFile file = TensorFile::open_model(folder);
  const std::vector<const Tensor*> tensors =
      match(file, parameter_list(config), {DType::kF32, DType::kBf16, DType::kF16});
  Gpt2 model = Gpt2::for_inference(config, std::move(backend));
  fill(model, tensors);
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
  const std::vector<const Tensor*> tensors =
      match(file, parameter_list(parameters.config()), {DType::kF32});
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::memcpy(parameters.view(i).data(), tensors[i]->bytes.data(), tensors[i]->bytes.size());
  }
}

}  // namespace model
