// A file's tensors as the parameters of a GPT-2.
// Law: a tensor is used only when its name, shape and type are what the configuration says.

#include "model/tensors.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "model/parameters.h"

namespace model {
namespace {

using formats::Tensor;
using formats::TensorFile;

std::string shape_text(const std::vector<std::int64_t>& dims) {
  std::string text = "(";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(dims[i]);
  }
  return text + ")";
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
    if (name.starts_with(kNamePrefix)) name.remove_prefix(kNamePrefix.size());
    if (is_mask_buffer(name)) continue;
    if (!tensors.emplace(name, &tensor).second) {
      base::fail("{}: tensor {} is there twice, with and without \"{}\"", file.path().string(),
                 name, kNamePrefix);
    }
  }
  return tensors;
}

}  // namespace

Shape file_shape(const ParameterInfo& info) {
  return info.shape.rank() == 1 ? Shape{info.file_rows} : Shape{info.file_rows, info.shape[1]};
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

std::vector<const Tensor*> match_parameters(const TensorFile& file,
                                            const std::vector<ParameterInfo>& list,
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
  if (const auto head = tensors.find(kHeadName); head != tensors.end()) {
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

ConstView aligned(const Tensor& tensor, std::vector<std::byte>& staging) {
  const ConstView view = tensor.view();
  const auto address = reinterpret_cast<std::uintptr_t>(view.data());
  if (address % base::size_of(view.type()) == 0) return view;
  staging.assign(tensor.bytes.begin(), tensor.bytes.end());
  return {staging.data(), view.type(), view.shape()};
}

void set_parameters(Gpt2& model, const std::vector<const Tensor*>& tensors) {
  std::vector<std::byte> staging;
  std::size_t next = 0;
  model.set_parameters([&](const ParameterInfo& info) {
    if (info.is_adapter) return ConstView{};
    return aligned(*tensors[next++], staging).rows(0, info.file_rows);
  });
}

}  // namespace model
