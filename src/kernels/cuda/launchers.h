#pragma once
/// What the CUDA backend is made of: one function an operation, which queues kernels on a stream.
///
/// Law: pointers are device memory, 16-byte aligned; nothing is allocated; every result has the
/// same bits whatever the device's number of processors and the order of its blocks (no atomics on
/// floats; sums are split by shape). Legend and formulas are kernels/kernels.h's. A is f32 or bf16.
/// C, D, Vp are multiples of 8 (16 bytes of bf16); where one is not, Error.
///
/// State, 2026-11-27: run on the host under the sanitizers only; on a device not yet.

#include <cstdint>

#include "kernels/cuda/gpu.h"

namespace kernels::cuda {

using gpu::Bf16;
using gpu::Stream;

// ---- embedding ----------------------------------------------------------------------------------

/// x[n] = wte[ids[n]] + wpe[first_position + n mod length].
void embed_forward(float* x, const std::int32_t* ids, const float* wte, const float* wpe, int rows,
                   int channels, int length, int first_position, Stream stream);

/// Rows grouped by id: `order` holds the rows sorted by id, equal ids in their order; group g is
/// order[starts[g] .. starts[g + 1]). Made on the host, where ids come from.
struct IdGroups {
  const std::int32_t* order = nullptr;   ///< (N), device
  const std::int32_t* starts = nullptr;  ///< (count + 1), device
  int count = 0;
};
/// Fills order (N) and starts (N + 1 at most), host memory; returns the number of groups.
int group_rows(std::int32_t* order, std::int32_t* starts, const std::int32_t* ids, int rows,
               int vocab);
/// dwte[ids[n]] += dx[n]; dwpe[n mod length] += dx[n].
void embed_backward(float* dwte, float* dwpe, const float* dx, const std::int32_t* ids,
                    const IdGroups& groups, int rows, int channels, int length, Stream stream);

// ---- LayerNorm with the residual ----------------------------------------------------------------

/// The most channels a row may have: seven vectors a lane, and `xl` has 1600.
inline constexpr int kMostChannels = 1792;

/// res_out = res_in + branch; normed = LayerNorm(res_out) gain + bias. branch null: none is added
/// and res_out is not written (it must be res_in).
template <class A>
void add_layernorm_forward(float* res_out, A* normed, float* mean, float* rstd, const float* res_in,
                           const A* branch, const float* gain, const float* bias, int rows,
                           int channels, Stream stream);

/// Floats of scratch that add_layernorm_backward() takes.
std::size_t layernorm_scratch_floats(int rows, int channels);
/// dres (+)= LayerNorm's input gradient; dres_copy = dres in A; dgain += ..., dbias += ...;
/// dbranch_bias += column sums of dres as it is written, the gradient of the bias of the product
/// that made the branch. `first`: dres is written, not read. dres_copy, dbranch_bias may be null.
template <class A>
void add_layernorm_backward(float* dres, A* dres_copy, float* dgain, float* dbias,
                            float* dbranch_bias, const A* dnormed, const float* res,
                            const float* mean, const float* rstd, const float* gain, bool first,
                            float* scratch, int rows, int channels, Stream stream);

// ---- pointwise ----------------------------------------------------------------------------------

/// out = GELU(pre), the tanh form. `count` is a multiple of 8.
template <class A>
void gelu_forward(A* out, const A* pre, std::size_t count, Stream stream);
/// dpre = dout GELU'(pre); dpre may be dout.
template <class A>
void gelu_backward(A* dpre, const A* dout, const A* pre, std::size_t count, Stream stream);
/// out[i] = inp[i] in bf16.
void convert_to_bf16(Bf16* out, const float* inp, std::size_t count, Stream stream);

/// Floats of scratch that column_sums() takes.
std::size_t column_sums_scratch_floats(int rows, int columns);
/// sums[c] += sum over rows of values[r][c]: a bias's gradient. columns a multiple of 8.
template <class A>
void column_sums(float* sums, const A* values, int rows, int columns, float* scratch,
                 Stream stream);

// ---- attention ----------------------------------------------------------------------------------

/// Causal attention from the fused (N, 3C) layout; head size 64 or 128. out: (N, C), lse: (B, H,
/// T).
void attention_forward(Bf16* out, float* lse, const Bf16* qkv, int batch, int length, int heads,
                       int head_size, Stream stream);
/// dqkv: (N, 3C). delta: (B, H, T) f32 scratch, row sums of dout * out.
void attention_backward(Bf16* dqkv, float* delta, const Bf16* dout, const Bf16* qkv,
                        const Bf16* out, const float* lse, int batch, int length, int heads,
                        int head_size, Stream stream);

// ---- head's loss --------------------------------------------------------------------------------

/// For each of `rows` rows: losses[n] = log-sum-exp of the first `vocab` logits minus the target's,
/// and logits becomes scale (softmax - onehot), padding 0. Target -1: loss 0 and the row 0.
/// with_gradient false: logits stays.
void softmax_loss(float* losses, Bf16* logits, const std::int32_t* targets, int rows, int vocab,
                  int padded_vocab, float scale, bool with_gradient, Stream stream);
/// *total (+)= the f64 sum of values, in a fixed order.
void sum_losses(double* total, const float* values, int count, bool add, Stream stream);

// ---- optimizer ----------------------------------------------------------------------------------

/// What clipping found, in device memory.
struct Clip {
  double squared_norm;
  float norm;
  float scale;  ///< min(1, limit / (norm + 1e-6)), or 1 where limit is 0
};
/// Doubles of scratch that clip_scale() takes.
inline constexpr int kNormBlocks = 1024;
/// The norm of `count` gradients, summed in f64 in a fixed order.
void clip_scale(Clip* clip, const float* gradients, std::size_t count, float limit, double* scratch,
                Stream stream);

/// Consecutive parameters of the flat arenas that decay alike.
struct AdamSpan {
  std::int64_t first;
  std::int32_t count;
  float decay;
};
/// The most parameters in one span; a longer run is several.
inline constexpr int kAdamSpan = 8192;
/// AdamW's numbers for a step, in device memory.
struct AdamHyper {
  float rate, beta1, beta2, epsilon;
  float correction1, correction2;  ///< 1 / (1 - beta^step)
};
/// p -= rate decay p; p -= rate m' / (sqrt(v') + epsilon), over all spans at once, with gradients
/// times clip->scale; copies[i] = p[i] in bf16 (none where null).
void adamw_step(float* parameters, Bf16* copies, float* m, float* v, const float* gradients,
                const AdamSpan* spans, int span_count, const AdamHyper* hyper, const Clip* clip,
                Stream stream);

// ---- generation ---------------------------------------------------------------------------------

/// out[r][m] = sum_k inp[r][k] weight[m][k] + bias[m], weight (M, K) bf16 read once for up to
/// kDecodeRows rows. inp: (rows, K) bf16. out: (rows, M) f32. K a multiple of 8. bias may be null.
inline constexpr int kDecodeRows = 4;
void decode_linear(float* out, const Bf16* inp, const Bf16* weight, const float* bias, int rows,
                   int inputs, int outputs, Stream stream);
/// One query row a sequence against its caches. out: (B, C) bf16. q: (B, C) bf16.
/// keys, values: (B, H, positions, D) bf16. lengths: (B), keys to attend to, at least 1.
/// Head size 64 or 128.
void decode_attention(Bf16* out, const Bf16* q, const Bf16* keys, const Bf16* values,
                      const std::int32_t* lengths, int batch, int heads, int positions,
                      int head_size, Stream stream);

}  // namespace kernels::cuda
