#pragma once
/// Products of rounded rows with weights of 8 and 4 bits as plain functions behind a table, one
/// table per instruction set. The law of table.h holds here too.

#include <cstdint>

namespace kernels::cpu {

/// Rows of bf16 rounded to integers, as WeightFormat says.
struct RoundedRows {
  const void* inp;           ///< (rows, inputs) bf16
  std::int8_t* values;       ///< (rows up to a multiple of kRowUnit, depth), padded with zeros
  float* scales;             ///< (rows)
  std::int32_t* sums;        ///< (rows): of the row's values
  std::int32_t* block_sums;  ///< (rows, depth / 32): of each 32 values; null: not wanted
  std::int64_t inputs;
  std::int64_t depth;  ///< inputs up to a multiple of 64
};

/// c (rows, outputs) = after(rounded rows times weights + bias); layouts as in quantized.h.
struct IntegerProduct {
  void* c;            ///< bf16 or f32
  void* pre;          ///< bf16: the values before GELU; or null
  const float* bias;  ///< (outputs), or null
  const std::int8_t* rows;
  const float* row_scales;
  const std::int32_t* row_sums;
  const std::int32_t* block_sums;
  const std::uint8_t* values;
  const std::int8_t* steps;  ///< null: 8 bits
  const float* scales;
  std::int64_t outputs;
  std::int64_t depth;
  bool c_is_f32;
  bool gelu;
};

/// Memory for rounded rows goes up to a multiple: tiles read whole.
inline constexpr std::int64_t kRowUnit = 32;
/// Up to this many rows weights are read once, as they come from memory.
inline constexpr std::int64_t kStreamRows = 16;

/// Scratch bytes of one thread for multiply(): two panels as bytes, and sums.
inline constexpr std::int64_t integer_scratch(std::int64_t depth) {
  return 2 * 16 * depth + 2 * kRowUnit * 32 * 4;
}

struct IntegerTable {
  const char* name;
  /// Rows [begin, end) of `op`.
  void (*round_rows)(const RoundedRows& op, std::int64_t begin, std::int64_t end);
  /// Rows [row_begin, row_end) and panels [panel_begin, panel_end) of c; row_begin is a multiple of
  /// kRowUnit. scratch: integer_scratch(depth) bytes on a cache line.
  void (*multiply)(const IntegerProduct& op, std::int64_t row_begin, std::int64_t row_end,
                   std::int64_t panel_begin, std::int64_t panel_end, void* scratch);
};

extern const IntegerTable kIntegerGenericTable;
extern const IntegerTable kIntegerAvx2Table;
extern const IntegerTable kIntegerAvx512Table;
extern const IntegerTable kIntegerVnniTable;
extern const IntegerTable kIntegerAmxTable;

}  // namespace kernels::cpu
