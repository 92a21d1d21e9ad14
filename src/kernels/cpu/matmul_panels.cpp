// Our own products by f32 FMA: blocks of c are spread over the threads.
// Law: a block packs the rows of a that it needs into its thread's scratch (L2) and takes the
// panels of b one after another. How c is cut depends on the number of threads; the sums do not
// (panels.h).

#include <algorithm>

#include <fmt/format.h>

#include "base/parallel.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/scratch.h"

namespace kernels::cpu {
namespace {

using base::DType;

/// Rows of a that are packed at a time, at most; and floats: half of an L2 cache of 1 MiB.
constexpr std::int64_t kRows = 168;
constexpr std::int64_t kRowFloats = kRows * 3 * kPanelDepth;
/// Columns of a block, at least: each block packs its rows again, at about a fifth of a nanosecond
/// an element, where a column of it takes 0.01. Few rows wait for memory anyway, and where there
/// are few blocks of rows, the threads have to share their columns.
constexpr std::int64_t kColumns = 768;
constexpr std::int64_t kSharedColumns = 192;
constexpr std::int64_t kFewRowsColumns = 64;
constexpr std::int64_t kFewRows = 16;
/// Blocks a thread that are enough to be shared out evenly.
constexpr std::int64_t kBlocks = 8;
/// Rows of b that add_transposed packs at a time.
constexpr std::int64_t kSumDepth = 2 * kPanelDepth;
/// Panels that add_transposed packs as one task.
constexpr std::int64_t kPackPanels = 8;
/// Floats that packing may write past the end.
constexpr std::int64_t kSlack = 64;

std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

/// How c is cut: blocks of rows and columns, and the stretch of k for which rows are packed.
struct Cut {
  std::int64_t row_blocks;
  std::int64_t column_blocks;
  std::int64_t panels;  ///< of a column block, at most
  std::int64_t depth;
};

Cut cut(std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t panel_columns) {
  const std::int64_t threads = base::thread_count();
  Cut result{};
  result.row_blocks = parts(m, kRows);
  if (result.row_blocks > 1) result.row_blocks = parts(result.row_blocks, threads) * threads;
  result.row_blocks = std::min(result.row_blocks, m);
  const std::int64_t panels = parts(n, panel_columns);
  const std::int64_t wanted = parts(kBlocks * threads, result.row_blocks);
  const std::int64_t least = m <= kFewRows                     ? kFewRowsColumns
                             : result.row_blocks < 2 * threads ? kSharedColumns
                                                               : kColumns;
  const std::int64_t most = std::max<std::int64_t>(n / least, 1);
  result.panels = parts(panels, std::min(wanted, most));
  result.column_blocks = parts(panels, result.panels);
  const std::int64_t rows = parts(m, result.row_blocks);
  result.depth =
      std::min(k, std::max(kRowFloats / rows / kPanelDepth, std::int64_t{1}) * kPanelDepth);
  return result;
}

class PanelProducts final : public Products {
 public:
  PanelProducts(DType type, Isa isa)
      : type_(type),
        kernels_(type == DType::kF32 ? table_for(isa).f32_panels : table_for(isa).bf16_panels),
        description_(fmt::format("own {} products ({})", base::name_of(type), name_of(isa))) {}

  std::string description() const override { return description_; }

  std::size_t packed_bytes(std::int64_t k, std::int64_t n) const override {
    return static_cast<std::size_t>(k * parts(n, kernels_.columns) * kernels_.columns) *
           base::size_of(type_);
  }

  void pack(std::byte* packed, const float* source, std::int64_t k, std::int64_t n,
            bool transposed) override {
    const std::int64_t rows = transposed ? n : k;
    base::parallel_for(parts(rows, kPanelStripe), [&](std::int64_t stripe) {
      pack_stripe(packed, source, k, n, transposed, stripe * kPanelStripe,
                  std::min((stripe + 1) * kPanelStripe, rows));
    });
  }

  std::int64_t stripe_rows() const override { return kPanelStripe; }

  void pack_stripe(std::byte* packed, const float* source, std::int64_t k, std::int64_t n,
                   bool transposed, std::int64_t begin, std::int64_t end) override {
    kernels_.pack_stripe({.packed = packed,
                          .source = source,
                          .k = k,
                          .n = n,
                          .transposed = transposed,
                          .begin = begin,
                          .end = end});
  }

  bool can_unpack() const override { return true; }

  void unpack_column(float* out, const std::byte* packed, std::int64_t k, std::int64_t /*n*/,
                     std::int64_t column) const override {
    kernels_.unpack_column(out, packed, k, column);
  }

  void multiply(const Multiplication& op) override {
    const Cut cuts = cut(op.m, op.k, op.n, kernels_.columns);
    const OwnScratch own = own_scratch(cuts, op.m);
    auto* scratch = scratch_.take_floats(static_cast<std::size_t>(base::thread_count()) *
                                         static_cast<std::size_t>(own.floats()));
    base::parallel_for_dynamic(cuts.row_blocks * cuts.column_blocks, [&](std::int64_t block) {
      multiply_block(op, cuts, block, own, scratch + base::thread_index() * own.floats());
    });
  }

  void add_transposed(const TransposedMultiplication& op) override {
    const std::int64_t panels = parts(op.n, kernels_.columns);
    Cut cuts = cut(op.m, op.k, op.n, kernels_.columns);
    cuts.depth = std::min(op.k, kSumDepth);
    const OwnScratch own = own_scratch(cuts, op.m);
    float* packed = scratch_.take_floats(transposed_floats(cuts, op.m, panels));
    float* scratch = packed + panels * kernels_.columns * cuts.depth + kSlack;
    for (std::int64_t k = 0; k < op.k; k += cuts.depth) {
      const std::int64_t depth = std::min(cuts.depth, op.k - k);
      base::parallel_for_dynamic(parts(panels, kPackPanels), [&](std::int64_t part) {
        pack_panels(op, packed, k, depth, part * kPackPanels,
                    std::min((part + 1) * kPackPanels, panels));
      });
      base::parallel_for_dynamic(cuts.row_blocks * cuts.column_blocks, [&](std::int64_t block) {
        add_block(op, cuts, block, packed, k, depth, scratch + base::thread_index() * own.floats());
      });
    }
  }

  std::size_t scratch_bytes(std::int64_t m, std::int64_t k, std::int64_t n,
                            bool transposed) const override {
    Cut cuts = cut(m, k, n, kernels_.columns);
    if (transposed) {
      cuts.depth = std::min(k, kSumDepth);
      return transposed_floats(cuts, m, parts(n, kernels_.columns)) * sizeof(float);
    }
    return static_cast<std::size_t>(base::thread_count() * own_scratch(cuts, m).floats()) *
           sizeof(float);
  }

 private:
  /// A thread's part of the scratch memory, in floats.
  struct OwnScratch {
    std::int64_t rows;     ///< packed rows of a
    std::int64_t widened;  ///< a piece of a panel in f32
    std::int64_t sums;     ///< where they are not c
    std::int64_t floats() const { return rows + widened + sums; }
  };

  OwnScratch own_scratch(const Cut& cuts, std::int64_t m) const {
    const std::int64_t rows = parts(m, cuts.row_blocks);
    OwnScratch own{.rows = rows * cuts.depth + kSlack, .widened = 0, .sums = 0};
    own.rows = parts(own.rows, kSlack) * kSlack;
    if (type_ == DType::kF32) return own;
    own.widened = kPanelDepth * kernels_.columns;
    own.sums = rows * cuts.panels * kernels_.columns;
    return own;
  }

  std::size_t transposed_floats(const Cut& cuts, std::int64_t m, std::int64_t panels) const {
    return static_cast<std::size_t>(panels * kernels_.columns * cuts.depth + kSlack +
                                    base::thread_count() * own_scratch(cuts, m).floats());
  }

  const std::byte* at(const void* data, std::int64_t element) const {
    return static_cast<const std::byte*>(data) +
           static_cast<std::size_t>(element) * base::size_of(type_);
  }

  /// Where a block lies in c (m, n).
  struct Place {
    std::int64_t row;
    std::int64_t rows;
    std::int64_t column;
    std::int64_t columns;
  };
  Place place(const Cut& cuts, std::int64_t block, std::int64_t m, std::int64_t n) const {
    const std::int64_t row_block = block % cuts.row_blocks;
    const std::int64_t row = m * row_block / cuts.row_blocks;
    const std::int64_t column = block / cuts.row_blocks * cuts.panels * kernels_.columns;
    return {.row = row,
            .rows = m * (row_block + 1) / cuts.row_blocks - row,
            .column = column,
            .columns = std::min(cuts.panels * kernels_.columns, n - column)};
  }

  void multiply_block(const Multiplication& op, const Cut& cuts, std::int64_t block,
                      const OwnScratch& own, float* scratch) const {
    const Place at_c = place(cuts, block, op.m, op.n);
    const std::int64_t first = at_c.row * op.n + at_c.column;
    const bool c_is_f32 = op.c_type == DType::kF32;
    void* c =
        static_cast<std::byte*>(op.c) + static_cast<std::size_t>(first) * base::size_of(op.c_type);
    float* sums = c_is_f32 ? static_cast<float*>(c) : scratch + own.rows + own.widened;
    for (std::int64_t k = 0; k < op.k; k += cuts.depth) {
      const std::int64_t depth = std::min(cuts.depth, op.k - k);
      kernels_.pack_rows(scratch, at(op.a, at_c.row * op.k + k), op.k, at_c.rows, depth);
      kernels_.multiply(
          {.sums = sums,
           .sums_stride = c_is_f32 ? op.n : cuts.panels * kernels_.columns,
           .a = scratch,
           .b = at(op.packed, at_c.column * op.k + k * kernels_.columns),
           .panel_stride = op.k * kernels_.columns,
           .b_is_f32 = type_ == DType::kF32,
           .widened = scratch + own.rows,
           .rows = at_c.rows,
           .columns = at_c.columns,
           .depth = depth,
           .add = k > 0,
           .last = k + depth == op.k,
           .c = c,
           .c_is_f32 = c_is_f32,
           .c_stride = op.n,
           .bias = op.bias == nullptr ? nullptr : op.bias + at_c.column,
           .pre = op.pre == nullptr ? nullptr : const_cast<std::byte*>(at(op.pre, first)),
           .after = op.after});
    }
  }

  /// Panels [begin, end) of rows [k, k + depth) of b, and their column sums.
  void pack_panels(const TransposedMultiplication& op, float* packed, std::int64_t k,
                   std::int64_t depth, std::int64_t begin, std::int64_t end) const {
    const std::int64_t columns = kernels_.columns;
    if (op.column_sums != nullptr && k == 0 && !op.add) {
      std::fill(op.column_sums + begin * columns, op.column_sums + std::min(end * columns, op.n),
                0.0F);
    }
    for (std::int64_t row = 0; row < depth; row += kPanelPackRows) {
      for (std::int64_t panel = begin; panel < end; ++panel) {
        const std::int64_t column = panel * columns;
        kernels_.pack_panel(packed + column * depth + row * columns,
                            at(op.b, (k + row) * op.n + column), op.n,
                            std::min(kPanelPackRows, depth - row), std::min(columns, op.n - column),
                            op.column_sums == nullptr ? nullptr : op.column_sums + column);
      }
    }
  }

  void add_block(const TransposedMultiplication& op, const Cut& cuts, std::int64_t block,
                 const float* packed, std::int64_t k, std::int64_t depth, float* scratch) const {
    const Place at_c = place(cuts, block, op.m, op.n);
    kernels_.pack_rows_transposed(scratch, at(op.a, k * op.m + at_c.row), op.m, at_c.rows, depth);
    float* c = op.c + at_c.row * op.n + at_c.column;
    kernels_.multiply({.sums = c,
                       .sums_stride = op.n,
                       .a = scratch,
                       .b = packed + at_c.column * depth,
                       .panel_stride = depth * kernels_.columns,
                       .b_is_f32 = true,
                       .widened = nullptr,
                       .rows = at_c.rows,
                       .columns = at_c.columns,
                       .depth = depth,
                       .add = op.add || k > 0,
                       .last = k + depth == op.k,
                       .c = c,
                       .c_is_f32 = true,
                       .c_stride = op.n,
                       .bias = nullptr,
                       .pre = nullptr,
                       .after = After::kNone});
  }

  DType type_;
  const PanelKernels& kernels_;
  std::string description_;
  Scratch scratch_;
};

}  // namespace

std::unique_ptr<Products> make_panel_products(DType type, Isa isa) {
  return std::make_unique<PanelProducts>(type, isa);
}

}  // namespace kernels::cpu
