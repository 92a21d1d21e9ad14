#pragma once
/// What the backend owns on a device: buffers, the memory of arenas.

#include <cstdint>
#include <vector>

#include "base/tensor.h"
#include "kernels/cuda/device.h"

namespace kernels::cuda {

using gpu::Stream;

/// Device memory that grows, for one caller at a time. The queue is what uses it.
class Buffer {
 public:
  explicit Buffer(gpu::Queue& queue) : queue_(queue) {}
  ~Buffer() { gpu::release(memory_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  template <class T>
  T* take(std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    if (bytes > bytes_) {
      if (memory_ != nullptr) gpu::synchronize(&queue_);  // what was queued uses it
      gpu::release(memory_);
      memory_ = nullptr;
      bytes_ = 0;
      memory_ = gpu::allocate_bytes(bytes);
      bytes_ = bytes;
    }
    return static_cast<T*>(memory_);
  }

  bool empty() const { return bytes_ == 0; }

 private:
  gpu::Queue& queue_;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Device memory and what it holds, so that the same is not copied again.
template <class T>
class Mirror {
 public:
  explicit Mirror(gpu::Queue& queue) : queue_(queue), buffer_(queue) {}
  /// Device memory that holds `values`.
  const T* hold(const std::vector<T>& values) {
    T* copy = buffer_.template take<T>(static_cast<std::int64_t>(values.size()));
    if (content_ != values) {
      gpu::copy_bytes_in(copy, values.data(), values.size() * sizeof(T), &queue_);
      content_ = values;
    }
    return copy;
  }

 private:
  gpu::Queue& queue_;
  Buffer buffer_;
  std::vector<T> content_;
};

/// For arenas. What is given back may be what the queue's operations are about.
class SharedMemory : public base::MemorySource {
 public:
  SharedMemory(gpu::Queue& queue, int device) : queue_(queue), device_(device) {}
  void* take(std::size_t bytes) override { return gpu::allocate_shared_bytes(bytes); }
  void give_back(void* memory) noexcept override {
    try {
      gpu::synchronize(&queue_);
    } catch (...) {  // whoever waits next is told
    }
    gpu::release_shared(memory);
  }
  std::size_t free_bytes() const override { return gpu::free_device_bytes(); }
  void copy_out(void* to, const void* from, std::size_t bytes) override {
    gpu::copy_all_out(device_, to, from, bytes);
  }

 private:
  gpu::Queue& queue_;
  int device_;
};

}  // namespace kernels::cuda
