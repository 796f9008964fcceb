// Which grid the entropy of a residual stream is counted on: 16 levels over its L_p start range,
// whatever bits the recipe asks for. One choice for the planner's dependencies and for the gradient
// search of the vision encoder; what is counted on the grid is calib/entropy.h.
#pragma once

#include <vector>

#include "calib/entropy.h"
#include "tensor/tensor.h"

namespace qvlm {

// The grid of a unit's outputs [tokens, hidden], one tensor a sample; step 1 where all are zero.
// Throws what InputStatistics does.
EntropyGrid make_entropy_grid(const std::vector<at::Tensor>& states, double tau);

}  // namespace qvlm
