// Adam (Kingma and Ba, 2015) on the parameters of the vision encoder.
#pragma once

#include <utility>
#include <vector>

#include "search/learned_layer.h"

namespace qvlm {

// Clip ratios stay in [kLowestClip, 1].
inline constexpr double kLowestClip = 0.3;

struct AdamState {
  int steps = 0;
  std::vector<at::Tensor> means, squares;  // running, of the gradients; one a parameter
};

class Adam {
 public:
  explicit Adam(AdamState state = {}) : state_(std::move(state)) {}

  // Moves the logarithms against their gradients, keeps clips within their limits and sets the
  // gradients to 0. Always the same parameters.
  void step(std::vector<Parameter>& parameters, double rate);

  const AdamState& state() const { return state_; }

 private:
  AdamState state_;
};

}  // namespace qvlm
