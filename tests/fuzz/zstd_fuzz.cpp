// Any bytes as zstd frames: the same content, or a refusal, however they are cut.

#include "framing_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr int kWindowLog = 20;  // a fuzzer asks for the largest windows, which takes its time
  // Refusals differ: libzstd 1.5 sees empty compressed blocks only in frames that come whole.
  return fuzz::compare_cuts(std::span(data, size), false, [](auto source) {
    return data::unzstd(std::move(source), "fuzz", kWindowLog);
  });
}
