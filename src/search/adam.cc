#include "search/adam.h"

#include <cmath>

namespace qvlm {
namespace {

constexpr double kMeanDecay = 0.9, kSquareDecay = 0.999, kSmallest = 1e-8;  // of the paper

}  // namespace

void Adam::step(std::vector<Parameter>& parameters, double rate) {
  if (means_.empty()) {
    for (const Parameter& parameter : parameters) {
      means_.push_back(at::zeros_like(parameter.gradient));
      squares_.push_back(at::zeros_like(parameter.gradient));
    }
  }
  ++steps_;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Parameter& parameter = parameters[i];
    means_[i] = kMeanDecay * means_[i] + (1 - kMeanDecay) * parameter.gradient;
    squares_[i] = kSquareDecay * squares_[i] + (1 - kSquareDecay) * parameter.gradient.square();
    // Both began at 0 and would be too small at first.
    const at::Tensor mean = means_[i] / (1 - std::pow(kMeanDecay, steps_));
    const at::Tensor square = squares_[i] / (1 - std::pow(kSquareDecay, steps_));
    parameter.logarithm = parameter.logarithm - rate * mean / (square.sqrt() + kSmallest);
    if (parameter.is_clip)
      parameter.logarithm = parameter.logarithm.clamp(std::log(kLowestClip), 0.0);
    parameter.gradient = at::zeros_like(parameter.gradient);
  }
}

}  // namespace qvlm
