// Models that only run: how their weights are chosen, read, and written in other formats.
// Law: a packed file holds what pack_weight() made, byte for byte; it is ours alone and has its
// version in its metadata (docs/formats.md).

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "base/error.h"
#include "base/parallel.h"
#include "model/model.h"
#include "model/parameters.h"
#include "model/tensors.h"

namespace model {
namespace {

using formats::Tensor;
using formats::TensorFile;
using kernels::PackedPart;
using kernels::PackedWeight;
using kernels::WeightFormat;

constexpr std::array kPackedFormats = {WeightFormat::kInt8, WeightFormat::kInt4};
/// What quantize_model() says in a model.safetensors that it wrote in bf16.
constexpr const char* kPrecision = "precision";

std::map<std::string, std::string> packed_metadata(WeightFormat format) {
  return {{"format", "gpt2-packed"}, {"version", "1"}, {"weights", std::string(name_of(format))}};
}

bool has_packed(const base::Path& folder, WeightFormat format) {
  return std::filesystem::exists(folder / packed_file_name(format));
}

bool has_plain(const base::Path& folder) {
  return std::filesystem::exists(folder / "model.safetensors") ||
         std::filesystem::exists(folder / "model.safetensors.index.json");
}

std::vector<PackedPart> parts_of(WeightFormat format, const PackedWeight& weight) {
  return kernels::packed_parts(format, weight.inputs, weight.outputs, weight.order);
}

std::size_t bytes_of(const PackedPart& part) {
  return static_cast<std::size_t>(part.shape.elements()) * base::size_of(part.type);
}

// ---- reading ----------------------------------------------------------------------------------

/// Bytes of a file and where they go in memory.
struct Piece {
  const std::byte* from;
  std::byte* to;
  std::size_t bytes;
};

/// Copies on all threads: that the file's pages are brought in costs more than the copying.
void copy(const std::vector<Piece>& pieces) {
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  std::vector<Piece> chunks;
  for (Piece piece : pieces) {
    while (piece.bytes > 0) {
      const std::size_t bytes = std::min(piece.bytes, kChunk);
      chunks.push_back({piece.from, piece.to, bytes});
      piece = {piece.from + bytes, piece.to + bytes, piece.bytes - bytes};
    }
  }
  base::parallel_for_dynamic(static_cast<std::int64_t>(chunks.size()), [&](std::int64_t i) {
    const Piece& chunk = chunks[static_cast<std::size_t>(i)];
    std::memcpy(chunk.to, chunk.from, chunk.bytes);
  });
}

void check_metadata(const TensorFile& file, WeightFormat format) {
  for (const auto& [key, expected] : packed_metadata(format)) {
    const auto found = file.metadata().find(key);
    const std::string got = found == file.metadata().end() ? "none" : found->second;
    if (got == expected) continue;
    base::fail("{}: metadata \"{}\": expected {}, got {}; make it again with 'gpt2 quantize'",
               file.path().string(), key, expected, got);
  }
}

/// The tensors of a packed file, taken one after another by name.
class PackedReader {
 public:
  explicit PackedReader(const TensorFile& file) : file_(file) {}

  void take(const std::string& name, DType type, const Shape& shape, void* to) {
    const Tensor* const tensor = file_.find(name);
    if (tensor == nullptr) base::fail("{}: tensor {} is missing", file_.path().string(), name);
    check_tensor(file_, *tensor, shape, {type});
    pieces_.push_back({tensor->bytes.data(), static_cast<std::byte*>(to), tensor->bytes.size()});
    taken_.push_back(name);
  }

  /// Refuses what nobody took, and copies.
  void finish() {
    std::ranges::sort(taken_);
    for (const Tensor& tensor : file_.tensors()) {
      if (std::ranges::binary_search(taken_, tensor.name)) continue;
      base::fail("{}: unknown tensor {}; a GPT-2 of this config.json has none of that name",
                 file_.path().string(), tensor.name);
    }
    copy(pieces_);
  }

 private:
  const TensorFile& file_;
  std::vector<Piece> pieces_;
  std::vector<std::string> taken_;
};

Gpt2 load_packed(const base::Path& folder, std::unique_ptr<kernels::Backend> backend) {
  const WeightFormat format = backend->weight_format();
  const Config config = read_config(folder);
  const TensorFile file = TensorFile::open(folder / packed_file_name(format));
  check_metadata(file, format);
  Gpt2 model = Gpt2::for_inference(config, std::move(backend));
  PackedReader reader(file);
  model.for_each_parameter([&](View rows, const ParameterInfo& info) {
    if (!rows.empty()) return reader.take(info.name, DType::kF32, file_shape(info), rows.data());
    const PackedWeight& weight = model.packed_copy(info);
    for (const PackedPart& part : parts_of(format, weight)) {
      reader.take(info.name + std::string(part.suffix), part.type, part.shape,
                  weight.forward + part.offset);
    }
  });
  reader.finish();
  model.for_each_parameter([&](View rows, const ParameterInfo& info) {
    if (!rows.empty()) return;
    kernels::check_packed(format, model.packed_copy(info),
                          fmt::format("{}: {}", file.path().string(), info.name));
  });
  return model;
}

Gpt2 load_plain(const base::Path& folder, std::unique_ptr<kernels::Backend> backend) {
  const Config config = read_config(folder);
  const TensorFile file = TensorFile::open_model(folder);
  const std::vector<const Tensor*> tensors = match_parameters(file, parameter_list(config));
  Gpt2 model = Gpt2::for_inference(config, std::move(backend));
  set_parameters(model, tensors);
  return model;
}

// ---- writing ----------------------------------------------------------------------------------

formats::TensorSpec spec_of(std::string name, DType type, const Shape& shape) {
  formats::TensorSpec spec{.name = std::move(name), .type = type, .shape = {}};
  for (std::size_t i = 0; i < shape.rank(); ++i) spec.shape.push_back(shape[i]);
  return spec;
}

void write_packed(const base::Path& path, Gpt2& model) {
  const WeightFormat format = model.backend().weight_format();
  std::vector<formats::TensorSpec> specs;
  std::vector<std::span<const std::byte>> contents;
  const auto add = [&](std::string name, DType type, const Shape& shape, const void* data,
                       std::size_t bytes) {
    specs.push_back(spec_of(std::move(name), type, shape));
    contents.emplace_back(static_cast<const std::byte*>(data), bytes);
  };
  model.for_each_parameter([&](View rows, const ParameterInfo& info) {
    if (!rows.empty()) {
      return add(info.name, DType::kF32, file_shape(info), rows.data(), rows.bytes());
    }
    const PackedWeight& weight = model.packed_copy(info);
    for (const PackedPart& part : parts_of(format, weight)) {
      add(info.name + std::string(part.suffix), part.type, part.shape, weight.forward + part.offset,
          bytes_of(part));
    }
  });
  formats::SafetensorsWriter writer(path, std::move(specs), packed_metadata(format));
  for (const auto bytes : contents) writer.write(bytes);
  writer.commit();
}

/// model.safetensors in bf16, one tensor in memory at a time.
void write_bf16(const base::Path& from, const base::Path& to) {
  const std::vector<ParameterInfo> list = parameter_list(read_config(from));
  const TensorFile file = TensorFile::open_model(from);
  const std::vector<const Tensor*> tensors = match_parameters(file, list);
  std::vector<formats::TensorSpec> specs;
  for (const ParameterInfo& info : list) {
    specs.push_back(spec_of(info.name, DType::kBf16, file_shape(info)));
  }
  formats::SafetensorsWriter writer(to / "model.safetensors", std::move(specs),
                                    {{"format", "pt"}, {kPrecision, "bf16"}});
  const auto converter = kernels::make_backend(kernels::Device::kReference, DType::kF32);
  std::vector<base::Bf16> rounded;
  std::vector<std::byte> staging;
  for (const Tensor* tensor : tensors) {
    const ConstView values = aligned(*tensor, staging);
    rounded.resize(static_cast<std::size_t>(values.elements()));
    converter->convert(View(rounded.data(), DType::kBf16, values.shape()), values);
    writer.write(std::as_bytes(std::span(rounded)));
  }
  writer.commit();
}

}  // namespace

std::string packed_file_name(WeightFormat format) {
  return fmt::format("model-{}.safetensors", name_of(format));
}

WeightFormat stored_format(const base::Path& folder) {
  if (!has_plain(folder)) {
    for (const WeightFormat format : kPackedFormats) {
      if (has_packed(folder, format)) return format;
    }
  }
  const TensorFile file = TensorFile::open_model(folder);
  const auto precision = file.metadata().find(kPrecision);
  const bool bf16 = precision != file.metadata().end() && precision->second == "bf16";
  return bf16 ? WeightFormat::kBf16 : WeightFormat::kF32;
}

Gpt2 load_for_inference(const base::Path& folder, std::unique_ptr<kernels::Backend> backend) {
  const WeightFormat wanted = backend->weight_format();
  if (kernels::is_integer(wanted) && has_packed(folder, wanted)) {
    return load_packed(folder, std::move(backend));
  }
  if (has_plain(folder)) return load_plain(folder, std::move(backend));
  for (const WeightFormat format : kPackedFormats) {
    if (!has_packed(folder, format)) continue;
    base::fail(
        "{}: the weights are {} alone ({}), expected {}; use --precision {}, or the directory they "
        "were made from",
        folder.string(), name_of(format), packed_file_name(format), name_of(wanted),
        name_of(format));
  }
  return load_plain(folder, std::move(backend));  // which says what is missing
}

void quantize_model(const base::Path& from, const base::Path& to, WeightFormat format) {
  if (format == WeightFormat::kF32) {
    base::fail("{}: expected bf16, int8 or int4 to write, got fp32", from.string());
  }
  for (const WeightFormat packed : kPackedFormats) {
    if (has_plain(from) || !has_packed(from, packed)) continue;
    base::fail("{}: the weights are {} already ({}); quantize the directory they were made from",
               from.string(), name_of(packed), packed_file_name(packed));
  }
  if (format == WeightFormat::kBf16) return write_bf16(from, to);
  Gpt2 model = load_plain(from, kernels::make_inference_backend(kernels::Device::kCpu, format));
  write_packed(to / packed_file_name(format), model);
}

}  // namespace model
