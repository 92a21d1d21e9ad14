// Views' messages and the arena's memory.

#include "base/tensor.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

namespace base {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

std::string_view name_of(DType type) {
  switch (type) {
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kF64:
      return "f64";
    case DType::kI32:
      return "i32";
    case DType::kI8:
      return "i8";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.rank(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + ")";
}

void require_shape(std::string_view operation, std::string_view name, const ConstView& view,
                   const Shape& expected) {
  if (view.shape() == expected) return;
  fail("{}: {}: expected shape {}, got {}", operation, name, to_string(expected),
       to_string(view.shape()));
}

void require_type(std::string_view operation, std::string_view name, const ConstView& view,
                  DType expected) {
  if (view.type() == expected) return;
  fail("{}: {}: expected type {}, got {}", operation, name, name_of(expected),
       name_of(view.type()));
}

Arena::Arena(std::size_t capacity_bytes, MemorySource* source)
    : source_(source),
      capacity_(round_up(std::max<std::size_t>(capacity_bytes, 1), kHugePageBytes)) {
  if (source_ != nullptr) {
    data_ = static_cast<std::byte*>(source_->take(capacity_));
    return;
  }
  void* address =
      ::mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    fail("out of memory: cannot reserve {} MiB; choose a smaller model, batch or context",
         capacity_ >> 20);
  }
  data_ = static_cast<std::byte*>(address);
  // A hint only: without huge pages the same memory serves, slower.
  (void)::madvise(data_, capacity_, MADV_HUGEPAGE);
}

Arena::~Arena() { release(); }

Arena::Arena(Arena&& other) noexcept
    : source_(other.source_),
      data_(std::exchange(other.data_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      used_(std::exchange(other.used_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this != &other) {
    release();
    source_ = other.source_;
    data_ = std::exchange(other.data_, nullptr);
    capacity_ = std::exchange(other.capacity_, 0);
    used_ = std::exchange(other.used_, 0);
  }
  return *this;
}

void Arena::release() noexcept {
  if (data_ == nullptr) return;
  if (source_ != nullptr) {
    source_->give_back(data_);
  } else {
    ::munmap(data_, capacity_);
  }
  data_ = nullptr;
}

void* Arena::take_bytes(std::size_t bytes) {
  const std::size_t begin = used_;
  const std::size_t end = begin + round_up(bytes, kAlignment);
  if (data_ != nullptr && end > capacity_) {
    fail("arena: {} bytes asked for, {} of {} left", bytes, capacity_ - begin, capacity_);
  }
  used_ = end;
  return data_ == nullptr ? nullptr : data_ + begin;
}

View Arena::take(DType type, Shape shape) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
  return {take_bytes(bytes), type, shape};
}

}  // namespace base
