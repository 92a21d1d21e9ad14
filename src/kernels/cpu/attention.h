#pragma once
/// Attention of the CPU backend: cuts it into heads of sequences, spreads them over the threads and
/// lends each thread scratch.
/// Law: a head of a sequence is computed by one thread in one order, so results depend neither on
/// the number of threads nor on the other sequences.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/kernels.h"

namespace kernels::cpu {

/// The three operations as the door (kernels.h) states them, for one compute type.
class Attention {
 public:
  /// `scratch` is shared with whoever else runs between these operations, and outlives this.
  Attention(DType type, Isa isa, Scratch& scratch);

  void forward(View out, View lse, ConstView qkv, const Dropout& dropout);
  void backward(View dqkv, ConstView dout, ConstView qkv, ConstView out, ConstView lse,
                const Dropout& dropout);
  void cached(View out, ConstView qkv, std::span<const CacheRows> sequences);

  /// Upper bound of the scratch that the operations take: sequences of `length` in training, up to
  /// `context` positions in generation.
  std::size_t scratch_bytes(std::int64_t length, std::int64_t context, std::int64_t head_size,
                            bool training) const;

 private:
  template <class Body>
  void for_each_head(std::int64_t sequences, std::int64_t heads, std::int64_t floats, Body&& body);
  void cached_head(View out, ConstView qkv, const CacheRows& sequence, std::int64_t head,
                   std::int64_t first_row, float* scratch) const;

  DType type_;
  const AttentionKernels& kernels_;
  void (*attend_row_)(const AttentionForward& op, std::int64_t row, float* scratch);
  Scratch& scratch_;
};

}  // namespace kernels::cpu
