// Rounding weights to 8 and 4 bits, and back. Law: plain C++ without a choice of instruction set,
// so that a packed weight has the same bytes wherever it was made.

#include "kernels/quantized.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"

namespace kernels {
namespace {

std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Rounds to the nearest integer, ties to even, for |value| < 2^22; vectorises, unlike nearbyint.
float rounded(float value) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23
  return (value + kMagic) - kMagic;
}

/// rows (kPanel, depth) = the weights of a panel's outputs, zeros where there are none.
void gather_panel(float* rows, const QuantizedLayout& layout, const float* source,
                  WeightOrder order, std::int64_t panel) {
  std::fill_n(rows, kPanel * layout.depth, 0.0F);
  const std::int64_t first = panel * kPanel;
  const std::int64_t count = std::min(kPanel, layout.outputs - first);
  if (order == WeightOrder::kOutIn) {
    for (std::int64_t r = 0; r < count; ++r) {
      std::copy_n(source + (first + r) * layout.inputs, layout.inputs, rows + r * layout.depth);
    }
    return;
  }
  for (std::int64_t k = 0; k < layout.inputs; ++k) {
    for (std::int64_t r = 0; r < count; ++r) {
      rows[r * layout.depth + k] = source[k * layout.outputs + first + r];
    }
  }
}

float largest_magnitude(const float* values, std::int64_t count) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

// ---- 8 bits -----------------------------------------------------------------------------------

/// One output's row into its place in the panel; returns its scale.
float quantize_row8(std::uint8_t* panel, const float* row, std::int64_t depth, std::int64_t r) {
  const float largest = largest_magnitude(row, depth);
  const float scale = largest / 127.0F;
  // A scale that is 0 or subnormal cannot be divided by: such a row is zeros.
  const float inverse = scale < 1e-37F ? 0.0F : 127.0F / largest;
  for (std::int64_t k = 0; k < depth; ++k) {
    const auto q = static_cast<int>(rounded(row[k] * inverse));
    panel[k / 4 * 4 * kPanel + r * 4 + k % 4] = static_cast<std::uint8_t>(q + kZeroPoint8);
  }
  return inverse == 0.0F ? 0.0F : scale;
}

// ---- 4 bits -----------------------------------------------------------------------------------

/// The nibble that `value` becomes, without its zero point, when one step is 1 / inverse.
float nibble_of(float value, float inverse) {
  return std::min(7.0F, std::max(-8.0F, rounded(value * inverse)));
}

/// Squared error of a block whose nibbles count in steps of `unit`.
float block_error(const float* values, float unit) {
  const float inverse = 1.0F / unit;
  float error = 0;
  for (std::int64_t i = 0; i < kStepInputs; ++i) {
    const float distance = values[i] - unit * nibble_of(values[i], inverse);
    error += distance * distance;
  }
  return error;
}

/// The step in [-15, 15] with the least error; 0 for zeros. Negative steps put -8, the nibble that
/// has no opposite, on the other side.
int best_step(const float* values, float scale) {
  const float largest = largest_magnitude(values, kStepInputs);
  if (largest == 0.0F) return 0;
  const float ideal = largest / (8.0F * scale);  // the largest magnitude becomes 8 steps
  const int low = std::clamp(static_cast<int>(0.7F * ideal), 1, kLargestStep);
  const int high = std::clamp(static_cast<int>(1.15F * ideal) + 1, 1, kLargestStep);
  int best = 0;
  float least = 0;
  for (int step = low; step <= high; ++step) {
    for (const int signed_step : {step, -step}) {
      const float error = block_error(values, scale * static_cast<float>(signed_step));
      if (best != 0 && error >= least) continue;
      best = signed_step;
      least = error;
    }
  }
  return best;
}

/// steps[b * kPanel] = the best step of each block of a row when nibbles count in multiples of
/// `scale`; returns the squared error.
float choose_steps(std::int8_t* steps, const float* row, std::int64_t depth, float scale) {
  float error = 0;
  for (std::int64_t block = 0; block < depth / kStepInputs; ++block) {
    const float* values = row + block * kStepInputs;
    const int step = best_step(values, scale);
    steps[block * kPanel] = static_cast<std::int8_t>(step);
    if (step != 0) error += block_error(values, scale * static_cast<float>(step));
  }
  return error;
}

/// As quantize_row8(); `steps` is the panel's.
float quantize_row4(std::uint8_t* panel, std::int8_t* steps, const float* row, std::int64_t depth,
                    std::int64_t r) {
  const float largest = largest_magnitude(row, depth);
  steps += r;
  // The largest step takes the largest magnitude to 8 nibbles where all of that size lie on one
  // side, to 7.5 where they lie on both.
  float scale = largest / (8.0F * static_cast<float>(kLargestStep));
  if (scale < 1e-37F) {
    scale = 0.0F;
    for (std::int64_t block = 0; block < depth / kStepInputs; ++block) steps[block * kPanel] = 0;
  } else {
    const float wide = largest / (7.5F * static_cast<float>(kLargestStep));
    const float error = choose_steps(steps, row, depth, wide);
    if (choose_steps(steps, row, depth, scale) > error) {
      scale = wide;
      choose_steps(steps, row, depth, scale);
    }
  }
  for (std::int64_t block = 0; block < depth / kStepInputs; ++block) {
    const float* values = row + block * kStepInputs;
    const int step = steps[block * kPanel];
    const float inverse = step == 0 ? 0.0F : 1.0F / (scale * static_cast<float>(step));
    std::uint8_t* bytes = panel + block * kStepInputs / 2 * kPanel + 4 * r;
    for (std::int64_t v = 0; v < 4; ++v) {
      for (std::int64_t j = 0; j < 4; ++j) {
        const auto low = static_cast<int>(nibble_of(values[8 * v + j], inverse)) + kZeroPoint4;
        const auto high = static_cast<int>(nibble_of(values[8 * v + 4 + j], inverse)) + kZeroPoint4;
        bytes[v * 4 * kPanel + j] = static_cast<std::uint8_t>(low + 16 * high);
      }
    }
  }
  return scale;
}

int value4(const std::uint8_t* panel, const std::int8_t* steps, std::int64_t k, std::int64_t r) {
  const std::int64_t block = k / kStepInputs;
  const std::int64_t i = k % kStepInputs;
  const int byte = panel[block * kStepInputs / 2 * kPanel + i / 8 * 4 * kPanel + 4 * r + i % 4];
  const int nibble = i % 8 < 4 ? byte & 15 : byte >> 4;
  return steps[block * kPanel + r] * (nibble - kZeroPoint4);
}

}  // namespace

QuantizedLayout quantized_layout(WeightFormat format, std::int64_t inputs, std::int64_t outputs,
                                 WeightOrder order) {
  QuantizedLayout layout;
  layout.inputs = inputs;
  layout.outputs = outputs;
  layout.depth = round_up(inputs, kDepthUnit);
  layout.panels = round_up(outputs, kPanel) / kPanel;
  layout.four_bits = format == WeightFormat::kInt4 && order == WeightOrder::kInOut;
  layout.steps = static_cast<std::size_t>(layout.panels) * layout.panel_bytes();
  const std::int64_t steps =
      layout.four_bits ? layout.panels * kPanel * layout.depth / kStepInputs : 0;
  layout.scales = layout.steps + static_cast<std::size_t>(steps);
  layout.bytes = layout.scales + static_cast<std::size_t>(layout.panels * kPanel) * sizeof(float);
  return layout;
}

void quantize_weight(std::byte* packed, const QuantizedLayout& layout, const float* source,
                     WeightOrder order) {
  auto* scales = reinterpret_cast<float*>(packed + layout.scales);
  base::parallel_ranges(layout.panels, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> rows(static_cast<std::size_t>(kPanel * layout.depth));
    for (std::int64_t panel = begin; panel < end; ++panel) {
      gather_panel(rows.data(), layout, source, order, panel);
      auto* values = reinterpret_cast<std::uint8_t*>(packed) +
                     static_cast<std::size_t>(panel) * layout.panel_bytes();
      auto* steps = reinterpret_cast<std::int8_t*>(packed + layout.steps) +
                    panel * kPanel * layout.depth / kStepInputs;
      for (std::int64_t r = 0; r < kPanel; ++r) {
        const float* row = rows.data() + r * layout.depth;
        scales[panel * kPanel + r] = layout.four_bits
                                         ? quantize_row4(values, steps, row, layout.depth, r)
                                         : quantize_row8(values, row, layout.depth, r);
      }
    }
  });
}

void dequantize_output(float* out, const std::byte* packed, const QuantizedLayout& layout,
                       std::int64_t output) {
  const std::int64_t panel = output / kPanel;
  const std::int64_t r = output % kPanel;
  const float scale = reinterpret_cast<const float*>(packed + layout.scales)[output];
  const auto* values = reinterpret_cast<const std::uint8_t*>(packed) +
                       static_cast<std::size_t>(panel) * layout.panel_bytes();
  if (layout.four_bits) {
    const auto* steps = reinterpret_cast<const std::int8_t*>(packed + layout.steps) +
                        panel * kPanel * layout.depth / kStepInputs;
    for (std::int64_t k = 0; k < layout.inputs; ++k) {
      out[k] = scale * static_cast<float>(value4(values, steps, k, r));
    }
    return;
  }
  for (std::int64_t k = 0; k < layout.inputs; ++k) {
    const int value = values[k / 4 * 4 * kPanel + r * 4 + k % 4] - kZeroPoint8;
    out[k] = scale * static_cast<float>(value);
  }
}

// ---- the door ---------------------------------------------------------------------------------

std::string_view name_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return "fp32";
    case WeightFormat::kBf16:
      return "bf16";
    case WeightFormat::kInt8:
      return "int8";
    case WeightFormat::kInt4:
      return "int4";
  }
  return "?";
}

std::vector<PackedPart> packed_parts(WeightFormat format, std::int64_t inputs, std::int64_t outputs,
                                     WeightOrder order) {
  if (!is_integer(format)) {
    base::fail("packed_parts: expected int8 or int4, got {}; other formats have no fixed layout",
               name_of(format));
  }
  if (inputs < 1 || outputs < 1 || inputs > kMaxInputs) {
    base::fail("packed_parts: expected 1 to {} inputs and 1 or more outputs, got {} and {}",
               kMaxInputs, inputs, outputs);
  }
  const QuantizedLayout layout = quantized_layout(format, inputs, outputs, order);
  const Shape scales{layout.panels, kPanel};
  if (!layout.four_bits) {
    return {{"", DType::kU8, {layout.panels, layout.depth / 4, kPanel, 4}, 0},
            {".scale", DType::kF32, scales, layout.scales}};
  }
  const std::int64_t blocks = layout.depth / kStepInputs;
  return {{"", DType::kU8, {layout.panels, blocks, 4, 4 * kPanel}, 0},
          {".step", DType::kI8, {layout.panels, blocks, kPanel}, layout.steps},
          {".scale", DType::kF32, scales, layout.scales}};
}

void check_packed(WeightFormat format, const PackedWeight& weight, std::string_view name) {
  const QuantizedLayout layout =
      quantized_layout(format, weight.inputs, weight.outputs, weight.order);
  const auto* scales = reinterpret_cast<const float*>(weight.forward + layout.scales);
  for (std::int64_t i = 0; i < layout.panels * kPanel; ++i) {
    if (std::isfinite(scales[i]) && scales[i] >= 0) continue;
    base::fail("{}: scale[{}]: expected a finite number, 0 or more, got {}; quantize again", name,
               i, scales[i]);
  }
  const auto* steps = reinterpret_cast<const std::int8_t*>(weight.forward + layout.steps);
  const auto count = static_cast<std::int64_t>(layout.scales - layout.steps);
  for (std::int64_t i = 0; i < count; ++i) {
    if (steps[i] >= -kLargestStep && steps[i] <= kLargestStep) continue;
    base::fail("{}: step[{}]: expected {} to {}, got {}; quantize again", name, i, -kLargestStep,
               kLargestStep, int{steps[i]});
  }
}

}  // namespace kernels
