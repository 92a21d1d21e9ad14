#pragma once
/// How operations are timed: one object at the end of each public operation, after its checks.

#include <initializer_list>

#include "kernels/kernels.h"

namespace kernels {

/// What a call does by its formula: not what an implementation adds to it, nor what it saves.
struct Work {
  double flops = 0;  ///< of dense products; everything else is counted by its bytes
  double bytes = 0;  ///< each operand once, twice where it is read and written
};

/// Bytes of some operands.
inline double bytes_of(std::initializer_list<ConstView> operands) {
  double sum = 0;
  for (const ConstView& operand : operands) sum += static_cast<double>(operand.bytes());
  return sum;
}

/// A gradient that is read before it is written, or nothing.
inline ConstView read_first(const View& dweight, Gradient gradient) {
  return gradient == Gradient::kAdd ? dweight : View{};
}

/// 2 a b c: the multiplications and additions of a product.
inline double product_flops(std::int64_t a, std::int64_t b, std::int64_t c) {
  return 2 * static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
}

/// Adds the time from its construction to its end to a backend's profile, where one is asked for.
class Timed {
 public:
  /// `operation` must be a literal. `weight`: what tells calls of one operation apart, or null.
  Timed(Backend& backend, const char* operation, const Work& work,
        const PackedWeight* weight = nullptr)
      : backend_(backend.profiling_ ? &backend : nullptr),
        operation_(operation),
        work_(work),
        weight_(weight) {
    if (backend_ != nullptr) begun_ = base::seconds(backend.clock_);
  }
  ~Timed() {
    if (backend_ != nullptr) finish();
  }
  /// Bytes of a weight's packed copies, of the forward one alone where not `both`; 0 where nobody
  /// asked for a profile.
  static double copies_bytes(const Backend& backend, const PackedWeight& weight, bool both) {
    if (!backend.profiling_) return 0;
    const PackedBytes bytes =
        backend.packed_bytes(weight.inputs, weight.outputs, weight.order, both);
    return static_cast<double>(bytes.forward + bytes.backward);
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  void finish();

  Backend* backend_;
  const char* operation_;
  Work work_;
  const PackedWeight* weight_;
  double begun_ = 0;
};

}  // namespace kernels
