// Muon's step on the CPU.

#include "kernels/cpu/muon.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "base/parallel.h"

namespace kernels::cpu {
namespace {

/// Rows of a task of a pass over a matrix: a cache line of a transposed row in bf16.
constexpr std::int64_t kRows = 32;
/// Elements of a task of a pass over X^T X.
constexpr std::int64_t kElements = 16 * 1024;

std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

/// Calls body(block, begin, end) for blocks of kRows rows; the cut does not depend on the threads.
template <class Body>
void for_each_block(std::int64_t rows, Body&& body) {
  base::parallel_for(parts(rows, kRows), [&](std::int64_t block) {
    body(block, block * kRows, std::min((block + 1) * kRows, rows));
  });
}

}  // namespace

struct MuonStep::Memory {
  std::size_t bytes;     ///< of all of it
  std::int64_t rows;     ///< of a part, the matrix that is made orthogonal
  std::int64_t columns;  ///< of a part
  std::int64_t large;    ///< rows of X, which is the part or, where that is wide, its transpose
  std::int64_t small;    ///< columns of X
  float* update;         ///< (parts, rows, columns): the momentum; then X, as it lies
  double* sums;          ///< (parts, blocks of rows): sums of its squares
  std::byte* x;          ///< (large, small) A
  std::byte* next;       ///< (large, small) A, right behind x
  float* gram;           ///< (small, small): X^T X, then the polynomial
  float* square;         ///< (small, small): (X^T X)^2
  std::byte* narrow;     ///< (small, small) A: X^T X
  std::byte* packed;     ///< the polynomial, for X times it

  bool wide() const { return rows < columns; }
  std::int64_t elements() const { return rows * columns; }
};

MuonStep::MuonStep(DType type, const KernelTable& table, Products& products, Scratch& scratch)
    : type_(type),
      table_(table),
      typed_(type == DType::kF32 ? table.f32 : table.bf16),
      products_(products),
      scratch_(scratch) {}

/// `base` null: only `bytes` means anything.
MuonStep::Memory MuonStep::lay_out(std::byte* base, std::int64_t rows, std::int64_t columns,
                                   std::int64_t count) const {
  Memory m{};
  m.rows = rows;
  m.columns = columns / count;
  m.large = std::max(m.rows, m.columns);
  m.small = std::min(m.rows, m.columns);
  const auto take = [&](auto*& pointer, std::size_t bytes) {
    constexpr std::size_t kLine = base::Arena::kAlignment;
    using Pointer = std::remove_reference_t<decltype(pointer)>;
    pointer = base == nullptr ? nullptr : reinterpret_cast<Pointer>(base + m.bytes);
    m.bytes += (bytes + kLine - 1) / kLine * kLine;
  };
  const auto size = [](std::int64_t elements, std::size_t element) {
    return static_cast<std::size_t>(elements) * element;
  };
  const std::size_t x_bytes = size(m.rows * m.columns, base::size_of(type_));
  const std::int64_t square = m.small * m.small;
  take(m.update, size(rows * columns, sizeof(float)));
  take(m.sums, size(count * parts(rows, kRows), sizeof(double)));
  take(m.x, x_bytes);
  take(m.next, x_bytes);
  take(m.gram, size(square, sizeof(float)));
  take(m.square, size(square, sizeof(float)));
  take(m.narrow, size(square, base::size_of(type_)));
  take(m.packed, products_.packed_bytes(m.small, m.small));
  return m;
}

std::size_t MuonStep::scratch_bytes(std::int64_t rows, std::int64_t columns,
                                    std::int64_t count) const {
  const Memory m = lay_out(nullptr, rows, columns, count);
  const std::size_t products =
      std::max({products_.scratch_bytes(m.small, m.large, m.small, true),
                products_.scratch_bytes(m.small, m.small, m.small, true),
                products_.scratch_bytes(m.large, m.small, m.small, false)});
  constexpr std::size_t kHugePages = 2 * (std::size_t{2} << 20);  // both are rounded up to one
  return m.bytes + products + kHugePages;
}

void MuonStep::run(View parameter, ConstView gradient, View m, const Muon& hyper,
                   const Average& average) {
  const std::int64_t rows = parameter.dim(0);
  const std::int64_t columns = parameter.dim(1);
  const std::size_t bytes = lay_out(nullptr, rows, columns, hyper.parts).bytes;
  const Memory memory =
      lay_out(static_cast<std::byte*>(scratch_.take(bytes)), rows, columns, hyper.parts);
  momentum(memory, gradient, m, hyper);
  for (std::int64_t part = 0; part < hyper.parts; ++part) {
    const float* x = orthogonalize(memory, part, inverse_norm(memory, part));
    update(memory, x, part, parameter, hyper, average);
  }
}

/// The moments and, part by part, what is to be made orthogonal, with its sums of squares.
void MuonStep::momentum(const Memory& memory, ConstView gradient, View m, const Muon& hyper) {
  const std::int64_t columns = memory.columns;
  const std::int64_t stride = columns * hyper.parts;
  for_each_block(memory.rows, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = 0; part < hyper.parts; ++part) {
      float* update = memory.update + part * memory.elements() + begin * columns;
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t first = row * stride + part * columns;
        table_.muon_momentum({.update = update + (row - begin) * columns,
                              .m = m.f32() + first,
                              .gradient = gradient.f32() + first,
                              .gradient_scale = hyper.gradient_scale,
                              .beta = hyper.momentum},
                             columns);
      }
      memory.sums[part * parts(memory.rows, kRows) + block] =
          table_.sum_of_squares(update, (end - begin) * columns);
    }
  });
}

float MuonStep::inverse_norm(const Memory& memory, std::int64_t part) const {
  const std::int64_t blocks = parts(memory.rows, kRows);
  double sum = 0;
  for (std::int64_t block = 0; block < blocks; ++block) sum += memory.sums[part * blocks + block];
  return static_cast<float>(1.0 / std::max(std::sqrt(sum), kMuonNormFloor));
}

/// X of one part, (rows, columns).
const float* MuonStep::orthogonalize(const Memory& memory, std::int64_t part, float factor) {
  const std::int64_t columns = memory.columns;
  float* update = memory.update + part * memory.elements();
  std::byte* x = memory.x;
  std::byte* next = memory.next;
  for_each_block(memory.rows, [&](std::int64_t /*block*/, std::int64_t begin, std::int64_t end) {
    table_.scale_by(update + begin * columns, factor, (end - begin) * columns);
    if (memory.wide()) {
      typed_.transpose_to(x, update, memory.rows, columns, begin, end);
    } else {
      typed_.convert_to(x, update, begin * columns, end * columns);
    }
  });
  for (int i = 1; i <= kMuonIterations; ++i) {
    polynomial(memory, x);
    const bool last = i == kMuonIterations;
    products_.multiply({.c = last ? static_cast<void*>(update) : next,
                        .c_type = last ? DType::kF32 : type_,
                        .a = x,
                        .packed = memory.packed,
                        .bias = nullptr,
                        .after = After::kNone,
                        .pre = nullptr,
                        .m = memory.large,
                        .k = memory.small,
                        .n = memory.small});
    std::swap(x, next);
  }
  if (!memory.wide()) return update;
  auto* turned = reinterpret_cast<float*>(memory.x);  // two of A have room for one of f32
  for_each_block(memory.large, [&](std::int64_t /*block*/, std::int64_t begin, std::int64_t end) {
    table_.f32.transpose_to(turned, update, memory.large, memory.small, begin, end);
  });
  return turned;
}

/// Packs a I + b S + c S S for S = X^T X. Both factors of the last product are S, which is its own
/// transpose.
void MuonStep::polynomial(const Memory& memory, const std::byte* x) {
  const std::int64_t n = memory.small;
  const auto multiply = [&](float* out, const std::byte* a, std::int64_t rows) {
    products_.add_transposed({.c = out,
                              .add = false,
                              .column_sums = nullptr,
                              .a = a,
                              .b = a,
                              .m = n,
                              .k = rows,
                              .n = n});
  };
  multiply(memory.gram, x, memory.large);
  base::parallel_for(parts(n * n, kElements), [&](std::int64_t part) {
    typed_.convert_to(memory.narrow, memory.gram, part * kElements,
                      std::min((part + 1) * kElements, n * n));
  });
  multiply(memory.square, memory.narrow, n);
  for_each_block(n, [&](std::int64_t /*block*/, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * n; i < end * n; ++i) {
      memory.gram[i] = static_cast<float>(kMuonB) * memory.gram[i] +
                       static_cast<float>(kMuonC) * memory.square[i];
    }
    for (std::int64_t row = begin; row < end; ++row) {
      memory.gram[row * n + row] += static_cast<float>(kMuonA);
    }
  });
  products_.pack(memory.packed, memory.gram, n, n, /*transposed=*/false);
}

void MuonStep::update(const Memory& memory, const float* x, std::int64_t part, View parameter,
                      const Muon& hyper, const Average& average) {
  const auto rate = static_cast<double>(hyper.learning_rate);
  const MuonUpdate shared{
      .parameter = nullptr,
      .update = nullptr,
      .keep = static_cast<float>(1.0 - rate * static_cast<double>(hyper.weight_decay)),
      .step_size = static_cast<float>(rate * static_cast<double>(hyper.scale)),
      .average = nullptr,
      .average_rate = static_cast<float>(1.0 - average.decay)};
  const std::int64_t columns = memory.columns;
  for_each_block(memory.rows, [&](std::int64_t /*block*/, std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t first = row * columns * hyper.parts + part * columns;
      MuonUpdate op = shared;
      op.parameter = parameter.f32() + first;
      op.update = x + row * columns;
      if (!average.values.empty()) op.average = average.values.f32() + first;
      table_.muon_update(op, columns);
    }
  });
}

}  // namespace kernels::cpu
