// The one list of a GPT-2's parameters, and what is laid out by it.

#include <algorithm>
#include <array>

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

}  // namespace

std::vector<ParameterInfo> parameter_list(const Config& config) {
  const std::int64_t c = config.channels;
  std::vector<ParameterInfo> list;
  int packed = 0;
  const auto add = [&](std::string name, Shape shape, std::int64_t file_rows, Init init,
                       bool is_packed, int matrices) {
    list.push_back({.name = std::move(name),
                    .shape = shape,
                    .file_rows = file_rows,
                    .init = init,
                    .decays = shape.rank() >= 2,
                    .packed = is_packed ? packed++ : -1,
                    .matrices = matrices});
  };
  add("wte.weight", {config.padded_vocab(), c}, config.vocab_size, Init::kNormal, true, 0);
  add("wpe.weight", {config.context, c}, config.context, Init::kNormal, false, 0);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const BlockEntry& entry : kBlockEntries) {
      const bool matrix = entry.rows > 0;
      const Shape shape =
          matrix ? Shape{entry.rows * c, entry.columns * c} : Shape{entry.columns * c};
      const bool is_qkv = entry.view == &B::qkv_weight;
      add(fmt::format("h.{}.{}", layer, entry.name), shape, shape[0], entry.init, matrix,
          is_qkv   ? 3
          : matrix ? 1
                   : 0);
    }
  }
  add("ln_f.weight", {c}, c, Init::kOnes, false, 0);
  add("ln_f.bias", {c}, c, Init::kZeros, false, 0);
  return list;
}

Contents second_moments_of(Optimizer optimizer) {
  return optimizer == Optimizer::kMuon ? Contents::kNoBlockMatrices : Contents::kAll;
}

bool is_in(Contents contents, const ParameterInfo& info) {
  switch (contents) {
    case Contents::kAll:
      return true;
    case Contents::kUnpacked:
      return info.packed < 0;
    case Contents::kNoBlockMatrices:
      return info.matrices == 0;
  }
  return false;
}

// ---- ParameterSet -----------------------------------------------------------------------------

ParameterSet::ParameterSet(const Config& config, Contents contents)
    : config_(config), contents_(contents), infos_(parameter_list(config)) {
  blocks.resize(static_cast<std::size_t>(config.layers));
  arena_ = base::make_arena([&](base::Arena& arena) {
    for (std::size_t i = 0; i < size(); ++i) {
      if (is_in(contents, infos_[i])) view(i) = arena.take(DType::kF32, infos_[i].shape);
    }
  });
}

void ParameterSet::assign(const ParameterSet& other) {
  if (config_ != other.config_ || contents_ != other.contents_ || size() != other.size()) {
    *this = ParameterSet(other.config_, other.contents_);
  }
  for (std::size_t i = 0; i < size(); ++i) {
    if (view(i).empty()) continue;
    base::parallel_ranges(view(i).elements(), [&](std::int64_t begin, std::int64_t end) {
      std::copy(other.view(i).f32() + begin, other.view(i).f32() + end, view(i).f32() + begin);
    });
  }
}

View& ParameterSet::view(std::size_t index) {
  if (index == 0) return wte;
  if (index == 1) return wpe;
  const std::size_t in_blocks = index - kBeforeBlocks;
  const std::size_t layer = in_blocks / kBlockSize;
  if (layer < blocks.size()) return blocks[layer].*kBlockEntries[in_blocks % kBlockSize].view;
  return in_blocks == blocks.size() * kBlockSize ? lnf_weight : lnf_bias;
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
