#include "search/adam.h"

#include <cmath>

namespace qvlm {
namespace {

constexpr double kMeanDecay = 0.9, kSquareDecay = 0.999, kSmallest = 1e-8;  // of the paper

}  // namespace

void Adam::step(std::vector<Parameter>& parameters, double rate) {
  auto& [steps, means, squares] = state_;
  if (means.empty()) {
    for (const Parameter& parameter : parameters) {
      means.push_back(at::zeros_like(parameter.gradient));
      squares.push_back(at::zeros_like(parameter.gradient));
    }
  }
  ++steps;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Parameter& parameter = parameters[i];
    means[i] = kMeanDecay * means[i] + (1 - kMeanDecay) * parameter.gradient;
    squares[i] = kSquareDecay * squares[i] + (1 - kSquareDecay) * parameter.gradient.square();
    // Both began at 0 and would be too small at first.
    const at::Tensor mean = means[i] / (1 - std::pow(kMeanDecay, steps));
    const at::Tensor square = squares[i] / (1 - std::pow(kSquareDecay, steps));
    parameter.logarithm = parameter.logarithm - rate * mean / (square.sqrt() + kSmallest);
    if (parameter.is_clip)
      parameter.logarithm = parameter.logarithm.clamp(std::log(kLowestClip), 0.0);
    parameter.gradient = at::zeros_like(parameter.gradient);
  }
}

}  // namespace qvlm
