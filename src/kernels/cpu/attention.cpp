// How attention is cut into heads and where each head's rows lie.

#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "kernels/dropout.h"

namespace kernels::cpu {
namespace {

/// Up to this many new rows attend one by one: a block of 64 queries would be mostly empty.
constexpr std::int64_t kFewRows = 8;

/// Bytes of `count` floats, up to the next cache line.
std::size_t float_bytes(std::int64_t count) {
  return static_cast<std::size_t>((count + 15) / 16 * 16) * sizeof(float);
}

/// Floats of scratch that the keys of a head's masks take.
std::int64_t mask_floats(std::int64_t length) {
  return 2 * ((length + kHeadMaskQueries - 1) / kHeadMaskQueries * kHeadMaskQueries);
}

/// The mask of head `head` of the sequence `sequence`, its keys written to `memory`.
HeadMask head_mask(const Dropout& dropout, std::int64_t sequence, std::int64_t head,
                   std::int64_t heads, std::int64_t length, float* memory) {
  if (!dropout.active()) return {};
  const DropoutMask mask(of_heads(dropout, heads));
  auto* low = reinterpret_cast<std::uint32_t*>(memory);
  const std::int64_t rows = mask_floats(length) / 2;
  std::uint32_t* high = low + rows;
  for (std::int64_t t = 0; t < rows; ++t) {
    const std::uint64_t key = mask.row_key((sequence * length + t) * heads + head);
    low[t] = static_cast<std::uint32_t>(key);
    high[t] = static_cast<std::uint32_t>(key >> 32);
  }
  return {.low = low, .high = high, .threshold = mask.threshold(), .scale = mask.scale()};
}

const void* at(const ConstView& view, std::int64_t element) {
  return static_cast<const std::byte*>(view.data()) +
         static_cast<std::size_t>(element) * size_of(view.type());
}
void* at(const View& view, std::int64_t element) {
  return const_cast<void*>(at(static_cast<const ConstView&>(view), element));
}

}  // namespace

Attention::Attention(DType type, Isa isa, Scratch& scratch)
    : type_(type),
      kernels_(attention_for(isa, type)),
      attend_row_((type == DType::kF32 ? table_for(isa).f32 : table_for(isa).bf16).attention_row),
      scratch_(scratch) {}

std::size_t Attention::scratch_bytes(std::int64_t length, std::int64_t context,
                                     std::int64_t head_size, bool training) const {
  const std::int64_t floats = training
                                  ? std::max(kernels_.forward_scratch(length, head_size),
                                             kernels_.backward_scratch(length, head_size)) +
                                        mask_floats(length)
                                  : std::max(kernels_.forward_scratch(context, head_size), context);
  return static_cast<std::size_t>(base::thread_count()) * float_bytes(floats);
}

/// Runs body(sequence, head, scratch) for every head, each thread with `floats` of scratch.
template <class Body>
void Attention::for_each_head(std::int64_t sequences, std::int64_t heads, std::int64_t floats,
                              Body&& body) {
  const std::size_t bytes = float_bytes(floats);
  auto* scratch = static_cast<std::byte*>(
      scratch_.take(bytes * static_cast<std::size_t>(base::thread_count())));
  base::parallel_for_dynamic(sequences * heads, [&](std::int64_t task) {
    std::byte* own = scratch + bytes * static_cast<std::size_t>(base::thread_index());
    body(task / heads, task % heads, reinterpret_cast<float*>(own));
  });
}

void Attention::forward(View out, View lse, ConstView qkv, const Dropout& dropout) {
  const std::int64_t heads = lse.dim(1);
  const std::int64_t length = lse.dim(2);
  const std::int64_t channels = out.dim(1);
  const std::int64_t size = channels / heads;
  const std::int64_t masks = dropout.active() ? mask_floats(length) : 0;
  for_each_head(lse.dim(0), heads, masks + kernels_.forward_scratch(length, size),
                [&](std::int64_t b, std::int64_t h, float* scratch) {
                  const std::int64_t first = b * length * 3 * channels + h * size;
                  kernels_.forward({.out = at(out, b * length * channels + h * size),
                                    .lse = lse.f32() + (b * heads + h) * length,
                                    .q = at(qkv, first),
                                    .k = at(qkv, first + channels),
                                    .v = at(qkv, first + 2 * channels),
                                    .out_stride = channels,
                                    .q_stride = 3 * channels,
                                    .kv_stride = 3 * channels,
                                    .queries = length,
                                    .keys = length,
                                    .first_position = 0,
                                    .head_size = size,
                                    .mask = head_mask(dropout, b, h, heads, length, scratch)},
                                   scratch + masks);
                });
}

void Attention::backward(View dqkv, ConstView dout, ConstView qkv, ConstView out, ConstView lse,
                         const Dropout& dropout) {
  const std::int64_t heads = lse.dim(1);
  const std::int64_t length = lse.dim(2);
  const std::int64_t channels = out.dim(1);
  const std::int64_t size = channels / heads;
  const std::int64_t masks = dropout.active() ? mask_floats(length) : 0;
  for_each_head(lse.dim(0), heads, masks + kernels_.backward_scratch(length, size),
                [&](std::int64_t b, std::int64_t h, float* scratch) {
                  const std::int64_t first = b * length * 3 * channels + h * size;
                  const std::int64_t row = b * length * channels + h * size;
                  kernels_.backward({.dq = at(dqkv, first),
                                     .dk = at(dqkv, first + channels),
                                     .dv = at(dqkv, first + 2 * channels),
                                     .q = at(qkv, first),
                                     .k = at(qkv, first + channels),
                                     .v = at(qkv, first + 2 * channels),
                                     .out = at(out, row),
                                     .dout = at(dout, row),
                                     .lse = lse.f32() + (b * heads + h) * length,
                                     .qkv_stride = 3 * channels,
                                     .out_stride = channels,
                                     .length = length,
                                     .head_size = size,
                                     .mask = head_mask(dropout, b, h, heads, length, scratch)},
                                    scratch + masks);
                });
}

void Attention::cached(View out, ConstView qkv, std::span<const CacheRows> sequences) {
  const std::int64_t heads = sequences.front().keys.dim(0);
  const std::int64_t size = sequences.front().keys.dim(2);
  std::int64_t floats = 0;
  for (const CacheRows& s : sequences) {
    const std::int64_t keys = s.position + s.rows;
    floats = std::max(floats, s.rows <= kFewRows ? keys : kernels_.forward_scratch(keys, size));
  }
  for_each_head(static_cast<std::int64_t>(sequences.size()), heads, floats,
                [&](std::int64_t sequence, std::int64_t head, float* scratch) {
                  const auto index = static_cast<std::size_t>(sequence);
                  std::int64_t first_row = 0;
                  for (const CacheRows& before : sequences.first(index)) first_row += before.rows;
                  cached_head(out, qkv, sequences[index], head, first_row, scratch);
                });
}

/// One head of a sequence whose rows of `qkv` and `out` start at `first_row`.
void Attention::cached_head(View out, ConstView qkv, const CacheRows& sequence, std::int64_t head,
                            std::int64_t first_row, float* scratch) const {
  const std::int64_t positions = sequence.keys.dim(1);
  const std::int64_t size = sequence.keys.dim(2);
  const std::int64_t channels = out.dim(1);
  const std::int64_t cache = head * positions * size;
  const std::int64_t from = first_row * 3 * channels + head * size;
  const std::size_t row_bytes = static_cast<std::size_t>(size) * size_of(type_);
  for (std::int64_t t = 0; t < sequence.rows; ++t) {
    const std::int64_t to = cache + (sequence.position + t) * size;
    const std::int64_t row = from + t * 3 * channels;
    std::memcpy(at(sequence.keys, to), at(qkv, row + channels), row_bytes);
    std::memcpy(at(sequence.values, to), at(qkv, row + 2 * channels), row_bytes);
  }
  const AttentionForward op{.out = at(out, first_row * channels + head * size),
                            .lse = nullptr,
                            .q = at(qkv, from),
                            .k = at(sequence.keys, cache),
                            .v = at(sequence.values, cache),
                            .out_stride = channels,
                            .q_stride = 3 * channels,
                            .kv_stride = size,
                            .queries = sequence.rows,
                            .keys = sequence.position + sequence.rows,
                            .first_position = sequence.position,
                            .head_size = size,
                            .mask = {}};
  if (sequence.rows > kFewRows) return kernels_.forward(op, scratch);
  for (std::int64_t t = 0; t < sequence.rows; ++t) attend_row_(op, t, scratch);
}

}  // namespace kernels::cpu
