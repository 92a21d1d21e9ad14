#pragma once
/// Zeroed memory from the system, on huge pages where it is large. Private to the room.

#include <cstddef>
#include <utility>

namespace text {

class Pages {
 public:
  Pages() = default;
  /// Untouched pages cost nothing. Throws Error when the system refuses.
  explicit Pages(std::size_t bytes);
  ~Pages() { release(); }
  Pages(Pages&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Pages& operator=(Pages&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void release() noexcept;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Asks for huge pages where memory that is not yet touched holds whole ones. A hint only.
void advise_huge(void* data, std::size_t bytes);

}  // namespace text
