// Which device --device means.

#include "cli/device.h"

#include <charconv>

#include "base/error.h"

namespace cli {
namespace {

constexpr std::string_view kCuda = "cuda";
constexpr std::string_view kCudaColon = "cuda:";

/// N of "cuda" (0) or "cuda:N"; below 0: it is neither.
int cuda_index(std::string_view word) {
  if (word == kCuda) return 0;
  if (!word.starts_with(kCudaColon)) return -1;
  const std::string_view digits = word.substr(kCudaColon.size());
  int index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  return error == std::errc() && end == digits.data() + digits.size() ? index : -1;
}

}  // namespace

void add_device(CLI::App& command, std::string& word) {
  word = "auto";
  command
      .add_option("--device", word,
                  "auto (default: a CUDA device where one works), cpu, cuda or cuda:N")
      ->check([](const std::string& value) {
        if (value == "auto" || value == "cpu" || cuda_index(value) >= 0) return std::string();
        return "expected auto, cpu, cuda or cuda:N, got " + value;
      });
}

DeviceChoice choose_device(const std::string& word, bool fits) {
  if (word == "cpu") return {};
  if (word == "auto") {
    if (!fits || !kernels::cuda_trouble(0).empty()) return {};
    return {kernels::Device::kCuda, 0};
  }
  const int index = cuda_index(word);
  const std::string trouble = kernels::cuda_trouble(index);
  if (!trouble.empty()) base::fail("--device {}: {}", word, trouble);
  return {kernels::Device::kCuda, index};
}

}  // namespace cli
