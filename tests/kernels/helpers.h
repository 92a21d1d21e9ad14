#pragma once
/// What the kernels' tests share: tensors that own their memory, drawn values, and comparison.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/kernels.h"

namespace kernels::test {

/// A tensor with memory of exactly its size, so that the sanitizer sees a step past its end.
class Tensor {
 public:
  Tensor() = default;  // the optional tensor that is not there
  Tensor(DType type, Shape shape) : type_(type), shape_(shape) {
    memory_.resize(static_cast<std::size_t>(shape.elements()) * base::size_of(type));
  }

  /// One conversion for reading and writing, so that a call never has to choose.
  operator View() const {
    return empty() ? View() : View(const_cast<std::byte*>(memory_.data()), type_, shape_);
  }
  bool empty() const { return memory_.empty(); }
  const Shape& shape() const { return shape_; }
  std::int64_t size() const { return shape_.elements(); }
  const std::vector<std::byte>& bytes() const { return memory_; }

  double at(std::int64_t i) const {
    const View view = *this;
    if (type_ == DType::kBf16) return static_cast<double>(base::to_f32(view.bf16()[i]));
    if (type_ == DType::kI32) return static_cast<double>(view.i32()[i]);
    return static_cast<double>(view.f32()[i]);
  }
  void set(std::int64_t i, double value) {
    const View view = *this;
    if (type_ == DType::kBf16) {
      view.bf16()[i] = base::to_bf16(static_cast<float>(value));
    } else if (type_ == DType::kI32) {
      view.i32()[i] = static_cast<std::int32_t>(value);
    } else {
      view.f32()[i] = static_cast<float>(value);
    }
  }
  /// A copy in another element type.
  Tensor as(DType type) const {
    Tensor copy(type, shape_);
    for (std::int64_t i = 0; i < size(); ++i) copy.set(i, at(i));
    return copy;
  }

 private:
  DType type_ = DType::kF32;
  Shape shape_;
  std::vector<std::byte> memory_;
};

/// An output that must be overwritten: it starts as NaN, which nothing hides.
inline Tensor unwritten(DType type, Shape shape) {
  Tensor tensor(type, shape);
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    tensor.set(i, std::numeric_limits<double>::quiet_NaN());
  }
  return tensor;
}

inline Tensor integers(const std::vector<std::int32_t>& values) {
  Tensor tensor(DType::kI32, {static_cast<std::int64_t>(values.size())});
  for (std::size_t i = 0; i < values.size(); ++i)
    tensor.set(static_cast<std::int64_t>(i), values[i]);
  return tensor;
}

/// Draws f32 tensors of normal values, each a fresh stream, exact in the compute type under test:
/// so the f32 reference and a bf16 backend get the very same numbers.
class Draw {
 public:
  explicit Draw(DType exact_in) : exact_in_(exact_in) {}
  Tensor operator()(Shape shape, double deviation = 1.0, double mean = 0.0) {
    Tensor tensor(DType::kF32, shape);
    ++stream_;
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      const auto index = static_cast<std::uint64_t>(i);
      tensor.set(i, mean + deviation * base::random_normal(7, stream_, index));
    }
    return exact_in_ == DType::kF32 ? tensor : tensor.as(exact_in_).as(DType::kF32);
  }
  Tensor ids(std::int64_t count, std::int64_t end) {
    Tensor tensor(DType::kI32, {count});
    ++stream_;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto index = static_cast<std::uint64_t>(i);
      tensor.set(i, static_cast<double>(
                        base::random_below(static_cast<std::uint64_t>(end), 7, stream_, index)));
    }
    return tensor;
  }

 private:
  DType exact_in_;
  std::uint64_t stream_ = 0;
};

/// A backend's copies of one weight, with their memory.
class Weight {
 public:
  /// Copies of `parameter`, (K, M) or (M, K) as `order` says.
  Weight(Backend& backend, const Tensor& parameter, WeightOrder order) {
    const bool in_out = order == WeightOrder::kInOut;
    packed_.inputs = parameter.shape()[in_out ? 0 : 1];
    packed_.outputs = parameter.shape()[in_out ? 1 : 0];
    packed_.order = order;
    const PackedBytes bytes = backend.packed_bytes(packed_.inputs, packed_.outputs, order, true);
    arena_ = base::make_arena([&](base::Arena& arena) {
      packed_.forward = static_cast<std::byte*>(arena.take_bytes(bytes.forward));
      packed_.backward = static_cast<std::byte*>(arena.take_bytes(bytes.backward));
    });
    backend.pack_weight(packed_, parameter);
  }
  operator const PackedWeight&() const { return packed_; }
  const PackedWeight* operator&() const { return &packed_; }

 private:
  PackedWeight packed_;
  base::Arena arena_;
};

/// One result of an operation, and how far it may lie from the reference.
struct Output {
  std::string name;
  Tensor tensor;
  double slack = 0;      ///< absolute, for inputs that make f32 itself lose digits
  double tolerance = 0;  ///< relative; 0 means tolerance_of(compute type)
};
using Outputs = std::vector<Output>;

/// f32: 1e-5, about 80 roundings. bf16: 2^-8, two roundings to 8 significant bits.
inline double tolerance_of(DType type) { return type == DType::kBf16 ? 0x1p-8 : 1e-5; }

/// Expects |actual - expected| <= tolerance (|expected| + largest |expected|) + slack everywhere.
inline void expect_close(const Output& actual, const Output& expected, double tolerance) {
  ASSERT_EQ(actual.tensor.size(), expected.tensor.size()) << actual.name;
  double largest = 0;
  for (std::int64_t i = 0; i < expected.tensor.size(); ++i) {
    largest = std::max(largest, std::abs(expected.tensor.at(i)));
  }
  if (actual.tolerance != 0) tolerance = actual.tolerance;
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < expected.tensor.size(); ++i) {
    const double a = actual.tensor.at(i);
    const double e = expected.tensor.at(i);
    const double allowed = tolerance * (std::abs(e) + largest) + actual.slack;
    if (std::abs(a - e) <= allowed || wrong++ > 0) continue;  // NaN is not <=
    ADD_FAILURE() << actual.name << "[" << i << "] of " << base::to_string(actual.tensor.shape())
                  << ": expected " << e << ", got " << a << ", allowed " << allowed;
  }
  if (wrong > 1) ADD_FAILURE() << actual.name << ": " << wrong << " elements are wrong";
}

/// A backend to test.
struct Subject {
  Device device = Device::kReference;
  DType type = DType::kF32;
};
inline std::string name_of(const Subject& subject) {
  const char* const device = subject.device == Device::kCpu    ? "cpu_"
                             : subject.device == Device::kCuda ? "cuda_"
                                                               : "reference_";
  return device + std::string(base::name_of(subject.type));
}

inline void PrintTo(const Subject& subject, std::ostream* out) { *out << name_of(subject); }

/// Runs `operation` on the f32 reference and on `subject`; their outputs must agree. Tolerances of
/// f32 are of products that are not rounded to TF32.
template <class Operation>
void against_reference(const Subject& subject, const Operation& operation) {
  const auto truth = make_backend(Device::kReference, DType::kF32);
  const auto backend = make_backend(subject.device, subject.type, nullptr, 0, /*tf32=*/false);
  const Outputs expected = operation(*truth, Draw(subject.type));
  const Outputs actual = operation(*backend, Draw(subject.type));
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    expect_close(actual[i], expected[i], tolerance_of(subject.type));
  }
}

/// True where GPT2_CPU_ISA names an instruction set that this processor lacks.
inline bool instruction_set_missing() {
  const char* wanted = std::getenv("GPT2_CPU_ISA");
  if (wanted == nullptr) return false;
  const auto sets = available_instruction_sets();
  return std::find(sets.begin(), sets.end(), wanted) == sets.end();
}

}  // namespace kernels::test
