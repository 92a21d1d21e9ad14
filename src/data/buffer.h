#pragma once
/// Memory for pages: never filled before it is used, so that a size that a file only claims costs
/// address space, not memory.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

namespace data {

class Buffer {
 public:
  /// `size` bytes whose first `keep` are as they were; never a null pointer, also for 0. Spans
  /// given before are void.
  std::span<std::byte> resize(std::size_t size, std::size_t keep = 0) {
    if (size > capacity_ || bytes_ == nullptr) {
      auto larger = std::make_unique_for_overwrite<std::byte[]>(std::max(size, kLeastBytes));
      if (keep > 0) std::memcpy(larger.get(), bytes_.get(), keep);
      bytes_ = std::move(larger);
      capacity_ = std::max(size, kLeastBytes);
    }
    return {bytes_.get(), size};
  }
  std::byte* data() { return bytes_.get(); }

 private:
  static constexpr std::size_t kLeastBytes = 64;
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t capacity_ = 0;
};

}  // namespace data
