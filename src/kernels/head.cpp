// The door's operations on the tied head: losses, logits, what draws look at.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "kernels/check.h"
#include "kernels/profile.h"
#include "kernels/quantized.h"

namespace kernels {

using base::fail;

namespace {

/// What head_loss and head_loss_forward have in common.
void check_head(const Check& check, DType compute_type, const ConstView& losses, const ConstView& x,
                const PackedWeight& wte, const ConstView& targets, std::int64_t vocab) {
  check.weight("wte", wte, WeightOrder::kOutIn);
  check.range("vocab", vocab, 1, wte.outputs);
  check.rank("x", x, 2);
  check.tensor("x", x, compute_type, {x.dim(0), wte.inputs});
  check.tensor("losses", losses, DType::kF32, {x.dim(0)});
  check.tensor("targets", targets, DType::kI32, {x.dim(0)});
  check.ids("targets", targets, kIgnoredTarget, vocab - 1);
}

/// Of head_loss().
Work cost_of_head(const Backend& backend, const View& dx, const View& dwte, const ConstView& x,
                  const PackedWeight& wte, std::int64_t vocab, Gradient gradient) {
  return {.flops = (dwte.empty() ? 2 : 3) * product_flops(x.dim(0), wte.inputs, vocab),
          .bytes = bytes_of({dx, dwte, read_first(dwte, gradient), x}) +
                   Timed::copies_bytes(backend, wte, /*both=*/true)};
}

void check_head_loss(const Backend& backend, std::string_view operation, View losses, View dx,
                     View dwte, ConstView x, const PackedWeight& wte, ConstView targets,
                     std::int64_t vocab, const LossOptions& options) {
  const Check check(operation);
  if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1)) {
    fail("{}: label_smoothing: expected 0 to 1, got {}", operation, options.label_smoothing);
  }
  check_trains(operation, backend.weight_format());
  check_head(check, backend.compute_type(), losses, x, wte, targets, vocab);
  check.backward_copy("wte", backend, wte);
  check.tensor("dx", dx, backend.compute_type(), x.shape());
  if (!dwte.empty()) check.tensor("dwte", dwte, DType::kF32, {wte.outputs, wte.inputs});
}

}  // namespace

double Backend::head_loss(View losses, View dx, View dwte, ConstView x, const PackedWeight& wte,
                          ConstView targets, std::int64_t vocab, float scale, Gradient gradient,
                          const LossOptions& options) {
  check_head_loss(*this, "head_loss", losses, dx, dwte, x, wte, targets, vocab, options);
  const Timed timed(*this, "head_loss", cost_of_head(*this, dx, dwte, x, wte, vocab, gradient),
                    &wte);
  return do_head_loss(losses, dx, dwte, x, wte, targets, vocab, scale, gradient, options);
}

void Backend::queue_head_loss(View losses, View dx, View dwte, ConstView x, const PackedWeight& wte,
                              ConstView targets, std::int64_t vocab, float scale, Gradient gradient,
                              const LossOptions& options) {
  check_head_loss(*this, "queue_head_loss", losses, dx, dwte, x, wte, targets, vocab, options);
  const Timed timed(*this, "head_loss", cost_of_head(*this, dx, dwte, x, wte, vocab, gradient),
                    &wte);
  do_queue_head_loss(losses, dx, dwte, x, wte, targets, vocab, scale, gradient, options);
}

void Backend::do_queue_head_loss(View losses, View dx, View dwte, ConstView x,
                                 const PackedWeight& wte, ConstView targets, std::int64_t vocab,
                                 float scale, Gradient gradient, const LossOptions& options) {
  queued_.push_back(
      do_head_loss(losses, dx, dwte, x, wte, targets, vocab, scale, gradient, options));
}

std::vector<double> Backend::do_take_losses() { return std::exchange(queued_, {}); }

double Backend::head_loss_forward(View losses, ConstView x, const PackedWeight& wte,
                                  ConstView targets, std::int64_t vocab) {
  const Check check("head_loss_forward");
  check_head(check, compute_type_, losses, x, wte, targets, vocab);
  const Timed timed(*this, "head_loss_forward",
                    {.flops = product_flops(x.dim(0), wte.inputs, vocab),
                     .bytes = bytes_of({x}) + Timed::copies_bytes(*this, wte, /*both=*/false)},
                    &wte);
  return do_head_loss(losses, {}, {}, x, wte, targets, vocab, 0.0F, Gradient::kAdd, {});
}

void Backend::head_candidates(std::span<TopLogits> rows,
                              std::span<const float> inverse_temperatures, ConstView x,
                              const PackedWeight& wte, std::int64_t vocab) {
  const Check check("head_candidates");
  check.weight("wte", wte, WeightOrder::kOutIn);
  check.range("vocab", vocab, 1, wte.outputs);
  check.rank("x", x, 2);
  check.tensor("x", x, compute_type_, {x.dim(0), wte.inputs});
  const auto count = static_cast<std::size_t>(x.dim(0));
  if (rows.size() != count || inverse_temperatures.size() != count) {
    fail("head_candidates: expected {} rows and temperatures, got {} and {}", count, rows.size(),
         inverse_temperatures.size());
  }
  const Timed timed(*this, "head_candidates",
                    {.flops = product_flops(x.dim(0), wte.inputs, vocab),
                     .bytes = bytes_of({x}) + Timed::copies_bytes(*this, wte, /*both=*/false)},
                    &wte);
  do_head_candidates(rows, inverse_temperatures, x, wte, vocab);
}

void Backend::do_head_candidates(std::span<TopLogits> rows,
                                 std::span<const float> inverse_temperatures, ConstView x,
                                 const PackedWeight& wte, std::int64_t vocab) {
  const auto size = static_cast<std::size_t>(vocab);
  std::vector<float> logits(rows.size() * size);
  do_head_logits(View(logits.data(), DType::kF32, {x.dim(0), vocab}), x, wte, vocab);
  std::vector<std::int32_t> order(size);
  for (std::size_t n = 0; n < rows.size(); ++n) {
    const float* row = logits.data() + n * size;
    const auto before = [row](std::int32_t a, std::int32_t b) {
      const float left = std::isnan(row[a]) ? HUGE_VALF : row[a];
      const float right = std::isnan(row[b]) ? HUGE_VALF : row[b];
      return left != right ? left > right : a < b;
    };
    std::iota(order.begin(), order.end(), 0);
    const std::size_t kept = std::min(size, TopLogits::kCount);
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                      before);
    TopLogits& top = rows[n];
    top.logits.fill(-HUGE_VALF);
    top.ids.fill(-1);
    for (std::size_t i = 0; i < kept; ++i) {
      top.ids[i] = order[i];
      top.logits[i] = row[order[i]];
    }
    top.mass = 0;
    for (std::size_t id = 0; id < size; ++id) {
      top.mass += std::exp((static_cast<double>(row[id]) - static_cast<double>(top.logits[0])) *
                           static_cast<double>(inverse_temperatures[n]));
    }
  }
}

void Backend::head_logits(View logits, ConstView x, const PackedWeight& wte, std::int64_t vocab) {
  const Check check("head_logits");
  check.weight("wte", wte, WeightOrder::kOutIn);
  check.range("vocab", vocab, 1, wte.outputs);
  check.rank("x", x, 2);
  check.tensor("x", x, compute_type_, {x.dim(0), wte.inputs});
  check.tensor("logits", logits, DType::kF32, {x.dim(0), vocab});
  const Timed timed(
      *this, "head_logits",
      {.flops = product_flops(x.dim(0), wte.inputs, vocab),
       .bytes = bytes_of({x, logits}) + Timed::copies_bytes(*this, wte, /*both=*/false)},
      &wte);
  do_head_logits(logits, x, wte, vocab);
}

}  // namespace kernels
