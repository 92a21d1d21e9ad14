#pragma once
/// A device's memory and copies, for C++ of any compiler. Two bodies: device.cu for CUDA,
/// device_host.cpp for the host that plays grids. Everything throws Error.

#include "kernels/cuda/gpu_types.h"
#include "kernels/cuda/queue.h"

namespace kernels::gpu {

/// What logs say of a device.
struct DeviceFacts {
  std::string name;  ///< "NVIDIA H100 80GB HBM3"
  int major = 0;     ///< compute capability
  int minor = 0;
  std::size_t memory_bytes = 0;
};

/// How many devices the driver offers. Throws Error where there is no driver or one that is older
/// than the toolkit this was built with.
int device_count();
/// Makes device `index` the one that this process uses. Throws Error where there is no such device,
/// its compute capability is below 8.0, or host and device cannot share memory.
DeviceFacts open_device(int index);
/// Device memory that is free now.
std::size_t free_device_bytes();

// ---- memory -------------------------------------------------------------------------------------

/// Device memory, 256-byte aligned.
void* allocate_bytes(std::size_t bytes);
void release(void* memory);
/// Zeroed memory that host code may also read and write, while no kernel uses it; it lies on the
/// device. Throws Error saying how much is missing where the device has not that much free.
void* allocate_shared_bytes(std::size_t bytes);
void release_shared(void* memory);
/// Host memory that a device reads from without the processor's help.
void* allocate_pinned_bytes(std::size_t bytes);
void release_pinned(void* memory);

// ---- queued work --------------------------------------------------------------------------------

/// Waits for what was queued; what went wrong in it is thrown here.
void synchronize(Stream stream);
/// From host memory to device memory. In a pass that comes again (queue.h) the content may differ.
void copy_bytes_in(void* device, const void* from, std::size_t bytes, Stream stream);
void fill_bytes(void* device, int value, std::size_t bytes, Stream stream);
/// To host or shared memory; waits for the stream.
void copy_bytes_out(void* to, const void* device, std::size_t bytes, Stream stream);
/// The same for the first `bytes` of each of `rows` rows, which begin `stride` bytes apart.
void copy_rows_out(void* to, const void* device, std::size_t rows, std::size_t bytes,
                   std::size_t stride, Stream stream);
/// To host memory from any thread: what device `index` did before the last synchronize().
void copy_all_out(int index, void* to, const void* device, std::size_t bytes);

// ---- what a Queue is made of --------------------------------------------------------------------

CUstream_st* make_stream();
void close_stream(CUstream_st* stream);
/// Whether the functions of graphs are there; else a queue runs every operation by itself.
bool makes_graphs();
/// Between the two what is given to the stream is kept instead of done.
void begin_capture(CUstream_st* stream);
Graph end_capture(CUstream_st* stream);
void give_up_capture(CUstream_st* stream) noexcept;
void run_graph(Graph graph, CUstream_st* stream);
void close_graph(Graph graph) noexcept;
CUevent_st* make_event();
void record_event(CUevent_st* event, CUstream_st* stream);
void wait_for_event(CUevent_st* event);
void close_event(CUevent_st* event) noexcept;
void wait_for_stream(CUstream_st* stream);
/// A copy from host memory, which must stay as it is until it is done, and a fill, without a Queue.
void give_copy(void* device, const void* from, std::size_t bytes, CUstream_st* stream);
void give_fill(void* device, int value, std::size_t bytes, CUstream_st* stream);

}  // namespace kernels::gpu
