// The one list of a GPT-2's parameters, and what is laid out by it.

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "model/model.h"
#include "model/parameters.h"

namespace model {
namespace {

/// A parameter of a block. Its shape in units of C: (rows C, columns C), or (columns C) where rows
/// is 0.
struct BlockEntry {
  std::string_view name;
  View BlockParameters::*view;
  std::int64_t rows, columns;
  Init init;
};

using B = BlockParameters;
constexpr std::array kBlockEntries = {
    BlockEntry{"ln_1.weight", &B::ln1_weight, 0, 1, Init::kOnes},
    BlockEntry{"ln_1.bias", &B::ln1_bias, 0, 1, Init::kZeros},
    BlockEntry{"attn.c_attn.weight", &B::qkv_weight, 1, 3, Init::kNormal},
    BlockEntry{"attn.c_attn.bias", &B::qkv_bias, 0, 3, Init::kZeros},
    BlockEntry{"attn.c_proj.weight", &B::proj_weight, 1, 1, Init::kResidualNormal},
    BlockEntry{"attn.c_proj.bias", &B::proj_bias, 0, 1, Init::kZeros},
    BlockEntry{"ln_2.weight", &B::ln2_weight, 0, 1, Init::kOnes},
    BlockEntry{"ln_2.bias", &B::ln2_bias, 0, 1, Init::kZeros},
    BlockEntry{"mlp.c_fc.weight", &B::fc_weight, 1, 4, Init::kNormal},
    BlockEntry{"mlp.c_fc.bias", &B::fc_bias, 0, 4, Init::kZeros},
    BlockEntry{"mlp.c_proj.weight", &B::out_weight, 4, 1, Init::kResidualNormal},
    BlockEntry{"mlp.c_proj.bias", &B::out_bias, 0, 1, Init::kZeros},
};
constexpr std::size_t kBlockSize = kBlockEntries.size();
constexpr std::size_t kBeforeBlocks = 2;  // wte, wpe
constexpr std::size_t kAfterBlocks = 2;   // the last LayerNorm's

/// An adapter of a block, beside the weight that it adds to.
struct AdapterEntry {
  std::string_view name;
  View BlockParameters::*weight;
  View BlockAdapters::*view;
};

using D = BlockAdapters;
constexpr std::array kAdapterEntries = {
    AdapterEntry{"attn.c_attn.lora_A", &B::qkv_weight, &D::qkv_a},
    AdapterEntry{"attn.c_attn.lora_B", &B::qkv_weight, &D::qkv_b},
    AdapterEntry{"attn.c_proj.lora_A", &B::proj_weight, &D::proj_a},
    AdapterEntry{"attn.c_proj.lora_B", &B::proj_weight, &D::proj_b},
    AdapterEntry{"mlp.c_fc.lora_A", &B::fc_weight, &D::fc_a},
    AdapterEntry{"mlp.c_fc.lora_B", &B::fc_weight, &D::fc_b},
    AdapterEntry{"mlp.c_proj.lora_A", &B::out_weight, &D::out_a},
    AdapterEntry{"mlp.c_proj.lora_B", &B::out_weight, &D::out_b},
};
constexpr std::size_t kAdapterCount = kAdapterEntries.size();

/// Which of a block's parameters this is.
std::size_t entry_of(View BlockParameters::*view) {
  const auto* const entry = std::ranges::find(kBlockEntries, view, &BlockEntry::view);
  return static_cast<std::size_t>(entry - kBlockEntries.begin());
}

/// Operation of a block that uses entry `index`: each has a weight (or gain) and a bias.
std::int64_t operation_of(std::size_t index) { return static_cast<std::int64_t>(index / 2); }
static_assert(kBlockSize == 2 * kBlockOperations);

void add_adapters(const Lora& lora, const Config& config, std::vector<ParameterInfo>& list) {
  if (lora.rank < 1 || lora.rank > config.channels) {
    base::fail("LoRA: rank: expected 1 to the model's {} channels, got {}", config.channels,
               lora.rank);
  }
  if (!std::isfinite(lora.alpha) || lora.alpha <= 0) {
    base::fail("LoRA: alpha: expected a number above 0, got {}", lora.alpha);
  }
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const AdapterEntry& entry : kAdapterEntries) {
      const std::size_t in_block = entry_of(entry.weight);
      ParameterInfo& weight =
          list[kBeforeBlocks + static_cast<std::size_t>(layer) * kBlockSize + in_block];
      const bool is_a = weight.adapter < 0;  // A comes first
      const Shape shape =
          is_a ? Shape{weight.shape[0], lora.rank} : Shape{lora.rank, weight.shape[1]};
      ParameterInfo info{.name = fmt::format("h.{}.{}", layer, entry.name),
                         .shape = shape,
                         .file_rows = shape[0],
                         .init = is_a ? Init::kInputsUniform : Init::kZeros,
                         .decays = true,
                         .packed = -1,
                         .matrices = 0,
                         .trained = true,
                         .place = weight.place,
                         .is_adapter = true,
                         .adapter = -1};
      if (is_a) weight.adapter = static_cast<int>(list.size());
      list.push_back(std::move(info));
    }
  }
}

}  // namespace

std::vector<ParameterInfo> parameter_list(const Config& config, const Tuning& tuning) {
  const std::int64_t c = config.channels;
  std::vector<ParameterInfo> list;
  int packed = 0;
  const auto add = [&](std::string name, Shape shape, std::int64_t file_rows, Init init,
                       bool is_packed, int matrices, std::int64_t place) {
    list.push_back({.name = std::move(name),
                    .shape = shape,
                    .file_rows = file_rows,
                    .init = init,
                    .decays = shape.rank() >= 2,
                    .packed = is_packed ? packed++ : -1,
                    .matrices = matrices,
                    .trained = true,
                    .place = place,
                    .is_adapter = false,
                    .adapter = -1});
  };
  add("wte.weight", {config.padded_vocab(), c}, config.vocab_size, Init::kNormal, true, 0, 0);
  add("wpe.weight", {config.context, c}, config.context, Init::kNormal, false, 0, 0);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (std::size_t i = 0; i < kBlockSize; ++i) {
      const BlockEntry& entry = kBlockEntries[i];
      const bool matrix = entry.rows > 0;
      const Shape shape =
          matrix ? Shape{entry.rows * c, entry.columns * c} : Shape{entry.columns * c};
      const bool is_qkv = entry.view == &B::qkv_weight;
      add(fmt::format("h.{}.{}", layer, entry.name), shape, shape[0], entry.init, matrix,
          is_qkv   ? 3
          : matrix ? 1
                   : 0,
          first_place(layer) + operation_of(i));
    }
  }
  add("ln_f.weight", {c}, c, Init::kOnes, false, 0, first_place(config.layers));
  add("ln_f.bias", {c}, c, Init::kZeros, false, 0, first_place(config.layers));
  if (tuning.lora.active() || tuning.lora != Lora{}) add_adapters(tuning.lora, config, list);
  apply(tuning, config, list);
  return list;
}

Contents second_moments_of(Optimizer optimizer) {
  return optimizer == Optimizer::kMuon ? Contents::kNoBlockMatrices : Contents::kTrained;
}

bool is_in(Contents contents, const ParameterInfo& info) {
  switch (contents) {
    case Contents::kAll:
      return true;
    case Contents::kUnpacked:
      return info.packed < 0;
    case Contents::kTrained:
      return info.trained;
    case Contents::kNoBlockMatrices:
      return info.trained && info.matrices == 0;
  }
  return false;
}

// ---- ParameterSet -----------------------------------------------------------------------------

std::int64_t largest_adapted(const std::vector<ParameterInfo>& list) {
  std::int64_t largest = 0;
  for (const ParameterInfo& info : list) {
    if (info.adapter >= 0) largest = std::max(largest, info.shape.elements());
  }
  return largest;
}

ConstView merged(const ParameterSet& set, std::size_t index, float* staging) {
  const ParameterInfo& info = set.info(index);
  if (info.adapter < 0) return set.view(index);
  const View result(staging, DType::kF32, info.shape);
  const auto a = static_cast<std::size_t>(info.adapter);
  kernels::merge_low_rank(result, set.view(index), set.view(a), set.view(a + 1),
                          set.tuning().lora.scale());
  return result;
}

ParameterSet::ParameterSet(const Config& config, Contents contents, const Tuning& tuning,
                           base::MemorySource* memory)
    : config_(config),
      tuning_(tuning),
      contents_(contents),
      infos_(parameter_list(config, tuning)) {
  blocks.resize(static_cast<std::size_t>(config.layers));
  if (tuning.lora.active()) adapters.resize(blocks.size());
  arena_ = base::make_arena(
      [&](base::Arena& arena) {
        for (std::size_t i = 0; i < size(); ++i) {
          if (is_in(contents, infos_[i])) view(i) = arena.take(DType::kF32, infos_[i].shape);
        }
      },
      memory);
}

void ParameterSet::assign(const ParameterSet& other, base::MemorySource* memory) {
  if (config_ != other.config_ || tuning_ != other.tuning_ || contents_ != other.contents_ ||
      size() != other.size()) {
    take_layout(other, memory);
  }
  for (std::size_t i = 0; i < size(); ++i) {
    if (!infos_[i].trained) view(i) = other.view(i);
    if (view(i).empty() || !infos_[i].trained) continue;
    if (base::MemorySource* const from = other.arena_.source()) {
      from->copy_out(view(i).data(), other.view(i).data(), view(i).bytes());
      continue;
    }
    base::parallel_ranges(view(i).elements(), [&](std::int64_t begin, std::int64_t end) {
      std::copy(other.view(i).f32() + begin, other.view(i).f32() + end, view(i).f32() + begin);
    });
  }
}

void ParameterSet::take_layout(const ParameterSet& other, base::MemorySource* memory) {
  *this = ParameterSet();
  config_ = other.config_;
  tuning_ = other.tuning_;
  contents_ = other.contents_;
  infos_ = other.infos_;
  blocks.resize(other.blocks.size());
  adapters.resize(other.adapters.size());
  arena_ = base::make_arena(
      [&](base::Arena& arena) {
        for (std::size_t i = 0; i < size(); ++i) {
          if (!infos_[i].trained || other.view(i).empty()) continue;
          view(i) = arena.take(DType::kF32, infos_[i].shape);
        }
      },
      memory);
}

View& ParameterSet::view(std::size_t index) {
  if (index == 0) return wte;
  if (index == 1) return wpe;
  const std::size_t in_blocks = index - kBeforeBlocks;
  const std::size_t layer = in_blocks / kBlockSize;
  if (layer < blocks.size()) return blocks[layer].*kBlockEntries[in_blocks % kBlockSize].view;
  const std::size_t after_blocks = in_blocks - blocks.size() * kBlockSize;
  if (after_blocks < kAfterBlocks) return after_blocks == 0 ? lnf_weight : lnf_bias;
  const std::size_t in_adapters = after_blocks - kAfterBlocks;
  return adapters[in_adapters / kAdapterCount].*kAdapterEntries[in_adapters % kAdapterCount].view;
}

const View& ParameterSet::view(std::size_t index) const {
  return const_cast<ParameterSet*>(this)->view(index);
}

void ParameterSet::for_each(const std::function<void(View&, const ParameterInfo&)>& visit) {
  for (std::size_t i = 0; i < size(); ++i) visit(view(i), infos_[i]);
}

void ParameterSet::for_each(
    const std::function<void(const View&, const ParameterInfo&)>& visit) const {
  for (std::size_t i = 0; i < size(); ++i) visit(view(i), infos_[i]);
}

}  // namespace model
