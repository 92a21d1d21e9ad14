#pragma once
/// Files of named tensors: safetensors, one file or several with an index.
///
/// Law: knows names, element types, shapes and bytes; nothing of GPT-2's layers, no threads.
/// A reader checks everything the format promises before it hands out a byte and refuses by name:
/// header length, UTF-8 JSON, duplicate names, shape x type = bytes (overflow-safe), offsets
/// without holes or overlaps, end of data = end of file. Source: the safetensors README,
/// https://github.com/huggingface/safetensors#format

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/tensor.h"

namespace formats {

/// One tensor of a file. The bytes belong to the file and are little-endian.
struct Tensor {
  std::string name;
  std::string type_name;            ///< as the file spells it: "F32", "BF16", "BOOL", ...
  std::optional<base::DType> type;  ///< absent for types we do not compute with
  std::vector<std::int64_t> shape;  ///< any rank, also 0 (one element)
  std::span<const std::byte> bytes;

  std::int64_t elements() const;
  /// A view with a rank of at most four. Throws Error (naming the tensor) for other ranks or types.
  base::ConstView view() const;
};

/// The tensors of one model: `file.safetensors` alone, or the files that an index names.
class TensorFile {
 public:
  /// Opens one .safetensors file, memory-mapped.
  static TensorFile open(const base::Path& path);
  /// Opens `folder`/model.safetensors, or else all files of `folder`/model.safetensors.index.json.
  /// Throws Error when there is neither ("no weights"), or when index and files disagree.
  static TensorFile open_model(const base::Path& folder);

  TensorFile(TensorFile&&) noexcept;
  TensorFile& operator=(TensorFile&&) noexcept;
  ~TensorFile();

  /// Tensors sorted by name.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  /// Null when there is none of that name.
  const Tensor* find(std::string_view name) const;
  /// The file's "__metadata__" (of the first file).
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// What to name in an error message: the file, or the index.
  const base::Path& path() const { return path_; }

 private:
  TensorFile() = default;
  base::Path path_;
  std::vector<base::MappedFile> files_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to be written.
struct TensorSpec {
  std::string name;
  base::DType type = base::DType::kF32;
  std::vector<std::int64_t> shape;
};

/// Writes a .safetensors file, tensor by tensor in the order of the specs, so that a file never
/// stands in memory as a whole. The header is padded with spaces to a multiple of 8 bytes.
class SafetensorsWriter {
 public:
  /// Creates the temporary file and writes the header.
  SafetensorsWriter(const base::Path& path, std::vector<TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata);
  /// Appends bytes of the current tensor; goes on to the next one when it is full. Throws Error
  /// when bytes would cross into the next tensor.
  void write(std::span<const std::byte> bytes);
  /// Throws Error unless every tensor is full; makes the file appear under its name.
  /// Returns the CRC-32C of the whole file.
  std::uint32_t commit();

 private:
  base::AtomicFile file_;
  std::vector<TensorSpec> tensors_;
  std::size_t current_ = 0;
  std::uint64_t left_ = 0;
  std::uint32_t checksum_ = 0;
};

}  // namespace formats
