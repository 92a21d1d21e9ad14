#pragma once
/// Loops that do nothing but arithmetic on registers, or nothing but read memory: what bounds every
/// kernel. One table per instruction set, under the law of table.h: its objects are compiled for
/// processors that the program may not run on, and export nothing but their table.

#include <cstdint>

namespace kernels::cpu {

/// One kind of arithmetic. `run(rounds)` does `operations` additions and multiplications a round.
struct ArithmeticLoop {
  void (*run)(std::int64_t rounds) = nullptr;  ///< null: these instructions have none of it
  double operations = 0;
};

/// What one instruction set offers beside those below it.
struct LimitsTable {
  ArithmeticLoop f32;
  ArithmeticLoop bf16;
  ArithmeticLoop int8;
  /// Reads `bytes` bytes, a multiple of 1024, from an address aligned to 64. Null: as below it.
  void (*read)(const void* data, std::int64_t bytes) = nullptr;
};

extern const LimitsTable kLimitsGenericTable;
extern const LimitsTable kLimitsAvx2Table;
extern const LimitsTable kLimitsAvx512Table;
extern const LimitsTable kLimitsVnniTable;
extern const LimitsTable kLimitsAvx512Bf16Table;
extern const LimitsTable kLimitsAmxTable;

}  // namespace kernels::cpu
