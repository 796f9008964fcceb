// Adam (Kingma and Ba, 2015) on the parameters of the vision encoder.
#pragma once

#include <vector>

#include "search/learned_layer.h"

namespace qvlm {

// Clip ratios stay in [kLowestClip, 1].
inline constexpr double kLowestClip = 0.3;

class Adam {
 public:
  // Moves the logarithms against their gradients, keeps clips within their limits and sets the
  // gradients to 0. Always the same parameters.
  void step(std::vector<Parameter>& parameters, double rate);

 private:
  int steps_ = 0;
  std::vector<at::Tensor> means_, squares_;  // running, of the gradients
};

}  // namespace qvlm
