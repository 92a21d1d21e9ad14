// Where activations lie. One function lays out training's, one inference's; each runs measuring
// first, so that plan() and the real thing cannot disagree.

#include "model/activations.h"

#include <algorithm>

#include "model/parameters.h"

namespace model {
namespace {

void lay_out(base::Arena& arena, const Config& config, DType type, TrainingActivations& t) {
  const std::int64_t rows = t.batch * t.length, c = config.channels;
  const auto f32 = [&](Shape shape) { return arena.take(DType::kF32, shape); };
  const auto a = [&](Shape shape) { return arena.take(type, shape); };
  t.forward.blocks.resize(static_cast<std::size_t>(config.layers));
  const bool cheap = t.recompute != Recompute::kNone;  // GELU is computed again
  const bool dear = t.recompute == Recompute::kBlock;  // and everything else
  const auto kept = static_cast<std::size_t>(t.first_kept);
  const BlockActivations& first = t.forward.blocks[kept];  // whose buffers the others may share
  for (BlockActivations& b : std::span(t.forward.blocks).subspan(kept)) {
    const bool owns_ln = &b == &first;  // computed again whatever the mode: a hundredth of a step
    const bool owns_cheap = !cheap || &b == &first;
    const bool owns_dear = !dear || &b == &first;
    b = {.res = f32({rows, c}),
         .ln1 = owns_ln ? a({rows, c}) : first.ln1,
         .ln1_mean = owns_dear ? f32({rows}) : first.ln1_mean,
         .ln1_rstd = owns_dear ? f32({rows}) : first.ln1_rstd,
         .qkv = owns_dear ? a({rows, 3 * c}) : first.qkv,
         .att = owns_dear ? a({rows, c}) : first.att,
         .lse = owns_dear ? f32({t.batch, config.heads, t.length}) : first.lse,
         .mid = owns_dear ? f32({rows, c}) : first.mid,
         .ln2 = owns_ln ? a({rows, c}) : first.ln2,
         .ln2_mean = owns_dear ? f32({rows}) : first.ln2_mean,
         .ln2_rstd = owns_dear ? f32({rows}) : first.ln2_rstd,
         .pre = owns_dear ? a({rows, 4 * c}) : first.pre,
         .hidden = owns_cheap ? a({rows, 4 * c}) : first.hidden};
  }
  // Blocks below are done before `first` begins: as in inference, with one residual for all.
  for (BlockActivations& b : std::span(t.forward.blocks).first(kept)) {
    b = first;
    b.mid = first.res;
    b.pre = {};
  }
  t.forward.branch = a({rows, c});
  t.forward.res = f32({rows, c});
  t.forward.normed = a({rows, c});
  t.forward.mean = f32({rows});
  t.forward.rstd = f32({rows});
  t.forward.losses = f32({rows});
  BackwardBuffers& d = t.backward;
  d.dres = f32({rows, c});
  const bool copied = type != DType::kF32 || t.dropout;
  d.dres_copy = copied ? a({rows, c}) : View{};
  d.dbranch = copied ? d.dres_copy : d.dres;
  d.dnormed = a({rows, c});
  d.wide = a({rows, 4 * c});
}

/// Sets views of (batch, length) on memory for `capacity_rows`; gives the bytes that this needs.
/// `memory` null: only measures.
std::size_t lay_out(std::byte* memory, const Config& config, DType type, std::int64_t capacity_rows,
                    std::int64_t batch, std::int64_t length, Activations& activations) {
  const std::int64_t rows = batch * length, c = config.channels;
  base::Arena places;  // measuring: where in `memory` each buffer begins
  const auto take = [&](DType t, std::int64_t columns) {
    const std::size_t begin = places.used_bytes();
    places.take(t, {capacity_rows, columns});
    return View(memory == nullptr ? nullptr : memory + begin, t, {rows, columns});
  };
  const auto f32 = [&](std::int64_t columns) { return take(DType::kF32, columns); };
  const auto a = [&](std::int64_t columns) { return take(type, columns); };
  const View res = f32(c), branch = a(c), normed = a(c), att = a(c), wide = a(4 * c);
  const View mean = f32(1).reshaped({rows}), rstd = f32(1).reshaped({rows});
  const View lse = f32(config.heads).reshaped({batch, config.heads, length});
  activations.blocks.assign(1, {.res = res,
                                .ln1 = normed,
                                .ln1_mean = mean,
                                .ln1_rstd = rstd,
                                .qkv = View(wide.data(), type, {rows, 3 * c}),
                                .att = att,
                                .lse = lse,
                                .mid = res,
                                .ln2 = normed,
                                .ln2_mean = mean,
                                .ln2_rstd = rstd,
                                .pre = {},
                                .hidden = wide});
  activations.branch = branch;
  activations.res = res;
  activations.normed = normed;
  activations.mean = mean;
  activations.rstd = rstd;
  return places.used_bytes();
}

}  // namespace

TrainingActivations make_training_activations(const Config& config, DType type, std::int64_t batch,
                                              std::int64_t length, Recompute recompute,
                                              bool dropout, std::int64_t first_kept,
                                              base::MemorySource* memory) {
  TrainingActivations t;
  t.batch = batch;
  t.length = length;
  t.recompute = recompute;
  t.dropout = dropout;
  t.first_kept = first_kept;
  t.arena = base::make_arena([&](base::Arena& arena) { lay_out(arena, config, type, t); }, memory);
  return t;
}

std::int64_t first_kept_layer(std::int64_t lowest_place, const Config& config) {
  return std::clamp<std::int64_t>(layer_of(lowest_place), 0, config.layers - 1);
}

const Activations& InferenceActivations::use(const Config& config, kernels::Backend& backend,
                                             std::int64_t batch, std::int64_t length) {
  const DType type = backend.compute_type();
  if (batch == batch_ && length == length_) return activations_;
  const std::int64_t rows = batch * length;
  if (rows > capacity_rows_) {
    arena_ = {};  // gives the memory back before more is taken
    arena_ = base::Arena(lay_out(nullptr, config, type, rows, batch, length, activations_),
                         backend.memory());
    memory_ = static_cast<std::byte*>(arena_.take_bytes(arena_.capacity_bytes()));
    capacity_rows_ = rows;
  }
  lay_out(memory_, config, type, capacity_rows_, batch, length, activations_);
  batch_ = batch;
  length_ = length;
  return activations_;
}

std::size_t inference_activation_bytes(const Config& config, DType type, std::int64_t batch,
                                       std::int64_t length) {
  Activations ignored;
  return lay_out(nullptr, config, type, batch * length, batch, length, ignored);
}

std::size_t training_activation_bytes(const Config& config, DType type, std::int64_t batch,
                                      std::int64_t length, Recompute recompute, bool dropout,
                                      std::int64_t first_kept) {
  base::Arena measuring;
  TrainingActivations t;
  t.batch = batch;
  t.length = length;
  t.recompute = recompute;
  t.dropout = dropout;
  t.first_kept = first_kept;
  lay_out(measuring, config, type, t);
  return measuring.used_bytes();
}

}  // namespace model
