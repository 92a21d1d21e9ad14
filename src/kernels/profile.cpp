// Sums of what operations cost.

#include "kernels/profile.h"

#include <algorithm>

namespace kernels {

void Timed::finish() {
  backend_->finish();  // what was queued is this operation's
  const double seconds = base::seconds(backend_->clock_) - begun_;
  const std::int64_t inputs = weight_ == nullptr ? 0 : weight_->inputs;
  const std::int64_t outputs = weight_ == nullptr ? 0 : weight_->outputs;
  auto& list = backend_->profile_;
  auto found = std::ranges::find_if(list, [&](const OperationTotals& totals) {
    return totals.operation == operation_ && totals.inputs == inputs && totals.outputs == outputs;
  });
  if (found == list.end()) {
    found =
        list.insert(list.end(), {.operation = operation_, .inputs = inputs, .outputs = outputs});
  }
  ++found->calls;
  found->seconds += seconds;
  found->flops += work_.flops;
  found->bytes += work_.bytes;
}

void Backend::start_profile(base::Clock clock) {
  clock_ = clock;
  profiling_ = true;
  profile_.clear();
}

}  // namespace kernels
