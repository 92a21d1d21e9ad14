#pragma once
/// What the CUDA backend is made of: one function an operation, which queues kernels on a stream.
///
/// Law: pointers are device memory, 16-byte aligned; nothing is allocated; every result has the
/// same bits whatever the device's number of processors and the order of its blocks (no atomics on
/// floats; sums are split by shape). Legend and formulas are kernels/kernels.h's. A is f32 or bf16.
/// C, D, Vp are multiples of 8 (16 bytes of bf16, 32 of f32); where one is not, Error.
///
/// State, 2026-11-29: run on the host under the sanitizers only; on a device not yet.

#include <cstdint>

#include "kernels/cuda/gpu_types.h"

namespace kernels::cuda {

using gpu::Bf16;
using gpu::Stream;

/// kernels::Dropout with its numbers made ready (kernels/dropout.h).
struct Mask {
  std::uint32_t threshold = 0;  ///< bits below it are dropped; 0: nothing is
  float scale = 1;
  std::uint64_t key = 0;
  std::uint64_t first_row = 0;
  bool operator==(const Mask&) const = default;
};

// ---- embedding ----------------------------------------------------------------------------------

/// x[n] = wte[ids[n]] + wpe[first_position + n mod length], masked.
void embed_forward(float* x, const std::int32_t* ids, const float* wte, const float* wpe, int rows,
                   int channels, int length, int first_position, const Mask& mask, Stream stream);
/// x[n] = wte[ids[n]] + wpe[positions[n]].
template <class A>
void embed_packed(float* x, const std::int32_t* ids, const std::int32_t* positions, const A* wte,
                  const float* wpe, int rows, int channels, Stream stream);

/// Rows grouped by id: `order` holds the rows sorted by id, equal ids in their order; group g is
/// order[starts[g] .. starts[g + 1]). Made on the host, where ids come from.
struct IdGroups {
  const std::int32_t* order = nullptr;   ///< (N), device
  const std::int32_t* starts = nullptr;  ///< (count + 1), device
  int count = 0;                         ///< of groups; those at the end may have no rows
  bool operator==(const IdGroups&) const = default;
};
/// Fills order (N) and starts (N + 1), host memory; returns the number of groups with rows.
int group_rows(std::int32_t* order, std::int32_t* starts, const std::int32_t* ids, int rows,
               int vocab);
/// dwte[ids[n]] += dx[n]; dwpe[n mod length] += dx[n], of the masked dx. Null: not wanted.
void embed_backward(float* dwte, float* dwpe, const float* dx, const std::int32_t* ids,
                    const IdGroups& groups, int rows, int channels, int length, const Mask& mask,
                    Stream stream);

// ---- LayerNorm with the residual ----------------------------------------------------------------

/// The most channels a row may have: seven vectors a lane, and `xl` has 1600.
inline constexpr int kMostChannels = 1792;

/// res_out = res_in + the masked branch; normed = LayerNorm(res_out) gain + bias. branch null: none
/// is added and res_out is not written (it must be res_in).
template <class A>
void add_layernorm_forward(float* res_out, A* normed, float* mean, float* rstd, const float* res_in,
                           const A* branch, const float* gain, const float* bias, int rows,
                           int channels, const Mask& mask, Stream stream);

/// Floats of scratch that add_layernorm_backward() takes.
std::size_t layernorm_scratch_floats(int rows, int channels);
/// dres += LayerNorm's input gradient; dres_copy = dres in A, masked; dgain += ..., dbias += ...
/// dres_copy, dgain, dbias may be null.
template <class A>
void add_layernorm_backward(float* dres, A* dres_copy, float* dgain, float* dbias, const A* dnormed,
                            const float* res, const float* mean, const float* rstd,
                            const float* gain, const Mask& mask, float* scratch, int rows,
                            int channels, Stream stream);

// ---- pointwise ----------------------------------------------------------------------------------

/// out = GELU(pre), the tanh form. `count` is a multiple of 8.
template <class A>
void gelu_forward(A* out, const A* pre, std::size_t count, Stream stream);
/// dpre = dout GELU'(pre); dpre may be dout.
template <class A>
void gelu_backward(A* dpre, const A* dout, const A* pre, std::size_t count, Stream stream);
/// out[i] = inp[i] in A. `count` is a multiple of 8.
template <class A>
void convert(A* out, const float* inp, std::size_t count, Stream stream);
/// out (columns, rows) = inp (rows, columns) turned, in A.
template <class A>
void transpose(A* out, const float* inp, int rows, int columns, Stream stream);

/// Floats of scratch that column_sums() takes.
std::size_t column_sums_scratch_floats(int rows, int columns);
/// sums[c] += sum over rows of values[r][c]: a bias's gradient. columns a multiple of 8.
template <class A>
void column_sums(float* sums, const A* values, int rows, int columns, float* scratch,
                 Stream stream);

// ---- attention ----------------------------------------------------------------------------------

/// What the kernels of attention work on.
struct AttentionShape {
  int batch = 0;
  int length = 0;
  int heads = 0;
  int head_size = 0;  ///< bf16: 64 or 128, others are widened with zeros; f32: up to 128
  float scale = 0;    ///< of the scores, 1 / sqrt(D) with the unwidened D
  Mask mask;          ///< of the probabilities: element j of row n H + h
  bool operator==(const AttentionShape&) const = default;
};
/// Sequences times heads, the second dimension of a launch's grid.
inline constexpr int kMostHeads = 65535;
inline void check_heads(const char* what, const AttentionShape& s) {
  if (std::int64_t{s.batch} * s.heads <= kMostHeads) return;
  gpu::fail(std::string(what) + ": at most " + std::to_string(kMostHeads) +
            " heads of all sequences, got " + std::to_string(s.batch) + " x " +
            std::to_string(s.heads) + "; choose a smaller micro-batch");
}
/// Causal attention from the fused (N, 3C) layout. out: (N, C), lse: (B, H, T).
void attention_forward(Bf16* out, float* lse, const Bf16* qkv, const AttentionShape& shape,
                       Stream stream);
/// dqkv: (N, 3C). delta: (B, H, T) f32 scratch, row sums of dout * out.
void attention_backward(Bf16* dqkv, float* delta, const Bf16* dout, const Bf16* qkv,
                        const Bf16* out, const float* lse, const AttentionShape& shape,
                        Stream stream);
/// The same in f32.
void attention_forward(float* out, float* lse, const float* qkv, const AttentionShape& shape,
                       Stream stream);
void attention_backward(float* dqkv, float* delta, const float* dout, const float* qkv,
                        const float* out, const float* lse, const AttentionShape& shape,
                        Stream stream);
/// Heads of `from` channels become heads of `to`: zeros are added, or channels left out. out:
/// (rows, heads * to), inp: (rows, heads * from).
void resize_heads(Bf16* out, const Bf16* inp, int rows, int heads, int from, int to, Stream stream);

// ---- head's loss --------------------------------------------------------------------------------

/// What the gradient of a row of logits is made with.
struct LossGradient {
  float scale = 1;
  float label_smoothing = 0;  ///< E of kernels::LossOptions
  float z_loss = 0;           ///< W
  bool operator==(const LossGradient&) const = default;
};
/// The losses alone, of f32 logits.
void softmax_loss_forward(float* losses, const float* logits, const std::int32_t* targets, int rows,
                          int vocab, int padded_vocab, Stream stream);
/// For each of `rows` rows: losses[n] = log-sum-exp of the first `vocab` logits minus the target's,
/// and logits becomes scale ((1 + 2 W lse) softmax - (1 - E) onehot - E / V), padding 0. Target -1:
/// loss 0 and the row 0.
template <class A>
void softmax_loss(float* losses, A* logits, const std::int32_t* targets, int rows, int vocab,
                  int padded_vocab, const LossGradient& gradient, Stream stream);
/// *total = the f64 sum of values, in a fixed order.
void sum_losses(double* total, const float* values, int count, Stream stream);
/// Sums one after another, and how many there are; both on the device.
struct LossList {
  double* sums = nullptr;
  int* count = nullptr;
  bool operator==(const LossList&) const = default;
};
/// The same sum at the end of a list that has room for it.
void append_loss(const LossList& list, const float* values, int count, Stream stream);

// ---- what a draw looks at -----------------------------------------------------------------------

/// Of a row of logits the most likely, in order (equal ones by id); kernels::TopLogits' twin.
inline constexpr int kCandidates = 256;
struct CandidateRow {
  double mass;                    ///< sum of e^((logit - the largest) inverse_temperature)
  float logits[kCandidates];      ///< -infinity where there are fewer; NaN comes first
  std::int32_t ids[kCandidates];  ///< -1 where there are fewer
};
/// Device memory for `rows` rows: slices of them with their best, maximum and mass.
struct CandidateScratch {
  std::uint64_t* best;  ///< (rows, slices, kCandidates)
  float* tops;          ///< (rows, slices)
  double* masses;       ///< (rows, slices)
};
int candidate_slices(int vocab);
/// logits: (rows, stride), of which the first `vocab` count. inverse_temperatures: (rows), device.
void find_candidates(CandidateRow* out, const CandidateScratch& scratch, const float* logits,
                     const float* inverse_temperatures, int rows, int vocab, int stride,
                     Stream stream);

// ---- optimizer ----------------------------------------------------------------------------------

/// Blocks that squared_norm() takes for `count` numbers: the doubles of its scratch.
unsigned norm_blocks(std::size_t count);
/// *sum = the sum of squares, in f64 in a fixed order. sum, scratch: device.
void squared_norm(double* sum, const float* values, std::size_t count, double* scratch,
                  Stream stream);

/// One of several tensors whose squares are summed as one list.
struct NormTask {
  const float* values;
  std::size_t count;
  unsigned first_block;  ///< the norm_blocks() of those before it
  bool operator==(const NormTask&) const = default;
};
/// The same of all tasks, with one launch. tasks: (count), device. blocks: norm_blocks() of all.
void squared_norm(double* sum, const NormTask* tasks, int count, unsigned blocks, double* scratch,
                  Stream stream);

/// AdamW's numbers for a step: g = gradient * gradient_scale; m = beta1 m + (1 - beta1) g; v =
/// beta2 v + (1 - beta2) g^2; p = (1 - rate decay) p - step_size m / (sqrt(v) inverse_root_bias2 +
/// epsilon); average += average_rate (p - average).
struct AdamNumbers {
  double rate;
  float gradient_scale, beta1, beta2, epsilon;
  float step_size;           ///< rate / (1 - beta1^step)
  float inverse_root_bias2;  ///< 1 / sqrt(1 - beta2^step)
  float average_rate;
  bool operator==(const AdamNumbers&) const = default;
};
/// One parameter. copies: p in A; copies, average may be null.
template <class A>
struct AdamTask {
  float* parameter;
  float* m;
  float* v;
  const float* gradient;
  A* copies;
  float* average;
  std::size_t count;
  float decay;
  unsigned first_block;  ///< the adam_blocks() of those before it
  bool operator==(const AdamTask&) const = default;
};
unsigned adam_blocks(std::size_t count);
/// A step of all tasks, with one launch. tasks: (count), device. blocks: adam_blocks() of all.
template <class A>
void adamw_step(const AdamTask<A>* tasks, int count, unsigned blocks, const AdamNumbers& numbers,
                Stream stream);

// ---- Muon ---------------------------------------------------------------------------------------

/// A block of columns of a row-major matrix, or its transpose, which is tall or square.
struct MuonPart {
  int rows = 0;     ///< of the matrix
  int columns = 0;  ///< of the part
  int stride = 0;   ///< columns of the matrix
  int first = 0;    ///< the part's first column
  bool operator==(const MuonPart&) const = default;
  bool wide() const { return rows < columns; }
  int large() const { return wide() ? columns : rows; }
  int small() const { return wide() ? rows : columns; }
};
/// m = beta m + (1 - beta) g with g = scale * gradient; update = (1 - beta) g + beta m.
void muon_momentum(float* update, float* m, const float* gradient, float scale, float beta,
                   std::size_t count, Stream stream);
/// x (large, small) = the part of update, turned where it is wide.
void muon_gather(float* x, const float* update, const MuonPart& part, Stream stream);
/// out = x / max(sqrt(*squares), floor).
template <class A>
void muon_normalize(A* out, const float* x, const double* squares, float floor, std::size_t count,
                    Stream stream);
/// out = a I + b gram + c square, (n, n).
template <class A>
void muon_polynomial(A* out, const float* gram, const float* square, int n, float a, float b,
                     float c, Stream stream);
/// parameter's part = keep parameter - step_size x, x (large, small); the average follows.
void muon_apply(float* parameter, float* average, const float* x, const MuonPart& part, float keep,
                float step_size, float average_rate, Stream stream);

// ---- low-rank adapters --------------------------------------------------------------------------

/// out (out_rows, out_columns) = scale * inp (rows, columns), zeros around it.
template <class A>
void widen(A* out, const float* inp, int rows, int columns, int out_rows, int out_columns,
           float scale, Stream stream);
/// out (rows, columns) += the first columns of inp (rows, inp_columns).
void add_block(float* out, const float* inp, int rows, int columns, int inp_columns, Stream stream);

// ---- generation ---------------------------------------------------------------------------------

/// out[r][m] = sum_k inp[r][k] weight[m][k] + bias[m], or GELU of it; weight (M, K) is read once
/// for up to kDecodeRows rows. inp: (rows, K). out: (rows, M) in f32 or A. K is a multiple of 8.
/// bias may be null.
inline constexpr int kDecodeRows = 4;
template <class Out, class A>
void decode_linear(Out* out, const A* inp, const A* weight, const float* bias, bool gelu, int rows,
                   int inputs, int outputs, Stream stream);
/// Where a row's sequence keeps its keys and values, (H, positions, D) each.
template <class A>
struct CachedRow {
  A* keys;
  A* values;
  std::int64_t positions;  ///< of the caches
  std::int64_t row;        ///< of qkv, out and positions
  bool operator==(const CachedRow&) const = default;
};
/// Stores each of `rows` rows' keys and values at its position. qkv: (N, 3C). cached: (rows),
/// positions: (N), device.
template <class A>
void append_to_caches(const CachedRow<A>* cached, const std::int32_t* positions, const A* qkv,
                      int rows, int heads, int head_size, Stream stream);
/// out: (N, C). A row attends to everything up to its position. `appends`: the rows are of
/// different sequences, and each is appended to its caches first; else append_to_caches() has done
/// it. Head size a multiple of 8 up to 128.
template <class A>
void attention_cached(A* out, const A* qkv, const CachedRow<A>* cached,
                      const std::int32_t* positions, int rows, int heads, int head_size,
                      bool appends, Stream stream);

}  // namespace kernels::cuda
