// oneDNN's products: prepared once per shape and thread count, weights in the blocked layout that
// oneDNN asks for, scratchpads in our own memory on huge pages.
//
// oneDNN 2.6.3 has two implementations, and picks the older one ("gemm:jit") where a is not dense.
// Measured on Sapphire Rapids, one thread, GFLOP/s of newer and older: bf16 with AMX, forward 1086
// and 501, weight gradients 590 and 670, k = 50304 356 and 790; f32 157 and 170, 135 and 148, 151
// and 158. So weight gradients are computed in two halves, and long sums in two slices: each reads
// part of every row of a, which is not dense.

#include <dnnl.hpp>

#include <array>
#include <initializer_list>
#include <map>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/scratch.h"

namespace kernels::cpu {
namespace {

using base::DType;
using dnnl::memory;
using Tag = memory::format_tag;

dnnl::cpu_isa cap_of(Isa isa) {
  switch (isa) {
    case Isa::kGeneric:
      return dnnl::cpu_isa::sse41;
    case Isa::kAvx2:
      return dnnl::cpu_isa::avx2;
    case Isa::kAvx512:
      return dnnl::cpu_isa::avx512_core;
    case Isa::kAvx512Bf16:
      return dnnl::cpu_isa::avx512_core_bf16;
    case Isa::kAmx:
      break;
  }
  return dnnl::cpu_isa::avx512_core_amx;
}

/// oneDNN takes its cap once, before its first product; this remembers which one it got.
Isa cap_onednn(Isa isa) {
  static const Isa cap = [isa] {
    if (dnnl::set_max_cpu_isa(cap_of(isa)) != dnnl::status::success) {
      base::fail("oneDNN: cannot be capped at {}; build with GPT2_ONEDNN=OFF", name_of(isa));
    }
    return isa;
  }();
  return cap;
}

memory::data_type type_of(DType type) {
  return type == DType::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
}

/// What distinguishes one prepared product from another.
struct Key {
  std::int64_t m = 0;
  std::int64_t k = 0;
  std::int64_t n = 0;
  std::int64_t a_stride = 0;  ///< elements from row to row of a as it lies in memory
  bool transposed = false;    ///< a lies as (k, m)
  bool accumulate = false;
  bool bias = false;
  bool c_is_f32 = false;
  int threads = 0;  ///< oneDNN cuts the work when it prepares

  // clang-tidy 14 takes the comparison with 0 inside for a pointer.
  auto operator<=>(const Key&) const = default;  // NOLINT(modernize-use-nullptr)
};

/// A primitive with the memory objects that its execution binds: kept, since making them allocates.
class Prepared {
 public:
  using Operand = std::pair<int, memory::desc>;  ///< oneDNN's argument number and what it is

  /// The last operand is the scratchpad.
  Prepared(const dnnl::primitive& primitive, const dnnl::engine& engine,
           std::initializer_list<Operand> operands)
      : primitive_(primitive) {
    for (const auto& [argument, description] : operands) {
      memory& operand = operands_.at(count_);
      operand = memory(description, engine, nullptr);
      arguments_.at(count_++) = {argument, operand.get()};
      scratch_bytes_ = description.get_size();
    }
  }

  std::size_t scratch_bytes() const { return scratch_bytes_; }

  /// `data` in the order of the operands. oneDNN's handles are not const, its sources are.
  void run(const dnnl::stream& stream, std::initializer_list<const void*> data) {
    std::size_t i = 0;
    for (const void* address : data) operands_.at(i++).set_data_handle(const_cast<void*>(address));
    const dnnl_status_t status = dnnl_primitive_execute(
        primitive_.get(), stream.get(), static_cast<int>(count_), arguments_.data());
    if (status != dnnl_success) {
      base::fail("oneDNN: a product failed with status {}", static_cast<int>(status));
    }
  }

 private:
  dnnl::primitive primitive_;
  std::array<memory, 5> operands_;
  std::array<dnnl_exec_arg_t, 5> arguments_{};
  std::size_t count_ = 0;
  std::size_t scratch_bytes_ = 0;
};

/// The layout in which a b (k, n) is packed, and how it is filled.
struct Layout {
  memory::desc packed;
  std::array<std::optional<Prepared>, 2> fill;  ///< from (k, n) and from (n, k)
};

class OneDnnProducts final : public UnfusedProducts {
 public:
  OneDnnProducts(DType type, Isa isa) : UnfusedProducts(type, table_for(isa)), isa_(isa) {}

  std::string description() const override {
    const dnnl_version_t* version = dnnl_version();
    return fmt::format("oneDNN {}.{}.{} {} ({})", version->major, version->minor, version->patch,
                       base::name_of(type()), name_of(isa_));
  }

  std::size_t packed_bytes(std::int64_t k, std::int64_t n) const override {
    return layout(k, n).packed.get_size();
  }

  void pack(std::byte* packed, const float* source, std::int64_t k, std::int64_t n,
            bool transposed) override {
    Layout& chosen = layout(k, n);
    std::optional<Prepared>& fill = chosen.fill.at(transposed ? 1 : 0);
    if (!fill) {
      const memory::desc plain({k, n}, memory::data_type::f32, transposed ? Tag::ba : Tag::ab);
      dnnl::primitive_attr attributes;
      attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
      const dnnl::reorder::primitive_desc description(engine_, plain, engine_, chosen.packed,
                                                      attributes);
      fill.emplace(dnnl::reorder(description), engine_,
                   std::initializer_list<Prepared::Operand>{
                       {DNNL_ARG_FROM, plain},
                       {DNNL_ARG_TO, chosen.packed},
                       {DNNL_ARG_SCRATCHPAD, description.scratchpad_desc()}});
    }
    fill->run(stream_, {source, packed, scratch_.take(fill->scratch_bytes())});
  }

  std::size_t scratch_bytes(std::int64_t m, std::int64_t k, std::int64_t n,
                            bool transposed) const override {
    const bool long_sum = !transposed && k > kLongSum;
    const Key key{.m = transposed && m >= kHalvesFrom ? m - m / 2 : m,
                  .k = long_sum ? k - k / 2 : k,
                  .n = n,
                  .a_stride = transposed ? m : k,
                  .transposed = transposed,
                  .accumulate = transposed || long_sum,
                  .c_is_f32 = transposed || long_sum,
                  .threads = base::thread_count()};
    const std::size_t sum = long_sum ? static_cast<std::size_t>(m * n) * sizeof(float) : 0;
    return describe(key).scratchpad_desc().get_size() + sum;
  }

 private:
  void multiply(void* c, DType c_type, const void* a, const std::byte* packed, const float* bias,
                std::int64_t m, std::int64_t k, std::int64_t n) override {
    Key key{.m = m,
            .k = k,
            .n = n,
            .a_stride = k,
            .bias = bias != nullptr,
            .c_is_f32 = c_type == DType::kF32,
            .threads = base::thread_count()};
    if (k <= kLongSum) return run(key, c, a, packed, bias);
    float* sum = static_cast<float*>(c);
    if (c_type != DType::kF32) sum = sum_.take_floats(static_cast<std::size_t>(m * n));
    key.c_is_f32 = true;
    const std::int64_t half = k / 2;
    key.k = half;
    run(key, sum, a, packed, bias);
    key.k = k - half;
    key.accumulate = true;
    key.bias = false;
    run(key, sum, offset(a, half), offset(packed, half * n), nullptr);
    if (sum == c) return;
    base::parallel_ranges(m * n, [&](std::int64_t begin, std::int64_t end) {
      table().bf16.convert_to(c, sum, begin, end);
    });
  }

  void add_transposed(float* c, const void* a, const void* b, std::int64_t m, std::int64_t k,
                      std::int64_t n) override {
    Key key{.m = m,
            .k = k,
            .n = n,
            .a_stride = m,
            .transposed = true,
            .accumulate = true,
            .c_is_f32 = true,
            .threads = base::thread_count()};
    if (m < kHalvesFrom) return run(key, c, a, b, nullptr);
    const std::int64_t half = m / 2;
    key.m = half;
    run(key, c, a, b, nullptr);
    key.m = m - half;
    run(key, c + half * n, offset(a, half), b, nullptr);
  }

  /// From here on a sum over k is computed in two slices.
  static constexpr std::int64_t kLongSum = 16384;
  /// From here on weight gradients are computed in two halves.
  static constexpr std::int64_t kHalvesFrom = 128;

  const void* offset(const void* operand, std::int64_t elements) const {
    return static_cast<const std::byte*>(operand) +
           static_cast<std::size_t>(elements) * base::size_of(type());
  }

  Layout& layout(std::int64_t k, std::int64_t n) const {
    const auto found = layouts_.find({k, n});
    if (found != layouts_.end()) return found->second;
    const memory::desc plain({k, n}, type_of(type()), Tag::ab);
    memory::desc wanted({k, n}, type_of(type()), Tag::any);
    if (k > kLongSum) {
      wanted = plain;  // slices of it are addressed
    } else {
      // The layout for training's many rows; it has to serve every number of rows. Where oneDNN
      // has no products for one of these in it, the plain layout serves all.
      constexpr std::array<std::int64_t, 6> kRows = {4096, 1, 2, 16, 64, 1000};
      for (const std::int64_t m : kRows) {
        try {
          wanted = describe({.m = m, .k = k, .n = n, .a_stride = k}, wanted).weights_desc();
        } catch (const dnnl::error&) {
          wanted = plain;
          break;
        }
      }
    }
    return layouts_.emplace(std::pair(k, n), Layout{wanted, {}}).first->second;
  }

  dnnl::matmul::primitive_desc describe(const Key& key) const {
    const bool plain = key.transposed || key.a_stride != key.k;
    return describe(key, plain ? memory::desc({key.k, key.n}, type_of(type()), Tag::ab)
                               : layout(key.k, key.n).packed);
  }

  dnnl::matmul::primitive_desc describe(const Key& key, const memory::desc& b) const {
    const memory::desc a(
        {key.m, key.k}, type_of(type()),
        key.transposed ? memory::dims{1, key.a_stride} : memory::dims{key.a_stride, 1});
    const memory::desc c({key.m, key.n}, key.c_is_f32 ? memory::data_type::f32 : type_of(type()),
                         Tag::ab);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (key.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0F);
      attributes.set_post_ops(sum);
    }
    if (!key.bias) return {dnnl::matmul::desc(a, b, c), attributes, engine_};
    const memory::desc bias({1, key.n}, memory::data_type::f32, Tag::ab);
    return {dnnl::matmul::desc(a, b, bias, c), attributes, engine_};
  }

  void run(const Key& key, void* c, const void* a, const void* b, const float* bias) {
    auto found = prepared_.find(key);
    if (found == prepared_.end()) found = prepared_.emplace(key, prepare(key)).first;
    Prepared& product = found->second;
    void* scratchpad = scratch_.take(product.scratch_bytes());
    if (bias != nullptr) {
      product.run(stream_, {a, b, c, bias, scratchpad});
    } else {
      product.run(stream_, {a, b, c, scratchpad});
    }
  }

  Prepared prepare(const Key& key) const try {
    const dnnl::matmul::primitive_desc description = describe(key);
    const Prepared::Operand a{DNNL_ARG_SRC, description.src_desc()};
    const Prepared::Operand b{DNNL_ARG_WEIGHTS, description.weights_desc()};
    const Prepared::Operand c{DNNL_ARG_DST, description.dst_desc()};
    const Prepared::Operand scratchpad{DNNL_ARG_SCRATCHPAD, description.scratchpad_desc()};
    const dnnl::matmul product(description);
    if (!key.bias) return {product, engine_, {a, b, c, scratchpad}};
    return {product, engine_, {a, b, c, {DNNL_ARG_BIAS, description.bias_desc()}, scratchpad}};
  } catch (const dnnl::error& error) {
    base::fail("oneDNN: cannot prepare a product of {} x {} x {}: {}; build with GPT2_ONEDNN=OFF",
               key.m, key.k, key.n, error.what());
  }

  Isa isa_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  mutable std::map<std::pair<std::int64_t, std::int64_t>, Layout> layouts_;
  std::map<Key, Prepared> prepared_;
  Scratch scratch_;
  Scratch sum_;
};

}  // namespace

std::unique_ptr<Products> make_onednn_products(DType type, Isa isa) {
  const Isa cap = cap_onednn(isa);
  if (cap != isa) {
    base::fail("GPT2_CPU_ISA: oneDNN already runs with {} in this process, cannot change to {}",
               name_of(cap), name_of(isa));
  }
  // Below AVX512_BF16 oneDNN has bf16 products only through f32 copies of whole operands (a fifth
  // of the speed of f32), or none.
  if (type == DType::kBf16 && isa < Isa::kAvx512Bf16) return nullptr;
  return std::make_unique<OneDnnProducts>(type, isa);
}

bool built_with_onednn() { return true; }

}  // namespace kernels::cpu
