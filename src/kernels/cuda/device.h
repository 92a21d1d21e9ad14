#pragma once
/// A device's memory and copies, for C++ of any compiler. Two bodies: device.cu for CUDA,
/// device_host.cpp for the host that plays grids. Everything throws Error.

#include "kernels/cuda/gpu_types.h"

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

Stream make_stream();
void close_stream(Stream stream);
/// Waits for what was queued; what went wrong in it is thrown here.
void synchronize(Stream stream);

/// Device memory, 256-byte aligned.
void* allocate_bytes(std::size_t bytes);
void release(void* memory);
/// Zeroed memory that host code may also read and write, while no kernel uses it; it lies on the
/// device. Throws Error saying how much is missing where the device has not that much free.
void* allocate_shared_bytes(std::size_t bytes);
void release_shared(void* memory);

/// From host or device memory to device memory.
void copy_bytes_in(void* device, const void* from, std::size_t bytes, Stream stream);
/// To host or shared memory; waits for the stream.
void copy_bytes_out(void* to, const void* device, std::size_t bytes, Stream stream);
/// The same for the first `bytes` of each of `rows` rows, which begin `stride` bytes apart.
void copy_rows_out(void* to, const void* device, std::size_t rows, std::size_t bytes,
                   std::size_t stride, Stream stream);
/// As copy_bytes_out() from any thread, once all streams of device `index` have done what was
/// queued.
void copy_all_out(int index, void* to, const void* device, std::size_t bytes);
void fill_bytes(void* device, int value, std::size_t bytes, Stream stream);

}  // namespace kernels::gpu
