// The definition of a product of codes. Other levels return the same bits: inner sums are integers,
// and the float steps have this order and no fused multiply-add.
#include "kernels/finish.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

// The sum over one step; `weights` points at the first quad of one column.
template <int kBits>
std::int32_t dot_step(const std::uint8_t* weights, const std::int8_t* activations, int zero) {
  std::int32_t sum = 0;
  for (int k = 0; k < 4; ++k) {
    const int first = kBits == 4 ? weights[k] & 0x0f : weights[k];
    const int second = kBits == 4 ? weights[k] >> 4 : weights[kQuadBytes + k];
    sum += activations[k] * (first - zero) + activations[4 + k] * (second - zero);
  }
  return sum;
}

template <int kBits>
float product(const IntegerArguments& a, std::int64_t row, std::int64_t column) {
  constexpr std::int64_t kStepBytes = kBits == 4 ? kStepBytes4 : kStepBytes8;
  const WeightArguments& w = a.weights;
  const std::int64_t panel = column / kPanel;
  const std::int64_t lane = column % kPanel;
  const std::uint8_t* weights = w.codes + panel * w.steps * kStepBytes + lane * 4;
  const std::int8_t* activations = a.activations + row * a.activation_stride;
  float sum = 0.0f;
  for (std::int64_t group = 0; group < w.groups; ++group) {
    const std::int64_t place = (panel * w.groups + group) * kPanel + lane;
    const int zero = (1 << (kBits - 1)) + (w.zero_points == nullptr ? 0 : w.zero_points[place]);
    const std::int64_t first = group * w.group_steps;
    const std::int64_t last = first + w.group_steps < w.steps ? first + w.group_steps : w.steps;
    std::int32_t whole = 0;
    for (std::int64_t step = first; step < last; ++step) {
      whole += dot_step<kBits>(weights + step * kStepBytes, activations + step * kStep, zero);
    }
    sum += static_cast<float>(whole) * w.scales[place];
  }
  return sum * a.activation_scales[row];
}

template <int kBits>
void matmul(const IntegerArguments& a) {
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

const IntegerKernels kScalarInteger = {matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
