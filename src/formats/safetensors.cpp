// safetensors: 8 bytes of header length, a JSON header, the tensors' bytes one after another.
// Law: a file is believed only after everything the format promises was checked.

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "formats/formats.h"

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

namespace formats {
namespace {

using nlohmann::json;

constexpr std::size_t kLengthBytes = 8;                 // the header's length, unsigned
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's own library
constexpr std::size_t kHeaderAlignment = 8;             // so that the first tensor is aligned
constexpr int kMaxDepth = 3;  // header > tensor > array: deeper nesting is never valid
constexpr std::string_view kMetadata = "__metadata__";
constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

/// An element type as the format spells it.
struct TypeName {
  std::string_view name;
  std::uint64_t bytes;
  std::optional<base::DType> type;
};

// Source: the enum Dtype of the safetensors library.
constexpr TypeName kTypes[] = {
    {"F32", 4, base::DType::kF32}, {"BF16", 2, base::DType::kBf16}, {"F16", 2, base::DType::kF16},
    {"F64", 8, base::DType::kF64}, {"I32", 4, base::DType::kI32},   {"BOOL", 1, std::nullopt},
    {"U8", 1, base::DType::kU8},   {"I8", 1, base::DType::kI8},     {"F8_E4M3", 1, std::nullopt},
    {"F8_E5M2", 1, std::nullopt},  {"F8_E8M0", 1, std::nullopt},    {"I16", 2, std::nullopt},
    {"U16", 2, std::nullopt},      {"U32", 4, std::nullopt},        {"I64", 8, std::nullopt},
    {"U64", 8, std::nullopt},
};

const TypeName* find_type(std::string_view name) {
  const auto* const found = std::ranges::find(kTypes, name, &TypeName::name);
  return found == std::end(kTypes) ? nullptr : found;
}

std::string_view file_name_of(base::DType type) {
  return std::ranges::find(kTypes, std::optional(type), &TypeName::type)->name;
}

/// Text from a file, fit for a one-line message: quoted, escaped, shortened.
std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  const bool cut = text.size() > kLongest;
  return json(text.substr(0, kLongest))
             .dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace) +
         (cut ? "..." : "");
}

/// "2, 3".
std::string listed(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const std::int64_t number : numbers) {
    if (!text.empty()) text += ", ";
    text += std::to_string(number);
  }
  return text;
}

std::optional<std::uint64_t> checked_product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// Parses JSON strictly: nothing but whitespace around it, no name twice, no deep nesting.
json parse_strictly(std::string_view text, const std::string& what) {
  std::vector<std::set<std::string>> names;  // of the objects that are open
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxDepth) base::fail("{}: nested deeper than {} levels", what, kMaxDepth);
    if (event == json::parse_event_t::object_start) names.emplace_back();
    if (event == json::parse_event_t::object_end) names.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names.back().insert(name).second) {
        base::fail("{}: the name {} stands there twice", what, printable(name));
      }
    }
    return true;
  };
  json parsed;
  try {
    parsed = json::parse(text, check);
  } catch (const json::exception& error) {
    base::fail("{}: not UTF-8 JSON ({})", what, printable(error.what()));
  }
  if (!parsed.is_object())
    base::fail("{}: expected a JSON object, got {}", what, parsed.type_name());
  return parsed;
}

/// An array of whole numbers >= 0 that fit an int64.
std::vector<std::int64_t> whole_numbers(const json& object, const char* key,
                                        const std::string& what) {
  const auto found = object.find(key);
  if (found == object.end()) base::fail("{}: no {}", what, key);
  if (!found->is_array())
    base::fail("{}: {}: expected an array, got {}", what, key, found->type_name());
  std::vector<std::int64_t> numbers;
  for (const json& entry : *found) {
    constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!entry.is_number_unsigned() || entry.get<std::uint64_t>() > kMax) {
      base::fail("{}: {}: expected whole numbers from 0 to 2^63 - 1, got {}", what, key,
                 printable(entry.dump(-1, ' ', false, json::error_handler_t::replace)));
    }
    numbers.push_back(entry.get<std::int64_t>());
  }
  return numbers;
}

/// One entry of the header against the bytes that follow the header.
Tensor parse_tensor(const std::string& name, const json& entry, std::span<const std::byte> data,
                    const std::string& path) {
  const std::string what = fmt::format("{}: tensor {}", path, printable(name));
  if (!entry.is_object()) base::fail("{}: expected an object, got {}", what, entry.type_name());
  const auto type_name = entry.find("dtype");
  if (type_name == entry.end() || !type_name->is_string()) base::fail("{}: no dtype", what);
  Tensor tensor;
  tensor.name = name;
  tensor.type_name = type_name->get<std::string>();
  const TypeName* const type = find_type(tensor.type_name);
  if (type == nullptr) base::fail("{}: unknown dtype {}", what, printable(tensor.type_name));
  tensor.type = type->type;
  tensor.shape = whole_numbers(entry, "shape", what);
  const std::vector<std::int64_t> offsets = whole_numbers(entry, "data_offsets", what);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    base::fail("{}: data_offsets: expected [begin, end], got [{}]", what, listed(offsets));
  }
  const auto begin = static_cast<std::uint64_t>(offsets[0]);
  const auto end = static_cast<std::uint64_t>(offsets[1]);
  if (end > data.size()) {
    base::fail("{}: ends at byte {} of the data, the file has {}; it was cut short", what, end,
               data.size());
  }
  std::optional<std::uint64_t> bytes = type->bytes;
  for (const std::int64_t dim : tensor.shape) {
    if (bytes) bytes = checked_product(*bytes, static_cast<std::uint64_t>(dim));
  }
  if (!bytes || *bytes != end - begin) {
    base::fail("{}: shape ({}) of {} needs {} bytes, data_offsets give {}", what,
               listed(tensor.shape), tensor.type_name, bytes ? std::to_string(*bytes) : "over 2^64",
               end - begin);
  }
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

std::map<std::string, std::string> parse_metadata(const json& entry, const std::string& path) {
  if (!entry.is_object()) {
    base::fail("{}: {}: expected an object, got {}", path, kMetadata, entry.type_name());
  }
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) {
      base::fail("{}: {}: {}: expected a string, got {}", path, kMetadata, printable(key),
                 value.type_name());
    }
    metadata.emplace(key, value.get<std::string>());
  }
  return metadata;
}

/// Every byte of the data belongs to exactly one tensor.
void check_coverage(const std::vector<Tensor>& tensors, std::span<const std::byte> data,
                    const std::string& path) {
  std::vector<const Tensor*> ordered;
  for (const Tensor& tensor : tensors) ordered.push_back(&tensor);
  const auto begin_of = [&](const Tensor& t) {
    return static_cast<std::size_t>(t.bytes.data() - data.data());
  };
  std::ranges::sort(ordered, {},
                    [&](const Tensor* t) { return std::pair(begin_of(*t), t->bytes.size()); });
  std::size_t covered = 0;
  for (const Tensor* tensor : ordered) {
    const std::size_t begin = begin_of(*tensor);
    if (begin != covered) {
      base::fail("{}: tensor {}: starts at byte {} of the data, expected {}; {}", path,
                 printable(tensor->name), begin, covered,
                 begin > covered ? "there is a hole before it" : "it overlaps another one");
    }
    covered += tensor->bytes.size();
  }
  if (covered != data.size()) {
    base::fail("{}: {} bytes follow the last tensor; expected the end of the file", path,
               data.size() - covered);
  }
}

/// What one file holds; the tensors' bytes point into `bytes`.
struct Parsed {
  std::vector<Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

Parsed parse_file(std::span<const std::byte> bytes, const std::string& path) {
  if (bytes.empty()) base::fail("{}: the file is empty, expected safetensors", path);
  if (bytes.size() < kLengthBytes) {
    base::fail("{}: {} bytes are too few for safetensors; it was cut short", path, bytes.size());
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  const std::span<const std::byte> rest = bytes.subspan(kLengthBytes);
  if (length > kMaxHeaderBytes) {
    base::fail("{}: header of {} bytes, expected at most {}; not a safetensors file", path, length,
               kMaxHeaderBytes);
  }
  if (length > rest.size()) {
    base::fail("{}: header of {} bytes, the file has {} after its length; it was cut short", path,
               length, rest.size());
  }
  const std::string_view text = base::as_text(rest.first(length));
  if (!text.starts_with('{'))
    base::fail("{}: header: expected a JSON object, starting with '{{'", path);
  const json header = parse_strictly(text, path + ": header");
  const std::span<const std::byte> data = rest.subspan(length);
  Parsed parsed;
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadata) {
      parsed.metadata = parse_metadata(entry, path);
    } else {
      parsed.tensors.push_back(parse_tensor(name, entry, data, path));
    }
  }
  check_coverage(parsed.tensors, data, path);
  return parsed;
}

/// The index's weight_map: name -> file in the same folder.
std::map<std::string, std::string> read_weight_map(const base::Path& path) {
  const std::string what = path.string();
  const json index = parse_strictly(base::read_file(path), what);
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object())
    base::fail("{}: expected an object weight_map", what);
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : map->items()) {
    const std::string value = file.is_string() ? file.get<std::string>() : "";
    const bool plain = !value.empty() && value != "." && value != ".." &&
                       value.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
    if (!plain) {
      base::fail("{}: weight_map: {}: expected the name of a file in the same folder, got {}", what,
                 printable(name),
                 printable(file.dump(-1, ' ', false, json::error_handler_t::replace)));
    }
    files.emplace(name, value);
  }
  if (files.empty()) base::fail("{}: weight_map names no tensor", what);
  return files;
}

}  // namespace

// ---- Tensor -----------------------------------------------------------------------------------

std::int64_t Tensor::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  return count;
}

base::ConstView Tensor::view() const {
  if (!type) base::fail("tensor {}: type {} cannot be computed with", printable(name), type_name);
  const auto with_shape = [&](base::Shape s) { return base::ConstView(bytes.data(), *type, s); };
  switch (shape.size()) {
    case 1:
      return with_shape({shape[0]});
    case 2:
      return with_shape({shape[0], shape[1]});
    case 3:
      return with_shape({shape[0], shape[1], shape[2]});
    case 4:
      return with_shape({shape[0], shape[1], shape[2], shape[3]});
    default:
      base::fail("tensor {}: expected 1 to 4 dimensions, got ({})", printable(name), listed(shape));
  }
}

// ---- TensorFile -------------------------------------------------------------------------------

TensorFile::TensorFile(TensorFile&&) noexcept = default;
TensorFile& TensorFile::operator=(TensorFile&&) noexcept = default;
TensorFile::~TensorFile() = default;

TensorFile TensorFile::open(const base::Path& path) {
  TensorFile file;
  file.path_ = path;
  file.files_.emplace_back(path);
  Parsed parsed = parse_file(file.files_.front().bytes(), path.string());
  file.tensors_ = std::move(parsed.tensors);
  file.metadata_ = std::move(parsed.metadata);
  std::ranges::sort(file.tensors_, {}, &Tensor::name);
  return file;
}

TensorFile TensorFile::open_model(const base::Path& folder) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    base::fail("{}: no such folder; expected a model directory", folder.string());
  }
  const base::Path index = folder / kIndexFile;
  if (std::filesystem::exists(folder / kSingleFile, ignored)) return open(folder / kSingleFile);
  if (!std::filesystem::exists(index, ignored)) {
    base::fail("{}: no weights: expected {} or {}", folder.string(), kSingleFile, kIndexFile);
  }
  const std::map<std::string, std::string> weight_map = read_weight_map(index);
  TensorFile all;
  all.path_ = index;
  std::set<std::string> names;
  for (const auto& entry : weight_map) names.insert(entry.second);
  for (const std::string& name : names) {
    TensorFile part = open(folder / name);
    if (all.files_.empty()) all.metadata_ = part.metadata_;
    for (Tensor& tensor : part.tensors_) {
      const auto mapped = weight_map.find(tensor.name);
      if (mapped == weight_map.end() || mapped->second != name) {
        base::fail("{}: tensor {} is in {} but not listed there by the index", index.string(),
                   printable(tensor.name), name);
      }
      all.tensors_.push_back(std::move(tensor));
    }
    all.files_.push_back(std::move(part.files_.front()));
  }
  std::ranges::sort(all.tensors_, {}, &Tensor::name);
  for (const auto& [name, file] : weight_map) {
    if (all.find(name) == nullptr) {
      base::fail("{}: tensor {} is listed in {} but not there", index.string(), printable(name),
                 file);
    }
  }
  return all;
}

const Tensor* TensorFile::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(tensors_, name, {}, &Tensor::name);
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

// ---- SafetensorsWriter ------------------------------------------------------------------------

namespace {

std::uint64_t bytes_of(const TensorSpec& spec) {
  std::uint64_t bytes = base::size_of(spec.type);
  for (const std::int64_t dim : spec.shape) {
    const auto product =
        dim < 0 ? std::nullopt : checked_product(bytes, static_cast<std::uint64_t>(dim));
    if (!product)
      base::fail("tensor {}: shape ({}) cannot exist", printable(spec.name), listed(spec.shape));
    bytes = *product;
  }
  return bytes;
}

std::string header_of(const std::vector<TensorSpec>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadata)] = metadata;
  std::uint64_t begin = 0;
  for (const TensorSpec& spec : tensors) {
    if (header.contains(spec.name)) base::fail("tensor {}: given twice", printable(spec.name));
    const std::uint64_t end = begin + bytes_of(spec);
    header[spec.name] = {
        {"dtype", file_name_of(spec.type)}, {"shape", spec.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  return text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const base::Path& path, std::vector<TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path), tensors_(std::move(tensors)) {
  const std::string header = header_of(tensors_, metadata);
  const std::uint64_t length = header.size();
  const auto append = [&](std::span<const std::byte> bytes) {
    file_.write(bytes);
    checksum_ = base::crc32c(bytes, checksum_);
  };
  append(std::as_bytes(std::span(&length, 1)));
  append(base::as_bytes(header));
  if (!tensors_.empty()) left_ = bytes_of(tensors_.front());
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  // Tensors without elements are full before anything is written to them.
  while (left_ == 0 && current_ + 1 < tensors_.size()) left_ = bytes_of(tensors_[++current_]);
  if (bytes.size() > left_) {
    base::fail("{}: {} bytes given, {} has room for {}", file_.path().string(), bytes.size(),
               tensors_.empty() ? "the file" : "tensor " + printable(tensors_[current_].name),
               left_);
  }
  file_.write(bytes);
  checksum_ = base::crc32c(bytes, checksum_);
  left_ -= bytes.size();
}

std::uint32_t SafetensorsWriter::commit() {
  for (std::size_t i = current_; i < tensors_.size(); ++i) {
    const std::uint64_t missing = i == current_ ? left_ : bytes_of(tensors_[i]);
    if (missing > 0) {
      base::fail("{}: tensor {} lacks {} bytes", file_.path().string(), printable(tensors_[i].name),
                 missing);
    }
  }
  file_.commit();
  return checksum_;
}

}  // namespace formats
