// Listing what a backend can compute with, and trying it out.

#include "kernels/cpu/choice.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace kernels {
namespace cpu {
namespace {

constexpr std::array<std::string_view, 3> kSources = {"own", "onednn", "plain"};

bool has_own(DType type, Isa isa) { return make_own_products(type, isa) != nullptr; }

/// oneDNN has bf16 products from AVX512_BF16 on; see make_onednn_products.
bool has_onednn(DType type, Isa isa) {
  return built_with_onednn() && (type == DType::kF32 || isa >= Isa::kAvx512Bf16);
}

bool exists(DType type, const Choice& choice) {
  switch (choice.source) {
    case Source::kOwn:
      return has_own(type, choice.isa);
    case Source::kOneDnn:
      return has_onednn(type, choice.isa);
    case Source::kPlain:
      break;
  }
  return true;
}

// ---- a trial ----------------------------------------------------------------------------------

// A layer with GELU of GPT-2's 124m, as training computes it: with few rows, so that the slowest
// way takes a tenth of a second, and with everything that is done beside products, which some do in
// passes of their own (bare products alone once made the slower way of training win).
constexpr std::int64_t kRows = 1024;
constexpr std::int64_t kInputs = 768;
constexpr std::int64_t kOutputs = 3072;
/// Forward, the gradient of the input of such a layer, the gradient of its weight.
constexpr double kTrialFlops = 3 * 2.0 * kRows * kInputs * kOutputs;
/// All trials together take no more than about this, beside one run of each.
constexpr double kTrialSeconds = 0.3;
constexpr int kMostRounds = 20;

/// Operands for one choice and the best time so far.
class Trial {
 public:
  Trial(DType type, const Choice& choice)
      : type_(type), products_(make_products(type, choice)), arena_(layout_bytes()) {
    lay_out(arena_);
    fill(inp_);
    fill(out_);
    View weight = arena_weight_;
    for (std::int64_t i = 0; i < weight.elements(); ++i) weight.f32()[i] = value(i);
    products_->pack(packed_, weight.f32(), kInputs, kOutputs, false);
  }

  /// One more run.
  void run() {
    const double begun = base::seconds(base::Clock::kWall);
    Multiplication product{.c = out_.data(),
                           .c_type = type_,
                           .a = inp_.data(),
                           .packed = packed_,
                           .bias = sums_.f32(),
                           .after = After::kGelu,
                           .pre = pre_.data(),
                           .m = kRows,
                           .k = kInputs,
                           .n = kOutputs};
    products_->multiply(product);
    product.bias = nullptr;
    product.after = After::kGeluGradient;
    products_->multiply(product);
    products_->add_transposed({.c = gradient_.f32(),
                               .add = false,
                               .column_sums = sums_.f32(),
                               .a = inp_.data(),
                               .b = out_.data(),
                               .m = kInputs,
                               .k = kRows,
                               .n = kOutputs});
    const double seconds = base::seconds(base::Clock::kWall) - begun;
    if (runs_++ == 0) return;  // it prepares and touches memory for the first time
    spent_ += seconds;
    best_ = best_ == 0 ? seconds : std::min(best_, seconds);
  }
  double spent() const { return spent_; }
  double rate() const { return kTrialFlops / std::max(best_, 1e-9); }

 private:
  /// Small, so that GELU sees what it sees in a model: far from 0 its exponentials are subnormal
  /// numbers, which take a hundred times as long.
  static float value(std::int64_t i) { return static_cast<float>(i % 7 - 3) * 0x1p-6F; }

  void lay_out(base::Arena& arena) {
    inp_ = arena.take(type_, {kRows, kInputs});
    out_ = arena.take(type_, {kRows, kOutputs});
    pre_ = arena.take(type_, {kRows, kOutputs});
    sums_ = arena.take(DType::kF32, {kOutputs});
    gradient_ = arena.take(DType::kF32, {kInputs, kOutputs});
    arena_weight_ = arena.take(DType::kF32, {kInputs, kOutputs});
    packed_ = static_cast<std::byte*>(arena.take_bytes(products_->packed_bytes(kInputs, kOutputs)));
  }
  std::size_t layout_bytes() {
    base::Arena measuring;
    lay_out(measuring);
    return measuring.used_bytes();
  }
  void fill(View view) const {
    for (std::int64_t i = 0; i < view.elements(); ++i) {
      if (type_ == DType::kF32) {
        view.f32()[i] = value(i);
      } else {
        view.bf16()[i] = base::to_bf16(value(i));
      }
    }
  }

  DType type_;
  std::unique_ptr<Products> products_;
  base::Arena arena_;
  View inp_, out_, pre_, sums_, gradient_, arena_weight_;
  std::byte* packed_ = nullptr;
  int runs_ = 0;
  double spent_ = 0;
  double best_ = 0;
};

}  // namespace

std::string_view name_of(Source source) { return kSources.at(static_cast<std::size_t>(source)); }

std::unique_ptr<Products> make_products(DType type, const Choice& choice) {
  switch (choice.source) {
    case Source::kOwn:
      return make_own_products(type, choice.isa);
    case Source::kOneDnn:
      return make_onednn_products(type, choice.isa);
    case Source::kPlain:
      break;
  }
  return make_plain_products(type, table_for(choice.isa));
}

std::vector<Choice> choices(DType type) {
  const Isa best = chosen_isa();
  std::vector<Choice> result;
  for (const Source source : {Source::kOwn, Source::kOneDnn, Source::kPlain}) {
    if (exists(type, {best, source})) result.push_back({best, source});
  }
  if (type != DType::kBf16 || instruction_set_is_forced() || best <= Isa::kAvx512) return result;
  // bf16 instructions are not faster than f32's on every processor that has them. The plain product
  // is the same text from AVX-512 on, and oneDNN takes its cap once a process.
  result.pop_back();
  for (auto isa = best; isa > Isa::kAvx512;) {
    isa = static_cast<Isa>(static_cast<int>(isa) - 1);
    if (exists(type, {isa, Source::kOwn})) result.push_back({isa, Source::kOwn});
  }
  if (!exists(type, {Isa::kAvx512, Source::kOwn})) {
    result.push_back({Isa::kAvx512, Source::kPlain});
  }
  return result;
}

std::optional<Choice> find_choice(DType type, const CpuChoice& choice) {
  for (const Isa isa : available_isas()) {
    if (name_of(isa) != choice.isa) continue;
    for (const Source source : {Source::kOwn, Source::kOneDnn, Source::kPlain}) {
      if (name_of(source) == choice.products && exists(type, {isa, source})) {
        return Choice{isa, source};
      }
    }
  }
  return std::nullopt;
}

Choice to_choice(DType type, const CpuChoice& choice) {
  if (const auto found = find_choice(type, choice)) return *found;
  base::fail(
      "this processor or build cannot compute {} with {} products on '{}'; GPT2_CPU_ISA can name "
      "another instruction set",
      base::name_of(type), choice.products, choice.isa);
}

}  // namespace cpu

std::vector<CpuChoice> cpu_choices(DType compute_type) {
  std::vector<CpuChoice> result;
  for (const cpu::Choice& choice : cpu::choices(compute_type)) {
    result.push_back(
        {std::string(cpu::name_of(choice.isa)), std::string(cpu::name_of(choice.source))});
  }
  return result;
}

bool has_cpu_choice(DType compute_type, const CpuChoice& choice) {
  return cpu::find_choice(compute_type, choice).has_value();
}

std::vector<double> try_cpu_choices(DType compute_type, const std::vector<CpuChoice>& choices) {
  std::vector<std::unique_ptr<cpu::Trial>> trials;
  trials.reserve(choices.size());
  for (const CpuChoice& choice : choices) {
    trials.push_back(
        std::make_unique<cpu::Trial>(compute_type, cpu::to_choice(compute_type, choice)));
    trials.back()->run();
  }
  // In turns, so that a busy moment hits all of them.
  const double share =
      cpu::kTrialSeconds / static_cast<double>(std::max<std::size_t>(trials.size(), 1));
  for (int round = 0; round < cpu::kMostRounds; ++round) {
    for (const auto& trial : trials) {
      if (round == 0 || trial->spent() < share) trial->run();
    }
  }
  std::vector<double> rates;
  for (const auto& trial : trials) rates.push_back(trial->rate());
  return rates;
}

}  // namespace kernels
