#pragma once
/// --device and --tf32, for the commands that compute.

#include <string>

#include "cli/cli.h"
#include "kernels/kernels.h"

namespace cli {

/// A backend's device.
struct DeviceChoice {
  kernels::Device device = kernels::Device::kCpu;
  int index = 0;  ///< of a CUDA device
  bool is_cuda() const { return device == kernels::Device::kCuda; }
};

/// Adds --device auto|cpu|cuda[:N] (default auto). `word` must live as long as the program.
void add_device(CLI::App& command, std::string& word);

/// Adds --tf32 on|off. `tf32`: a bool, or an optional one that stays empty where the option is not
/// given. It must live as long as the program.
template <class Value>
void add_tf32(CLI::App& command, Value& tf32) {
  command
      .add_option("--tf32", tf32,
                  "on (default) or off: in fp32 on a CUDA device, round what products multiply to "
                  "TF32 (10 bits instead of 23), which is many times faster")
      ->check(CLI::IsMember({"on", "off"}))
      ->type_name("TEXT");
}

/// What `word` names. auto: the first CUDA device where one works and `fits`, else the processor;
/// `fits` false: what else is asked for is the processor's alone. Throws Error where a device that
/// was named cannot be used.
DeviceChoice choose_device(const std::string& word, bool fits);

}  // namespace cli
