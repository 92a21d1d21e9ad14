// Device memory and copies by CUDA.

#include "kernels/cuda/device.h"

#include "kernels/cuda/gpu.h"

namespace kernels::gpu {
namespace {

constexpr int kLeastMajor = 8;  // bf16 tensor cores and asynchronous copies

std::string mebibytes(std::size_t bytes) {
  return std::to_string((bytes + 1048575) >> 20) + " MiB";
}

/// The stream, with nothing held back.
cudaStream_t ready(Stream stream) {
  if (stream == nullptr) return nullptr;
  stream->close();
  return stream->handle();
}

}  // namespace

int device_count() {
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result == cudaErrorNoDevice) return 0;
  if (result == cudaErrorInsufficientDriver) {
    int driver = 0;
    int runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) fail("no NVIDIA driver is loaded on this machine");
    fail("the NVIDIA driver serves CUDA " + std::to_string(driver / 1000) + "." +
         std::to_string(driver % 1000 / 10) + ", this program needs " +
         std::to_string(runtime / 1000) + "." + std::to_string(runtime % 1000 / 10) +
         "; update the driver");
  }
  check(result, "cudaGetDeviceCount");
  return count;
}

DeviceFacts open_device(int index) {
  const int count = device_count();
  if (index < 0 || index >= count) {
    fail("no CUDA device " + std::to_string(index) + ": this machine has " +
         (count == 0 ? "none" : std::to_string(count)));
  }
  check(cudaSetDevice(index), "cudaSetDevice");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  const std::string name = properties.name;
  if (properties.major < kLeastMajor) {
    fail("CUDA device " + std::to_string(index) + " (" + name + ") has compute capability " +
         std::to_string(properties.major) + "." + std::to_string(properties.minor) +
         "; 8.0 or higher is needed");
  }
  int shares = 0;
  check(cudaDeviceGetAttribute(&shares, cudaDevAttrConcurrentManagedAccess, index),
        "cudaDeviceGetAttribute");
  if (shares == 0) {
    fail("CUDA device " + std::to_string(index) + " (" + name +
         ") cannot share memory with the host while it runs, as under WSL; use Linux itself");
  }
  return {name, properties.major, properties.minor, properties.totalGlobalMem};
}

std::size_t free_device_bytes() {
  std::size_t free = 0;
  std::size_t all = 0;
  check(cudaMemGetInfo(&free, &all), "cudaMemGetInfo");
  return free;
}

void* allocate_bytes(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes == 0 ? 1 : bytes), "cudaMalloc");
  return memory;
}
void release(void* memory) { cudaFree(memory); }

void* allocate_shared_bytes(std::size_t bytes) {
  // The driver would take more than there is, and move pages in and out for ever.
  const std::size_t free = free_device_bytes();
  if (bytes > free) {
    fail("out of memory on the device: " + mebibytes(bytes) + " asked for, " + mebibytes(free) +
         " free, " + mebibytes(bytes - free) +
         " missing; choose a smaller micro-batch, context or model, or --recompute block");
  }
  void* memory = nullptr;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaMallocManaged(&memory, bytes == 0 ? 1 : bytes), "cudaMallocManaged");
  const cudaMemLocation place{cudaMemLocationTypeDevice, device};
  cudaMemAdvise(memory, bytes, cudaMemAdviseSetPreferredLocation, place);  // a hint
  (void)cudaGetLastError();  // which a launch would find, where the hint was not taken
  check(cudaMemset(memory, 0, bytes), "cudaMemset");
  check(cudaDeviceSynchronize(), "cudaMemset");
  return memory;
}
void release_shared(void* memory) { cudaFree(memory); }
void* allocate_pinned_bytes(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes == 0 ? 1 : bytes), "cudaMallocHost");
  return memory;
}
void release_pinned(void* memory) {
  if (memory != nullptr) cudaFreeHost(memory);
}

void synchronize(Stream stream) { check(cudaStreamSynchronize(ready(stream)), "kernel"); }
void copy_bytes_out(void* to, const void* device, std::size_t bytes, Stream stream) {
  const cudaStream_t on = ready(stream);
  check(cudaMemcpyAsync(to, device, bytes, cudaMemcpyDefault, on), "copy to the host");
  check(cudaStreamSynchronize(on), "copy to the host");
}
void copy_rows_out(void* to, const void* device, std::size_t rows, std::size_t bytes,
                   std::size_t stride, Stream stream) {
  const cudaStream_t on = ready(stream);
  check(cudaMemcpy2DAsync(to, bytes, device, stride, bytes, rows, cudaMemcpyDefault, on),
        "copy to the host");
  check(cudaStreamSynchronize(on), "copy to the host");
}
void copy_all_out(int index, void* to, const void* device, std::size_t bytes) {
  check(cudaSetDevice(index), "cudaSetDevice");  // a thread's own setting
  // The thread's own stream: waiting for the whole device is not allowed while a graph is captured.
  check(cudaMemcpyAsync(to, device, bytes, cudaMemcpyDefault, cudaStreamPerThread),
        "copy to the host");
  check(cudaStreamSynchronize(cudaStreamPerThread), "copy to the host");
}

CUstream_st* make_stream() {
  cudaStream_t stream = nullptr;
  // It does not wait for the default stream, which other threads' copies may use.
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return stream;
}
void close_stream(CUstream_st* stream) { cudaStreamDestroy(stream); }
bool makes_graphs() { return true; }
void begin_capture(CUstream_st* stream) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}
Graph end_capture(CUstream_st* stream) {
  cudaGraph_t captured = nullptr;
  check(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
  cudaGraphExec_t graph = nullptr;
  const cudaError_t result = cudaGraphInstantiate(&graph, captured, 0);
  cudaGraphDestroy(captured);
  check(result, "cudaGraphInstantiate");
  return graph;
}
void give_up_capture(CUstream_st* stream) noexcept {
  cudaGraph_t captured = nullptr;
  cudaStreamEndCapture(stream, &captured);
  if (captured != nullptr) cudaGraphDestroy(captured);
}
void run_graph(Graph graph, CUstream_st* stream) {
  check(cudaGraphLaunch(graph, stream), "cudaGraphLaunch");
}
void close_graph(Graph graph) noexcept { cudaGraphExecDestroy(graph); }
CUevent_st* make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  return event;
}
void record_event(CUevent_st* event, CUstream_st* stream) {
  check(cudaEventRecord(event, stream), "cudaEventRecord");
}
void wait_for_event(CUevent_st* event) { check(cudaEventSynchronize(event), "kernel"); }
void close_event(CUevent_st* event) noexcept { cudaEventDestroy(event); }
void wait_for_stream(CUstream_st* stream) { check(cudaStreamSynchronize(stream), "kernel"); }
void give_copy(void* device, const void* from, std::size_t bytes, CUstream_st* stream) {
  check(cudaMemcpyAsync(device, from, bytes, cudaMemcpyDefault, stream), "copy to the device");
}
void give_fill(void* device, int value, std::size_t bytes, CUstream_st* stream) {
  check(cudaMemsetAsync(device, value, bytes, stream), "cudaMemset");
}

}  // namespace kernels::gpu
