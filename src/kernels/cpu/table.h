#pragma once
/// The vectorised kernels as plain functions behind a table, one table per instruction set.
///
/// Law: a kernel runs on one thread over a part of its rows; threads, scratch memory and the order
/// in which parts are added belong to backend.cpp. The objects behind the tables are compiled for
/// processors that the program may not run on, so they include no inline code of others and export
/// nothing but their table (tests/kernels/symbols_test.sh).
///
/// `void*` operands have the storage type A of the TypedKernels they are in: float or bf16.

#include <cstdint>

#include "kernels/cpu/after.h"
#include "kernels/cpu/panels.h"

namespace kernels::cpu {

/// Dropout of rows (kernels.h): an element is kept where its bits reach `threshold`.
struct RowMask {
  /// Of the rows that a kernel is called for, from its `begin` on; null: everything is kept.
  const std::uint64_t* keys = nullptr;
  std::uint32_t threshold = 0;
  float scale = 1;
};

/// Dropout of a head's probabilities: a row for each query, an element for each key.
struct HeadMask {
  /// The halves of the rows' keys, one for each query and as many more as fill up kHeadMaskQueries;
  /// null: everything is kept.
  const std::uint32_t* low = nullptr;
  const std::uint32_t* high = nullptr;
  std::uint32_t threshold = 0;
  float scale = 1;
};
/// The number of a HeadMask's rows is a multiple of this.
inline constexpr std::int64_t kHeadMaskQueries = 64;

/// add_layernorm_forward over rows of `channels`. branch may be null; then res_out == res_in.
struct LayerNormForward {
  float* res_out;
  void* normed;
  float* mean;
  float* rstd;
  const float* res_in;
  const void* branch;
  const float* gain;
  const float* bias;
  std::int64_t channels;
  float epsilon;
  RowMask mask;  ///< of branch
};

/// add_layernorm_backward. dres_copy may be null.
struct LayerNormBackward {
  float* dres;
  void* dres_copy;
  const void* dnormed;
  const float* res;
  const float* mean;
  const float* rstd;
  const float* gain;
  std::int64_t channels;
  RowMask mask;  ///< of dres_copy
};

/// Causal attention of one head. Query row i sees keys 0 .. first_position + i.
struct AttentionForward {
  void* out;
  float* lse;  ///< (queries), or null
  const void* q;
  const void* k;
  const void* v;
  std::int64_t out_stride;  ///< elements from row to row
  std::int64_t q_stride;
  std::int64_t kv_stride;
  std::int64_t queries;
  std::int64_t keys;  ///< first_position + queries
  std::int64_t first_position;
  std::int64_t head_size;
  HeadMask mask;
};

/// Gradient of causal attention of one head; queries == keys == length.
struct AttentionBackward {
  void* dq;
  void* dk;
  void* dv;
  const void* q;
  const void* k;
  const void* v;
  const void* out;
  const void* dout;
  const float* lse;
  std::int64_t qkv_stride;
  std::int64_t out_stride;
  std::int64_t length;
  std::int64_t head_size;
  HeadMask mask;
};

/// c (m, n) = or += a (m, k) b (k, n) + bias, any strides.
struct Product {
  void* c;
  const void* a;
  const void* b;
  const float* bias;  ///< (n), or null
  std::int64_t m;
  std::int64_t n;
  std::int64_t k;
  std::int64_t a_row_stride;
  std::int64_t a_column_stride;
  bool c_is_f32;    ///< otherwise of type A
  bool accumulate;  ///< f32 only
};

/// Sizes of the parts of a Product that product_part() computes at a time.
inline constexpr std::int64_t kProductRows = 96;
inline constexpr std::int64_t kProductColumns = 256;
inline constexpr std::int64_t kProductDepth = 256;
/// Floats of scratch that product_part() needs: panels of a and b, and the part of c.
inline constexpr std::int64_t kProductScratch =
    kProductRows * kProductDepth + kProductDepth * kProductColumns + kProductRows * kProductColumns;

/// Softmax, loss and gradient of rows of f32 logits. The loss is the cross entropy, the gradient
/// that of what label_smoothing and z_loss make of it (kernels.h's LossOptions).
struct SoftmaxLoss {
  const float* logits;  ///< (rows, stride)
  void* dlogits;        ///< (rows, stride) A = scale * dloss/dlogits, may be logits; or null
  float* losses;
  const std::int32_t* targets;
  std::int64_t vocab;
  std::int64_t stride;  ///< padded vocabulary; the padding's gradient is 0
  float scale;
  float label_smoothing;
  float z_loss;
};

struct AdamWStep {
  float* parameter;
  float* m;
  float* v;
  const float* gradient;
  float gradient_scale;
  float beta1;
  float beta2;
  float keep;                ///< 1 - learning_rate * weight_decay
  float step_size;           ///< learning_rate / (1 - beta1^step)
  float inverse_root_bias2;  ///< 1 / sqrt(1 - beta2^step)
  float epsilon;
  float* average;      ///< or null
  float average_rate;  ///< 1 - its decay
};

/// m = beta m + (1-beta) g; update = (1-beta) g + beta m.
struct MuonMomentum {
  float* update;
  float* m;
  const float* gradient;
  float gradient_scale;
  float beta;
};

/// p = keep p - step_size update; average += average_rate (p - average).
struct MuonUpdate {
  float* parameter;
  const float* update;
  float keep;  ///< 1 - learning_rate * weight_decay
  float step_size;
  float* average;  ///< or null
  float average_rate;
};

/// Attention over whole sequences, by head.
struct AttentionKernels {
  void (*forward)(const AttentionForward& op, float* scratch);
  void (*backward)(const AttentionBackward& op, float* scratch);
  /// Floats of scratch of either, aligned to 64 bytes.
  std::int64_t (*forward_scratch)(std::int64_t keys, std::int64_t head_size);
  std::int64_t (*backward_scratch)(std::int64_t length, std::int64_t head_size);
};

/// Kernels whose operands are stored as A.
struct TypedKernels {
  void (*layernorm_forward)(const LayerNormForward& op, std::int64_t begin, std::int64_t end);
  /// sums: (2, channels), overwritten with this part's share of dgain and dbias.
  void (*layernorm_backward)(const LayerNormBackward& op, std::int64_t begin, std::int64_t end,
                             float* sums);
  /// out[i] = GELU(pre[i]); out may be pre.
  void (*gelu_forward)(void* out, const void* pre, std::int64_t begin, std::int64_t end);
  /// grad[i] *= GELU'(pre[i]).
  void (*gelu_backward)(void* grad, const void* pre, std::int64_t begin, std::int64_t end);
  /// sums (columns) = sum of rows [begin, end) of x.
  void (*column_sums)(float* sums, const void* x, std::int64_t columns, std::int64_t begin,
                      std::int64_t end);
  AttentionKernels attention;
  /// One query row; scratch: keys floats.
  void (*attention_row)(const AttentionForward& op, std::int64_t row, float* scratch);
  void (*softmax_loss)(const SoftmaxLoss& op, std::int64_t begin, std::int64_t end);
  /// Columns [n_begin, n_end) of rows [m_begin, m_end), at most kProductRows x kProductColumns.
  void (*product_part)(const Product& op, std::int64_t m_begin, std::int64_t m_end,
                       std::int64_t n_begin, std::int64_t n_end, float* scratch);
  /// out (columns, rows) A = transpose of inp (rows, columns) f32, for rows [begin, end).
  void (*transpose_to)(void* out, const float* inp, std::int64_t rows, std::int64_t columns,
                       std::int64_t begin, std::int64_t end);
  /// out A = inp f32, elements [begin, end).
  void (*convert_to)(void* out, const float* inp, std::int64_t begin, std::int64_t end);
};

struct KernelTable {
  const char* name;
  TypedKernels f32;
  TypedKernels bf16;
  PanelKernels f32_panels;
  PanelKernels bf16_panels;
  /// out = a + b.
  void (*add)(float* out, const float* a, const float* b, std::int64_t count);
  /// out += a.
  void (*accumulate)(float* out, const float* a, std::int64_t count);
  /// out = inp through dropout: elements [first, first + count) of the row with mask.keys[0]. out
  /// may be inp.
  void (*drop)(float* out, const float* inp, std::int64_t first, std::int64_t count,
               const RowMask& mask);
  double (*sum_of_squares)(const float* values, std::int64_t count);
  void (*adamw)(const AdamWStep& op, std::int64_t begin, std::int64_t end);
  void (*muon_momentum)(const MuonMomentum& op, std::int64_t count);
  void (*muon_update)(const MuonUpdate& op, std::int64_t count);
  /// values *= factor.
  void (*scale_by)(float* values, float factor, std::int64_t count);
};

extern const KernelTable kGenericTable;
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512Table;
extern const KernelTable kAvx512Bf16Table;
extern const AttentionKernels kAmxAttentionTable;  ///< bf16

}  // namespace kernels::cpu
