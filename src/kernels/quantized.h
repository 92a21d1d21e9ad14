#pragma once
/// Weights of 8 and 4 bits: how they lie in memory and in files, and how they are made.
///
/// Outputs go in panels of 16, inputs are padded to a multiple of 64; the padding's weights are 0.
///   8 bits  values (panels, depth / 4, 16, 4) u8: four consecutive inputs of an output side by
///   side,
///           q + 128. Then scales (panels, 16) f32.
///   4 bits  values (panels, depth / 32, 4, 64) u8: byte 4 r + j of row v holds output r, inputs
///           8 v + j (low half) and 8 v + 4 + j (high half) of the block, each nibble + 8.
///           Then steps (panels, depth / 32, 16) i8, then scales (panels, 16) f32.
/// Unsigned bytes, since the processors' dot products take one unsigned operand; a panel's bytes
/// are read from first to last by every product, so that memory streams.

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace kernels {

inline constexpr std::int64_t kPanel = 16;       ///< outputs side by side
inline constexpr std::int64_t kDepthUnit = 64;   ///< inputs are padded to a multiple
inline constexpr std::int64_t kStepInputs = 32;  ///< inputs that share a step
inline constexpr int kZeroPoint8 = 128;
inline constexpr int kZeroPoint4 = 8;
inline constexpr int kLargestStep = 15;  ///< 15 times -8 is -120: products fit 8 bits
/// 255 x 127 x this is the largest sum of a dot product that fits 32 bits.
inline constexpr std::int64_t kMaxInputs = 65536;
/// A row of inputs whose largest magnitude lies below counts as zeros: 127 / max stays finite.
inline constexpr float kSmallestInput = 1e-30F;

/// Where the parts of one packed weight lie.
struct QuantizedLayout {
  std::int64_t inputs = 0;
  std::int64_t outputs = 0;
  std::int64_t depth = 0;   ///< inputs, padded
  std::int64_t panels = 0;  ///< of outputs, the last one padded
  bool four_bits = false;
  std::size_t steps = 0;   ///< offset in bytes; unused at 8 bits
  std::size_t scales = 0;  ///< offset in bytes
  std::size_t bytes = 0;   ///< of all

  /// Bytes of the values of one panel.
  std::size_t panel_bytes() const {
    return static_cast<std::size_t>(kPanel * depth) / (four_bits ? 2 : 1);
  }
};

/// The layout of a (K, M) weight: 4 bits for a kInOut weight of kInt4, else 8.
QuantizedLayout quantized_layout(WeightFormat format, std::int64_t inputs, std::int64_t outputs,
                                 WeightOrder order);

/// packed = `source`, (K, M) or (M, K) f32 as `order` says, rounded. The values are finite.
void quantize_weight(std::byte* packed, const QuantizedLayout& layout, const float* source,
                     WeightOrder order);

/// out (inputs) = the weights of one output, as f32: q times the output's scale.
void dequantize_output(float* out, const std::byte* packed, const QuantizedLayout& layout,
                       std::int64_t output);

}  // namespace kernels
