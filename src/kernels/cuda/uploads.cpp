// The operations of a queue that are no kernels: bytes from the host, and bytes of one value.

#include <cstring>

#include "kernels/cuda/device.h"

namespace kernels::gpu {
namespace {

class Fill final : public Operation {
 public:
  Fill(void* device, int value, std::size_t bytes)
      : device_(device), value_(value), bytes_(bytes) {}
  void run(Queue& queue) const override { give_fill(device_, value_, bytes_, queue.handle()); }
  bool same(const Operation& other) const override {
    const auto* fill = dynamic_cast<const Fill*>(&other);
    return fill != nullptr && fill->device_ == device_ && fill->value_ == value_ &&
           fill->bytes_ == bytes_;
  }
  std::unique_ptr<Operation> kept() const override { return std::make_unique<Fill>(*this); }

 private:
  void* device_;
  int value_;
  std::size_t bytes_;
};

/// Bytes from wherever the caller has them, or, kept, from memory of its own: a device reads that
/// while the host makes the next pass's, so it may be written once its last run is over.
class Upload final : public Operation {
 public:
  Upload(void* device, const void* from, std::size_t bytes)
      : device_(device), from_(from), bytes_(bytes) {}
  ~Upload() override { release_pinned(own_); }
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  void run(Queue& queue) const override {
    give_copy(device_, from_, bytes_, queue.handle());
    // The caller may overwrite its own at once, and not every device has fetched it by then.
    if (own_ == nullptr) wait_for_stream(queue.handle());
  }
  bool same(const Operation& other) const override {
    const auto* upload = dynamic_cast<const Upload*>(&other);
    return upload != nullptr && upload->device_ == device_ && upload->bytes_ == bytes_;
  }
  std::unique_ptr<Operation> kept() const override {
    auto copy = std::make_unique<Upload>(device_, nullptr, bytes_);
    copy->own_ = allocate_pinned_bytes(bytes_);
    copy->from_ = copy->own_;
    std::memcpy(copy->own_, from_, bytes_);
    return copy;
  }
  void renew(const Operation& newer, Queue& queue) override {
    queue.wait_for_repeated();
    std::memcpy(own_, dynamic_cast<const Upload&>(newer).from_, bytes_);
  }

 private:
  void* device_;
  const void* from_;
  std::size_t bytes_;
  void* own_ = nullptr;
};

}  // namespace

void copy_bytes_in(void* device, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  if (stream == nullptr) {
    give_copy(device, from, bytes, nullptr);
    return wait_for_stream(nullptr);
  }
  stream->push(Upload(device, from, bytes));
}

void fill_bytes(void* device, int value, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  if (stream == nullptr) return give_fill(device, value, bytes, nullptr);
  stream->push(Fill(device, value, bytes));
}

}  // namespace kernels::gpu
