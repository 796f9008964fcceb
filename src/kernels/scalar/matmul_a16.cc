// The definition of a product of codes with bfloat16 numbers. Codes less their zero are whole
// numbers of at most 8 bits, so each product is exact in float32; other levels add them in another
// order and stay within the bound of tests/kernels/matmul_a16_test.cc.
#include "kernels/finish.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

float to_float(std::uint16_t bf16) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bf16) << 16);
}

// Where the activation of input k of a step lies: they are stored in the order 0 2 4 6 1 3 5 7.
constexpr int kPlace[kStep] = {0, 4, 1, 5, 2, 6, 3, 7};

template <int kBits>
float dot_step(const std::uint8_t* weights, const std::uint16_t* activations) {
  constexpr int kZero = 1 << (kBits - 1);
  float sum = 0.0f;
  for (int k = 0; k < 4; ++k) {
    const int first = kBits == 4 ? weights[k] & 0x0f : weights[k];
    const int second = kBits == 4 ? weights[k] >> 4 : weights[kQuadBytes + k];
    sum += to_float(activations[kPlace[k]]) * static_cast<float>(first - kZero);
    sum += to_float(activations[kPlace[4 + k]]) * static_cast<float>(second - kZero);
  }
  return sum;
}

template <int kBits>
float product(const Bf16Arguments& a, std::int64_t row, std::int64_t column) {
  constexpr std::int64_t kStepBytes = kBits == 4 ? kStepBytes4 : kStepBytes8;
  const WeightArguments& w = a.weights;
  const std::int64_t panel = column / kPanel;
  const std::int64_t lane = column % kPanel;
  const std::uint8_t* weights = w.codes + panel * w.steps * kStepBytes + lane * 4;
  const std::uint16_t* activations = a.activations + row * a.activation_stride;
  float sum = 0.0f;
  for (std::int64_t group = 0; group < w.groups; ++group) {
    const std::int64_t place = (panel * w.groups + group) * kPanel + lane;
    const std::int64_t first = group * w.group_steps;
    const std::int64_t last = first + w.group_steps < w.steps ? first + w.group_steps : w.steps;
    float part = 0.0f;
    for (std::int64_t step = first; step < last; ++step) {
      part += dot_step<kBits>(weights + step * kStepBytes, activations + step * kStep);
    }
    if (w.zero_points != nullptr) {
      part -= static_cast<float>(w.zero_points[place]) * a.activation_sums[row * w.groups + group];
    }
    sum += part * w.scales[place];
  }
  return sum;
}

template <int kBits>
void matmul(const Bf16Arguments& a) {
  for (std::int64_t panel = a.finish.begin / kPanel; panel * kPanel < a.finish.end; ++panel) {
    for (std::int64_t row = 0; row < a.rows; ++row) {
      float sums[kPanel];
      for (std::int64_t lane = 0; lane < kPanel; ++lane) {
        sums[lane] = product<kBits>(a, row, panel * kPanel + lane);
      }
      finish_row(a.finish, row, panel, sums);
    }
  }
}

}  // namespace

const Bf16Kernels kScalarBf16 = {matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
