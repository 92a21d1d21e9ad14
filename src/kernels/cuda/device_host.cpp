// Device memory and copies of the host that plays grids.

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/device.h"

namespace kernels::gpu {

int device_count() { return 1; }
DeviceFacts open_device(int index) {
  if (index != 0) fail("no CUDA device " + std::to_string(index) + ": the host plays one");
  return {"played by the host", 0, 0, std::size_t{1} << 34};
}
std::size_t free_device_bytes() { return std::size_t{1} << 34; }

/// Exactly as long as asked, so that AddressSanitizer sees its end.
void* allocate_bytes(std::size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, bytes == 0 ? 1 : bytes) != 0) fail("out of memory");
  return memory;
}
void release(void* memory) { std::free(memory); }
void* allocate_shared_bytes(std::size_t bytes) {
  void* memory = allocate_bytes(bytes);
  std::memset(memory, 0, bytes);
  return memory;
}
void release_shared(void* memory) { release(memory); }

void* allocate_pinned_bytes(std::size_t bytes) { return allocate_bytes(bytes); }
void release_pinned(void* memory) { release(memory); }

void synchronize(Stream stream) {
  if (stream != nullptr) stream->close();
}
void copy_bytes_out(void* to, const void* device, std::size_t bytes, Stream stream) {
  synchronize(stream);
  if (bytes != 0) std::memmove(to, device, bytes);
}
void copy_rows_out(void* to, const void* device, std::size_t rows, std::size_t bytes,
                   std::size_t stride, Stream stream) {
  synchronize(stream);
  for (std::size_t row = 0; row < rows; ++row) {
    std::memcpy(static_cast<char*>(to) + row * bytes,
                static_cast<const char*>(device) + row * stride, bytes);
  }
}
void copy_all_out(int, void* to, const void* device, std::size_t bytes) {
  copy_bytes_out(to, device, bytes, nullptr);
}

// What a stream is given is done at once, and a queue repeats passes itself.
CUstream_st* make_stream() { return nullptr; }
void close_stream(CUstream_st*) {}
bool makes_graphs() { return false; }
void begin_capture(CUstream_st*) { fail("the host captures nothing"); }
Graph end_capture(CUstream_st*) { fail("the host captures nothing"); }
void give_up_capture(CUstream_st*) noexcept {}
void run_graph(Graph, CUstream_st*) { fail("the host captures nothing"); }
void close_graph(Graph) noexcept {}
CUevent_st* make_event() { return nullptr; }
void record_event(CUevent_st*, CUstream_st*) {}
void wait_for_event(CUevent_st*) {}
void close_event(CUevent_st*) noexcept {}
void wait_for_stream(CUstream_st*) {}
void give_copy(void* device, const void* from, std::size_t bytes, CUstream_st*) {
  std::memmove(device, from, bytes);
}
void give_fill(void* device, int value, std::size_t bytes, CUstream_st*) {
  std::memset(device, value, bytes);
}

}  // namespace kernels::gpu
