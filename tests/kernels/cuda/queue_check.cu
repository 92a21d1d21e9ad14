// Passes that come again do what they do the first time, with new content, and with changes.

#include <cstring>

#include "check.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/queue.h"

namespace check {
namespace {

using kernels::gpu::Bf16;
using kernels::gpu::Queue;
namespace cuda = kernels::cuda;
namespace gpu = kernels::gpu;

constexpr int kCount = 64;

/// inp is uploaded and added to sums some times.
struct Work {
  Queue queue;
  Device<float> inp{kCount}, sums{kCount}, other{kCount};
  std::vector<float> expected = std::vector<float>(kCount, 0.0F);

  Work() {
    gpu::synchronize({});  // the buffers were filled on another stream
    gpu::fill_bytes(sums.data(), 0, kCount * sizeof(float), &queue);
  }
  void pass(float value, int additions, bool into_other = false) {
    const std::vector<float> values(kCount, value);  // gone before the pass ends
    gpu::copy_bytes_in(inp.data(), values.data(), kCount * sizeof(float), &queue);
    for (int i = 0; i < additions; ++i) {
      cuda::add_block(into_other ? other.data() : sums.data(), inp.data(), 1, kCount, kCount,
                      &queue);
      if (!into_other) {
        for (float& x : expected) x += value;
      }
    }
  }
  void see_sums(const char* what) {
    std::vector<float> got(kCount);
    gpu::copy_bytes_out(got.data(), sums.data(), kCount * sizeof(float), &queue);
    see(what, std::memcmp(got.data(), expected.data(), kCount * sizeof(float)) == 0 ? 0 : 1, 0);
  }
};

void check_repetition() {
  Work w;
  for (int i = 1; i <= 5; ++i) {
    w.queue.begin_pass(1);
    w.pass(static_cast<float>(i), 3);
    w.queue.end_pass();
  }
  w.see_sums("the same pass with other content");
  see("repeated", static_cast<double>(w.queue.repeated() - 4), 0);
  // Longer, shorter and other passes: the first of each is not the one before.
  const int lengths[] = {5, 5, 2, 2, 3, 3};
  for (const int length : lengths) {
    w.queue.begin_pass(1);
    w.pass(2, length);
    w.queue.end_pass();
    w.see_sums("of another length");
  }
  w.queue.begin_pass(1);
  w.pass(1, 3, true);
  w.queue.end_pass();
  w.queue.begin_pass(1);
  w.pass(1, 3);
  w.queue.end_pass();
  w.see_sums("of other operands");
}

/// What never comes again is not kept for ever.
void check_differences() {
  Work w;
  for (int i = 0; i < 12; ++i) {
    w.queue.begin_pass(1);
    w.pass(static_cast<float>(i), 1 + i % 3);
    w.queue.end_pass();
    w.see_sums("another pass each time");
  }
  for (int i = 0; i < 3; ++i) {
    w.queue.begin_pass(1);
    w.pass(static_cast<float>(i), 2);
    w.queue.end_pass();
  }
  w.see_sums("no longer kept");
  see("repeated", static_cast<double>(w.queue.repeated()), 0);
}
const Case differences("queue: differences", check_differences);
const Case repetition("queue: repetition", check_repetition);

void check_reads() {
  Work w;
  for (int i = 0; i < 4; ++i) {
    w.queue.begin_pass(1);
    w.pass(1, 2);
    w.see_sums("read in a pass");
    w.pass(3, 1);
    w.queue.end_pass();
    w.see_sums("after it");
  }
  see("repeated", static_cast<double>(w.queue.repeated() - 3), 0);
  // Two passes by turns.
  for (int i = 0; i < 6; ++i) {
    w.queue.begin_pass(2 + i % 2);
    w.pass(static_cast<float>(i), 1 + i % 2);
    w.queue.end_pass();
  }
  w.see_sums("two by turns");
  see("repeated", static_cast<double>(w.queue.repeated() - 7), 0);
}
const Case reads("queue: reads", check_reads);

void check_failure() {
  Work w;
  for (int i = 0; i < 2; ++i) {
    w.queue.begin_pass(1);
    w.pass(1, 2);
    w.queue.end_pass();
  }
  w.queue.begin_pass(1);
  w.pass(1, 1);
  w.queue.drop_pass();
  w.see_sums("a pass that failed");
  w.queue.begin_pass(1);
  w.pass(1, 2);
  w.queue.end_pass();
  w.see_sums("after it");
  bool refused = false;
  w.queue.begin_pass(1);
  try {
    w.queue.begin_pass(2);
  } catch (const gpu::Error&) {
    refused = true;
  }
  see("a pass inside a pass", refused ? 0 : 1, 0);
}
const Case failure("queue: failure", check_failure);

}  // namespace
}  // namespace check
