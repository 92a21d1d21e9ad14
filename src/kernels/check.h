#pragma once
/// The checks that the door makes of an operation's arguments (kernels.cpp).

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "kernels/kernels.h"

namespace kernels {

/// Rounded weights have no gradient.
inline void check_trains(std::string_view operation, WeightFormat format) {
  if (!is_integer(format)) return;
  base::fail("{}: {} weights cannot be trained; make a backend of f32 or bf16 with make_backend()",
             operation, name_of(format));
}

/// The checks of one operation; every message starts with its name.
class Check {
 public:
  explicit Check(std::string_view operation) : operation_(operation) {}

  void present(std::string_view name, const ConstView& view) const {
    if (view.empty()) base::fail("{}: {}: expected a tensor, got none", operation_, name);
  }
  void rank(std::string_view name, const ConstView& view, std::size_t expected) const {
    present(name, view);
    if (view.shape().rank() != expected) {
      base::fail("{}: {}: expected {} dimensions, got shape {}", operation_, name, expected,
                 base::to_string(view.shape()));
    }
    if (view.elements() < 1) {
      base::fail("{}: {}: expected at least one element, got shape {}", operation_, name,
                 base::to_string(view.shape()));
    }
  }
  void tensor(std::string_view name, const ConstView& view, DType type,
              const Shape& expected) const {
    present(name, view);
    base::require_shape(operation_, name, view, expected);
    base::require_type(operation_, name, view, type);
  }
  void range(std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high) const {
    if (value >= low && value <= high) return;
    base::fail("{}: {}: expected {} to {}, got {}", operation_, name, low, high, value);
  }
  /// Ids are data from files: one outside its table would read or write foreign memory.
  void ids(std::string_view name, const ConstView& ids, std::int64_t low, std::int64_t high) const {
    const std::int32_t* values = ids.i32();
    for (std::int64_t n = 0; n < ids.elements(); ++n) {
      if (values[n] >= low && values[n] <= high) continue;
      base::fail("{}: {}[{}]: expected {} to {}, got {}", operation_, name, n, low, high,
                 values[n]);
    }
  }
  void weight(std::string_view name, const PackedWeight& weight, WeightOrder order) const {
    if (weight.inputs < 1 || weight.outputs < 1) {
      base::fail("{}: {}: expected positive sizes, got {} inputs and {} outputs", operation_, name,
                 weight.inputs, weight.outputs);
    }
    if (weight.order != order) {
      base::fail("{}: {}: expected a weight of shape {}, got {}", operation_, name, name_of(order),
                 name_of(weight.order));
    }
    if (weight.forward == nullptr) {
      base::fail("{}: {}: the packed copy has no memory; lay out packed_bytes() for it", operation_,
                 name);
    }
  }
  void dropout(const Dropout& dropout) const {
    if (dropout.probability >= 0 && dropout.probability < 1) return;
    base::fail("{}: dropout: expected a probability from 0 to below 1, got {}", operation_,
               dropout.probability);
  }
  void backward_copy(std::string_view name, const Backend& backend,
                     const PackedWeight& weight) const {
    if (weight.backward != nullptr) return;
    if (backend.packed_bytes(weight.inputs, weight.outputs, weight.order, true).backward == 0) {
      return;
    }
    base::fail("{}: {}: the copy for backward has no memory; lay out packed_bytes(.., true) for it",
               operation_, name);
  }
  /// B, H and T of attention's lse; the columns of `qkv` must be 3 H D.
  struct Heads {
    std::int64_t rows = 0;
    std::int64_t channels = 0;
  };
  Heads heads(const ConstView& lse, const ConstView& qkv) const {
    rank("lse", lse, 3);
    rank("qkv", qkv, 2);
    const std::int64_t columns = qkv.dim(1);
    if (columns % (3 * lse.dim(1)) != 0) {
      base::fail("{}: qkv: expected a multiple of 3 x {} columns, got {}", operation_, lse.dim(1),
                 columns);
    }
    return {lse.dim(0) * lse.dim(2), columns / 3};
  }

 private:
  static std::string_view name_of(WeightOrder order) {
    return order == WeightOrder::kInOut ? "(inputs, outputs)" : "(outputs, inputs)";
  }
  std::string_view operation_;
};

}  // namespace kernels
