#pragma once
/// The losses of micro-batches, kept on the device until the host wants them.

#include <utility>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/launchers.h"

namespace kernels::cuda {

/// A sum goes to the end of a list on the device, whose length stands there too: what is queued is
/// the same for every micro-batch, so that a pass of one can be run as one.
class QueuedLosses {
 public:
  /// Sums that wait at most; one more fetches them.
  static constexpr std::int64_t kMost = 4096;
  explicit QueuedLosses(gpu::Queue& queue) : queue_(queue), sums_(queue), count_(queue) {}

  /// Queues the sum of `rows` losses.
  void append(const float* losses, int rows) {
    if (queued_ == kMost) fetch();
    append_loss(list(), losses, rows, &queue_);
    ++queued_;
  }
  /// The sums since the last call, in order; waits for them.
  std::vector<double> take() {
    fetch();
    return std::exchange(taken_, {});
  }

 private:
  LossList list() {
    const bool is_new = sums_.empty();
    LossList list{.sums = sums_.take<double>(kMost), .count = count_.take<int>(1)};
    if (is_new) gpu::fill_bytes(list.count, 0, sizeof(int), &queue_);
    return list;
  }
  void fetch() {
    if (queued_ == 0) return;
    const LossList from = list();
    const std::size_t before = taken_.size();
    taken_.resize(before + static_cast<std::size_t>(queued_));
    gpu::copy_bytes_out(taken_.data() + before, from.sums,
                        static_cast<std::size_t>(queued_) * sizeof(double), &queue_);
    gpu::fill_bytes(from.count, 0, sizeof(int), &queue_);
    queued_ = 0;
  }

  gpu::Queue& queue_;
  Buffer sums_, count_;
  std::vector<double> taken_;
  std::int64_t queued_ = 0;
};

}  // namespace kernels::cuda
