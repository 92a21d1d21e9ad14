// What a draw looks at, against sorting everything.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "check.h"
#include "kernels/cuda/launchers.h"

namespace check {
namespace {

namespace cuda = kernels::cuda;

/// `spread` 0: equal logits everywhere. Every seventh logit is one of three values, so that ties
/// come, and every eleventh is -infinity.
void check_rows(int rows, int vocab, int stride, double spread) {
  std::vector<float> logits(static_cast<std::size_t>(rows) * stride, NAN);  // NaN in the padding
  std::vector<float> temperatures;
  for (int n = 0; n < rows; ++n) {
    temperatures.push_back(n % 2 == 0 ? 1.0F : 1.7F);
    for (int v = 0; v < vocab; ++v) {
      float& logit = logits[static_cast<std::size_t>(n) * stride + v];
      logit = static_cast<float>(spread * gauss());
      if (v % 7 == 1) logit = static_cast<float>(spread * below(3));
      if (v % 11 == 3) logit = -INFINITY;
    }
  }
  const auto slices = static_cast<std::size_t>(cuda::candidate_slices(vocab));
  const std::size_t places = static_cast<std::size_t>(rows) * slices;
  Device<float> d_logits(logits), d_temperatures(temperatures), tops(places);
  Device<double> masses(places);
  Device<std::uint64_t> best(places * cuda::kCandidates);
  Device<cuda::CandidateRow> out(static_cast<std::size_t>(rows));
  cuda::find_candidates(out.data(), {best.data(), tops.data(), masses.data()}, d_logits.data(),
                        d_temperatures.data(), rows, vocab, stride, {});
  const std::vector<cuda::CandidateRow> got = out.host();
  int wrong = 0;
  double error = 0;
  for (int n = 0; n < rows; ++n) {
    const float* row = logits.data() + static_cast<std::size_t>(n) * stride;
    std::vector<int> order(static_cast<std::size_t>(vocab));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return row[a] > row[b]; });
    const auto& own = got[static_cast<std::size_t>(n)];
    for (int i = 0; i < cuda::kCandidates; ++i) {
      const bool there = i < vocab;
      const int id = there ? order[static_cast<std::size_t>(i)] : -1;
      wrong += own.ids[i] != id;
      wrong += !(own.logits[i] == (there ? row[id] : -INFINITY));
    }
    double mass = 0;
    for (int v = 0; v < vocab; ++v) {
      mass += std::exp((static_cast<double>(row[v]) - static_cast<double>(row[order[0]])) *
                       static_cast<double>(temperatures[static_cast<std::size_t>(n)]));
    }
    error = std::max(error, std::abs(own.mass / mass - 1));
  }
  const std::string at = std::to_string(rows) + " x " + std::to_string(vocab) + " ";
  see(at + "wrong places", wrong, 0);
  see(at + "mass", error, 1e-6);
}

void check_candidates() {
  check_rows(2, 3, 8, 2.5);
  check_rows(1, 256, 256, 0);
  check_rows(2, 1025, 1032, 1);
  if (size() == Size::kSmall) return;
  check_rows(3, 2500, 2560, 8);
  check_rows(1, 5000, 5056, 0);
  check_rows(2, 18000, 18048, 3);  // of three groups of slices
  if (size() == Size::kFull) check_rows(5, 50257, 50304, 2.5);
}
const Case candidates("candidates", check_candidates);

/// What no sound model produces is seen by the first candidate.
void check_damage() {
  for (const float bad : {NAN, -NAN, INFINITY}) {
    std::vector<float> logits(1500, 0.5F);
    logits[1400] = bad;
    Device<float> d_logits(logits), one(std::vector<float>{1.0F}), tops(2);
    Device<double> masses(2);
    Device<std::uint64_t> best(2 * cuda::kCandidates);
    Device<cuda::CandidateRow> out(1);
    cuda::find_candidates(out.data(), {best.data(), tops.data(), masses.data()}, d_logits.data(),
                          one.data(), 1, 1500, 1500, {});
    const auto row = out.host()[0];
    see("first id", row.ids[0] - 1400, 0);
    see("first logit", std::isfinite(row.logits[0]) ? 1 : 0, 0);
  }
}
const Case damage("candidates: damage", check_damage);

}  // namespace
}  // namespace check
