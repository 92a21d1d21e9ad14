#pragma once
/// Shapes, element types, views and arenas. A View borrows, an Arena owns.

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/error.h"

namespace base {

/// Element types of tensors in memory and in files.
enum class DType : std::uint8_t { kF32, kBf16, kF16, kF64, kI32, kI8, kU8 };

/// Bytes of one element.
constexpr std::size_t size_of(DType type) {
  switch (type) {
    case DType::kBf16:
    case DType::kF16:
      return 2;
    case DType::kF64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kI8:
    case DType::kU8:
      return 1;
  }
  return 0;
}

/// "f32", "bf16", "f16", "f64", "i32", "i8" or "u8".
std::string_view name_of(DType type);

/// bfloat16: the upper half of a float32. Stored as a 16-bit pattern.
struct Bf16 {
  std::uint16_t bits = 0;
};

/// bf16 from f32, rounded to nearest, ties to even; NaN stays NaN.
inline Bf16 to_bf16(float value) {
  auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  bits += 0x7fffU + ((bits >> 16) & 1U);
  return {static_cast<std::uint16_t>(bits >> 16)};
}

/// The exact f32 value of a bf16.
inline float to_f32(Bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

/// Up to four dimensions, outermost first. Rank 0 with zero elements means "absent".
class Shape {
 public:
  static constexpr std::size_t kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : rank_(dims.size()) {
    assert(dims.size() <= kMaxRank);
    std::size_t i = 0;
    for (const std::int64_t d : dims) dims_[i++] = d;
  }

  std::size_t rank() const { return rank_; }
  std::int64_t operator[](std::size_t i) const {
    assert(i < rank_);
    return dims_[i];
  }
  /// Number of elements; 0 for rank 0.
  std::int64_t elements() const {
    if (rank_ == 0) return 0;
    std::int64_t n = 1;
    for (std::size_t i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  bool operator==(const Shape& other) const = default;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  std::size_t rank_ = 0;
};

/// "(3, 768)".
std::string to_string(const Shape& shape);

/// A typed, dense, row-major piece of somebody else's memory. Read-only.
class ConstView {
 public:
  ConstView() = default;
  ConstView(const void* data, DType type, Shape shape) : data_(data), type_(type), shape_(shape) {}

  DType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  std::int64_t dim(std::size_t i) const { return shape_[i]; }
  std::int64_t elements() const { return shape_.elements(); }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * size_of(type_); }
  /// True for a default-constructed view: the optional tensor is not there.
  bool empty() const { return data_ == nullptr; }
  const void* data() const { return data_; }

  /// Pointers of the element type; the type is asserted.
  const float* f32() const { return as<float>(DType::kF32); }
  const Bf16* bf16() const { return as<Bf16>(DType::kBf16); }
  const std::int32_t* i32() const { return as<std::int32_t>(DType::kI32); }
  const double* f64() const { return as<double>(DType::kF64); }

  /// Rows [first, first + count) of the outermost dimension.
  ConstView rows(std::int64_t first, std::int64_t count) const {
    return {row_address(first, count), type_, with_rows(count)};
  }
  /// The same elements under another shape.
  ConstView reshaped(Shape shape) const {
    assert(shape.elements() == elements());
    return {data_, type_, shape};
  }

 protected:
  template <class T>
  const T* as(DType type) const {
    assert(type_ == type);
    (void)type;
    return static_cast<const T*>(data_);
  }
  const void* row_address(std::int64_t first, std::int64_t count) const {
    assert(first >= 0 && count >= 0 && first + count <= dim(0));
    (void)count;
    if (data_ == nullptr)
      return nullptr;  // a measuring arena's view: its rows have no memory either
    const std::size_t row_bytes = dim(0) == 0 ? 0 : bytes() / static_cast<std::size_t>(dim(0));
    return static_cast<const std::byte*>(data_) + static_cast<std::size_t>(first) * row_bytes;
  }
  Shape with_rows(std::int64_t count) const {
    switch (shape_.rank()) {
      case 1:
        return {count};
      case 2:
        return {count, shape_[1]};
      case 3:
        return {count, shape_[1], shape_[2]};
      default:
        return {count, shape_[1], shape_[2], shape_[3]};
    }
  }

  const void* data_ = nullptr;
  DType type_ = DType::kF32;
  Shape shape_;
};

/// As ConstView, writable.
class View : public ConstView {
 public:
  View() = default;
  View(void* data, DType type, Shape shape) : ConstView(data, type, shape) {}

  void* data() const { return const_cast<void*>(data_); }
  float* f32() const { return const_cast<float*>(ConstView::f32()); }
  Bf16* bf16() const { return const_cast<Bf16*>(ConstView::bf16()); }
  std::int32_t* i32() const { return const_cast<std::int32_t*>(ConstView::i32()); }
  double* f64() const { return const_cast<double*>(ConstView::f64()); }
  View rows(std::int64_t first, std::int64_t count) const {
    return {const_cast<void*>(row_address(first, count)), type_, with_rows(count)};
  }
  View reshaped(Shape shape) const {
    assert(shape.elements() == elements());
    return {data(), type_, shape};
  }
};

/// Throws "operation: name: expected shape (..), got (..)" when the shapes differ.
void require_shape(std::string_view operation, std::string_view name, const ConstView& view,
                   const Shape& expected);
/// Throws "operation: name: expected type f32, got bf16" when the types differ.
void require_type(std::string_view operation, std::string_view name, const ConstView& view,
                  DType expected);

/// Where an arena's memory comes from that is not the process's own: a device's, which host code
/// may read and write while the device does not use it.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  /// Zeroed memory, aligned as arenas are. Throws Error where there is not enough.
  virtual void* take(std::size_t bytes) = 0;
  virtual void give_back(void* memory) noexcept = 0;
  /// What there is left.
  virtual std::size_t free_bytes() const = 0;
  /// Copies to the process's own memory what the device has computed so far. Any thread may call
  /// it.
  virtual void copy_out(void* to, const void* from, std::size_t bytes) = 0;
};

/// One zeroed block of memory on huge pages where the system grants them, handed out front to back.
///
/// Layout runs twice: a default-constructed arena only measures (take() returns views without
/// memory and used_bytes() grows); one constructed with that size hands out real memory. The same
/// code does both, so sizes and pointers cannot disagree.
class Arena {
 public:
  /// Tensors start on cache lines, so that no two share one and vector loads do not split.
  static constexpr std::size_t kAlignment = 64;

  /// A measuring arena.
  Arena() = default;
  /// An owning arena of `capacity_bytes`, from `source` where given, which outlives it. Throws
  /// Error when the memory is refused.
  explicit Arena(std::size_t capacity_bytes, MemorySource* source = nullptr);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;

  /// The next tensor. Throws Error past the capacity of an owning arena.
  View take(DType type, Shape shape);
  /// Raw bytes, aligned as tensors are; null while measuring.
  void* take_bytes(std::size_t bytes);

  bool measuring() const { return data_ == nullptr; }
  std::size_t used_bytes() const { return used_; }
  std::size_t capacity_bytes() const { return capacity_; }
  MemorySource* source() const { return source_; }

 private:
  void release() noexcept;
  MemorySource* source_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t used_ = 0;
};

/// Runs layout(arena) measuring, then on an arena of exactly that size, which is returned.
template <class Layout>
Arena make_arena(Layout&& layout, MemorySource* source = nullptr) {
  Arena measuring;
  layout(measuring);
  Arena real(measuring.used_bytes(), source);
  layout(real);
  return real;
}

}  // namespace base
