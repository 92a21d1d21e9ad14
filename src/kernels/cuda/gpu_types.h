#pragma once
/// What device and host code agree on, whoever compiles it.

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

struct CUstream_st;  // CUDA's own name: cudaStream_t is a pointer to it

namespace kernels::gpu {

/// Work that runs in order on the device; null is the default one.
using Stream = CUstream_st*;

/// A bf16 number's bits, base::Bf16's twin: this folder also builds where fmt is missing.
struct Bf16 {
  std::uint16_t bits;
};

/// What a device call or a kernel on the host got wrong. The backend turns it into base::Error.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail(const std::string& message) { throw Error(message); }

}  // namespace kernels::gpu
