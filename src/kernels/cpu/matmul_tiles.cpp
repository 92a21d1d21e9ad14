// Our own bf16 products on tiles: cuts the work, lends scratch, spreads both over the threads.
// Law: an element's sum does not depend on the cut (tiles.h), so results do not depend on the
// threads, nor a row's result on the rows beside it.

#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/tiles.h"

namespace kernels::cpu {
namespace {

using base::DType;

std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }
std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return parts(value, multiple) * multiple;
}

/// How c is cut into tasks.
struct Cut {
  std::int64_t rows;
  std::int64_t columns;
};

class TileProducts final : public Products {
 public:
  explicit TileProducts(const TileTable& table) : table_(table) {}

  std::string description() const override { return std::string("own bf16 (") + table_.name + ")"; }

  std::size_t packed_bytes(std::int64_t k, std::int64_t n) const override {
    return static_cast<std::size_t>(round_up(k, kTile) * round_up(n, kTile)) * 2;
  }

  void pack(std::byte* packed, const float* source, std::int64_t k, std::int64_t n,
            bool transposed) override {
    const std::int64_t rows = transposed ? n : k;
    base::parallel_for(parts(rows, kTileStripe), [&](std::int64_t stripe) {
      const std::int64_t begin = stripe * kTileStripe;
      pack_stripe(packed, source, k, n, transposed, begin, std::min(begin + kTileStripe, rows));
    });
  }

  std::int64_t stripe_rows() const override { return kTileStripe; }
  void pack_stripe(std::byte* packed, const float* source, std::int64_t k, std::int64_t n,
                   bool transposed, std::int64_t begin, std::int64_t end) override {
    table_.pack_stripe(packed, source, k, n, transposed, begin, end);
  }

  bool can_unpack() const override { return true; }
  void unpack_column(float* out, const std::byte* packed, std::int64_t k, std::int64_t /*n*/,
                     std::int64_t column) const override {
    constexpr std::int64_t kHalf = kTile / 2;
    const std::byte* panel = packed + column / kTile * round_up(k, kTile) * kTile * 2 +
                             column % kTile / kHalf * (kTilePairBytes / 2) + column % kHalf * 4;
    for (std::int64_t i = 0; i < k; ++i) {
      base::Bf16 value;
      std::memcpy(&value, panel + i / kTile * kTilePairBytes + i % kTile / 2 * 64 + i % 2 * 2,
                  sizeof value);
      out[i] = base::to_f32(value);
    }
  }

  void multiply(const Multiplication& op) override {
    if (is_long(op)) return multiply_slices(op);
    const TileProduct product{.c = op.c,
                              .a = op.a,
                              .packed = op.packed,
                              .bias = op.bias,
                              .pre = op.pre,
                              .m = op.m,
                              .k = op.k,
                              .n = op.n,
                              .after = op.after,
                              .a_stride = op.k,
                              .panel_bytes = panel_bytes(op.k),
                              .c_is_f32 = op.c_type == DType::kF32,
                              .add = false,
                              .stream = streams(op)};
    const Cut cut = multiply_cut(op.m, op.k, op.n);
    run(op.m, op.n, cut, table_.multiply_scratch(op.k, cut.rows, cut.columns),
        [&](const TilePart& part, void* scratch) { table_.multiply(product, part, scratch); });
  }

  void add_transposed(const TransposedMultiplication& op) override {
    const TileTransposedProduct product{.c = op.c,
                                        .a = op.a,
                                        .b = op.b,
                                        .column_sums = op.column_sums,
                                        .m = op.m,
                                        .k = op.k,
                                        .n = op.n,
                                        .add = op.add};
    const Cut cut = transposed_cut(op.m, op.n);
    run(op.m, op.n, cut, table_.transposed_scratch(cut.rows, cut.columns),
        [&](const TilePart& part, void* scratch) {
          table_.add_transposed(product, part, scratch);
        });
  }

  std::size_t scratch_bytes(std::int64_t m, std::int64_t k, std::int64_t n,
                            bool transposed) const override {
    std::int64_t bytes = 0;
    if (transposed) {
      const Cut cut = transposed_cut(m, n);
      bytes = table_.transposed_scratch(cut.rows, cut.columns);
    } else {
      const std::int64_t slice = std::min(k, k > kLongSum ? kSlice : k);
      const Cut cut = multiply_cut(m, slice, n);
      bytes = table_.multiply_scratch(slice, cut.rows, cut.columns);
    }
    const std::int64_t sums = !transposed && k > kLongSum ? m * n * 4 : 0;
    return static_cast<std::size_t>(bytes * base::thread_count() + sums);
  }

 private:
  /// Runs body(part, scratch) for all parts of c.
  template <class Body>
  void run(std::int64_t m, std::int64_t n, const Cut& cut, std::int64_t bytes, Body&& body) {
    auto* scratch = static_cast<std::byte*>(
        scratch_.take(static_cast<std::size_t>(bytes * base::thread_count())));
    const std::int64_t row_parts = parts(m, cut.rows);
    base::parallel_for_dynamic(row_parts * parts(n, cut.columns), [&](std::int64_t task) {
      const std::int64_t row = task % row_parts * cut.rows;
      const std::int64_t column = task / row_parts * cut.columns;
      body(TilePart{.row = row,
                    .rows = std::min(cut.rows, m - row),
                    .column = column,
                    .columns = std::min(cut.columns, n - column)},
           scratch + bytes * base::thread_index());
    });
  }

  /// From here on a sum is taken in slices of k: of longer panels not even one stays in L2.
  static constexpr std::int64_t kLongSum = 8192;
  static constexpr std::int64_t kSlice = 2048;

  static std::int64_t panel_bytes(std::int64_t k) { return round_up(k, kTile) * kTile * 2; }

  static bool is_long(const Multiplication& op) {
    return op.k > kLongSum && op.after == After::kNone && op.bias == nullptr;
  }

  /// c = a b, one slice of k after the other, added up in f32.
  void multiply_slices(const Multiplication& op) {
    const bool c_is_f32 = op.c_type == DType::kF32;
    float* sums = c_is_f32 ? static_cast<float*>(op.c)
                           : sums_.take_floats(static_cast<std::size_t>(op.m * op.n));
    for (std::int64_t first = 0; first < op.k; first += kSlice) {
      const std::int64_t k = std::min(kSlice, op.k - first);
      const TileProduct slice{.c = sums,
                              .a = static_cast<const std::byte*>(op.a) + first * 2,
                              .packed = op.packed + first / kTile * kTilePairBytes,
                              .bias = nullptr,
                              .pre = nullptr,
                              .m = op.m,
                              .k = k,
                              .n = op.n,
                              .after = After::kNone,
                              .a_stride = op.k,
                              .panel_bytes = panel_bytes(op.k),
                              .c_is_f32 = true,
                              .add = first > 0,
                              .stream = false};
      const Cut cut = multiply_cut(op.m, k, op.n);
      run(op.m, op.n, cut, table_.multiply_scratch(k, cut.rows, cut.columns),
          [&](const TilePart& part, void* scratch) { table_.multiply(slice, part, scratch); });
    }
    if (c_is_f32) return;
    auto* c = static_cast<base::Bf16*>(op.c);
    base::parallel_ranges(op.m * op.n, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) c[i] = base::to_bf16(sums[i]);
    });
  }

  /// True where results are too large for caches and rows can be written by whole lines.
  static bool streams(const Multiplication& op) {
    constexpr std::int64_t kLargeBytes = 4 << 20;
    constexpr std::int64_t kLine = 64;
    const auto row_bytes = op.n * static_cast<std::int64_t>(base::size_of(op.c_type));
    const auto on_line = [](const void* address) {
      return reinterpret_cast<std::uintptr_t>(address) % kLine == 0;
    };
    return op.m * row_bytes >= kLargeBytes && op.n % kTile == 0 && row_bytes % kLine == 0 &&
           on_line(op.c) && on_line(op.pre);
  }

  /// What stays in L2 (TileCuts), and parts so that every thread has work.
  Cut multiply_cut(std::int64_t m, std::int64_t k, std::int64_t n) const {
    const TileCuts& cuts = table_.cuts;
    const std::int64_t depth_bytes = round_up(k, kTile) * 2;
    if (cuts.row_bytes == 0) {
      const std::int64_t most = whole(cuts.column_bytes / depth_bytes, kTile);
      // Rows of one tile cannot be shared out: then columns are.
      const std::int64_t count = parts(n, most);
      const std::int64_t columns =
          even_part(n, m <= kTile ? parts_for_threads(n, count, 1, kTile) : count, kTile);
      return {even_part(m, parts_for_threads(m, 1, parts(n, columns), cuts.rows), cuts.rows),
              columns};
    }
    const std::int64_t rows =
        even_part(m, parts(m, whole(cuts.row_bytes / depth_bytes, cuts.rows)), cuts.rows);
    return {rows, even_part(n, parts_for_threads(n, 1, parts(m, rows), kTile), kTile)};
  }

  /// Sums of a part stay in L2 beside pieces of both operands.
  Cut transposed_cut(std::int64_t m, std::int64_t n) const {
    const TileCuts& cuts = table_.cuts;
    const std::int64_t columns = even_part(n, parts(n, cuts.transposed_columns), kTile);
    const std::int64_t rows = whole(cuts.transposed_elements / columns, cuts.rows);
    const std::int64_t count = parts_for_threads(m, parts(m, rows), parts(n, columns), cuts.rows);
    return {even_part(m, count, cuts.rows), columns};
  }

  /// `size` cut to a multiple, at least one.
  static std::int64_t whole(std::int64_t size, std::int64_t multiple) {
    return std::max(multiple, size / multiple * multiple);
  }
  /// Size of the parts when `size` is cut into `count` of whole multiples.
  static std::int64_t even_part(std::int64_t size, std::int64_t count, std::int64_t multiple) {
    return round_up(parts(size, count), multiple);
  }
  /// At least `count` parts of `size` such that, times `others`, all threads have the same number.
  static std::int64_t parts_for_threads(std::int64_t size, std::int64_t count, std::int64_t others,
                                        std::int64_t multiple) {
    const std::int64_t threads = base::thread_count();
    const std::int64_t most = parts(size, multiple);
    while (count < most && count * others % threads != 0 && count * others < 4 * threads) ++count;
    return std::min(count, most);
  }

  const TileTable& table_;
  Scratch scratch_;
  Scratch sums_;
};

}  // namespace

std::unique_ptr<Products> make_tile_products(DType type, Isa isa) {
  const TileTable* table = type == DType::kBf16 ? detail::tiles_up_to(isa) : nullptr;
  return table != nullptr ? std::make_unique<TileProducts>(*table) : nullptr;
}

}  // namespace kernels::cpu
