#pragma once
/// Device memory around find_candidates().

#include <span>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/launchers.h"
#include "kernels/kernels.h"

namespace kernels::cuda {

class CandidateFinder {
 public:
  explicit CandidateFinder(gpu::Queue& queue)
      : queue_(queue),
        temperatures_(queue),
        found_(queue),
        keys_(queue),
        tops_(queue),
        masses_(queue) {}

  /// For a row of each temperature, at most `chunk` of them in one find().
  void begin(std::span<const float> inverse_temperatures, std::int64_t chunk, int vocab) {
    const auto rows = static_cast<std::int64_t>(inverse_temperatures.size());
    const std::int64_t slices = candidate_slices(vocab);
    own_temperatures_ = temperatures_.take<float>(rows);
    gpu::copy_bytes_in(own_temperatures_, inverse_temperatures.data(),
                       inverse_temperatures.size_bytes(), &queue_);
    rows_ = found_.take<CandidateRow>(rows);
    scratch_ = {.best = keys_.take<std::uint64_t>(chunk * slices * kCandidates),
                .tops = tops_.take<float>(chunk * slices),
                .masses = masses_.take<double>(chunk * slices)};
  }
  /// Of rows `first` and the next; logits: (count, stride).
  void find(std::int64_t first, const float* logits, int count, int vocab, int stride) {
    find_candidates(rows_ + first, scratch_, logits, own_temperatures_ + first, count, vocab,
                    stride, &queue_);
  }
  /// Waits for all rows.
  void fetch(std::span<TopLogits> rows) {
    static_assert(sizeof(TopLogits) == sizeof(CandidateRow) &&
                  TopLogits::kCount == static_cast<std::size_t>(kCandidates));
    gpu::copy_bytes_out(rows.data(), rows_, rows.size_bytes(), &queue_);
  }

 private:
  gpu::Queue& queue_;
  Buffer temperatures_, found_, keys_, tops_, masses_;
  float* own_temperatures_ = nullptr;
  CandidateRow* rows_ = nullptr;
  CandidateScratch scratch_{};
};

}  // namespace kernels::cuda
