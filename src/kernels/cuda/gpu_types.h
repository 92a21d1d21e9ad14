#pragma once
/// What device and host code agree on, whoever compiles it.

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace kernels::gpu {

/// Where work is queued, in order (queue.h); null: the device's default stream, and no passes.
class Queue;
using Stream = Queue*;

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
