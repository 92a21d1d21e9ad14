// Any bytes as gzip members: the same content, or the same refusal, however they are cut.

#include "framing_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz::compare_cuts(std::span(data, size), true,
                            [](auto source) { return data::gunzip(std::move(source), "fuzz"); });
}
