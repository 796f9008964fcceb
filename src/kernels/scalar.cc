// The definition of the result. Other levels return the same bits: sums are integers, and the float
// steps have this order and no fused multiply-add.
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

// A row with a NaN or an infinity gets scale NaN and codes 0, so that its outputs are NaN. A row
// whose scale is 0 (all zero, or too small for float32) gets scale 1.
void quantize_row(const float* values,
                  std::int64_t in,
                  float clip_ratio,
                  float half_range,
                  float low,
                  float high,
                  std::int8_t* codes,
                  float* scale) {
  // Magnitudes compare as integers, and NaN and infinity are above all others.
  std::int32_t largest = 0;
  for (std::int64_t k = 0; k < in; ++k) {
    const std::int32_t magnitude = __builtin_bit_cast(std::int32_t, values[k]) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  if (largest >= 0x7f800000) {
    for (std::int64_t k = 0; k < in; ++k) {
      codes[k] = 0;
    }
    *scale = __builtin_nanf("");
    return;
  }
  float step = clip_ratio * __builtin_bit_cast(float, largest) / half_range;
  if (step == 0.0f) step = 1.0f;
  for (std::int64_t k = 0; k < in; ++k) {
    float value = values[k] / step;  // a division: a product with 1 / step rounds differently
    value = value < low ? low : value;
    value = value > high ? high : value;
    // Adding 1.5 * 2^23 leaves no bits for a fraction: this rounds half to even. Clamping first
    // gives the same, as the limits are whole.
    const float rounded = (value + 12582912.0f) - 12582912.0f;
    codes[k] = static_cast<std::int8_t>(rounded);
  }
  *scale = step;
}

void group_sums(const std::int8_t* codes,
                std::int64_t rows,
                std::int64_t steps,
                std::int64_t group_steps,
                std::int32_t* sums) {
  for (std::int64_t row = 0; row < rows; ++row, codes += steps * kStep) {
    for (std::int64_t step = 0; step < steps; step += group_steps) {
      const std::int64_t last = step + group_steps < steps ? step + group_steps : steps;
      std::int32_t sum = 0;
      for (std::int64_t k = step * kStep; k < last * kStep; ++k) {
        sum += codes[k];
      }
      *sums++ = sum;
    }
  }
}

// The sum over one step; `weights` points at the first quad of one column.
template <int kBits>
std::int32_t dot_step(const std::uint8_t* weights, const std::int8_t* activations) {
  std::int32_t sum = 0;
  for (int k = 0; k < 4; ++k) {
    const int first = kBits == 4 ? weights[k] & 0x0f : weights[k];
    const int second = kBits == 4 ? weights[k] >> 4 : weights[kQuadBytes + k];
    constexpr int kZero = 1 << (kBits - 1);
    sum += activations[k] * (first - kZero) + activations[4 + k] * (second - kZero);
  }
  return sum;
}

template <int kBits>
float output(const MatmulArguments& a, std::int64_t row, std::int64_t column) {
  constexpr std::int64_t kStepBytes = kBits == 4 ? kStepBytes4 : kStepBytes8;
  const std::int64_t panel = column / kPanel;
  const std::int64_t lane = column % kPanel;
  const std::uint8_t* weights = a.codes + panel * a.steps * kStepBytes + lane * 4;
  const std::int8_t* activations = a.activations + row * a.steps * kStep;
  const float* scales = a.scales + panel * a.groups * kPanel + lane;
  float sum = 0.0f;
  for (std::int64_t group = 0; group < a.groups; ++group) {
    const std::int64_t first = group * a.group_steps;
    const std::int64_t last = first + a.group_steps < a.steps ? first + a.group_steps : a.steps;
    std::int32_t whole = 0;
    for (std::int64_t step = first; step < last; ++step) {
      whole += dot_step<kBits>(weights + step * kStepBytes, activations + step * kStep);
    }
    sum += static_cast<float>(whole) * scales[group * kPanel];
  }
  sum *= a.activation_scales[row];
  return a.bias == nullptr ? sum : sum + a.bias[column];
}

template <int kBits>
void matmul(const MatmulArguments& a) {
  for (std::int64_t column = a.begin; column < a.end; ++column) {
    for (std::int64_t row = 0; row < a.rows; ++row) {
      a.out[row * a.stride + column] = output<kBits>(a, row, column);
    }
  }
}

}  // namespace

const KernelTable kScalarTable = {"scalar", quantize_row, group_sums, matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
