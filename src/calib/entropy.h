// The dependency measure of Q-VLM (equation 5): conditional entropy of the quantized activations of
// neighbouring units on the residual stream, per element, so that neither the length of a prompt
// nor the scale of the activations changes it. One formula for the planner's numbers and, as it is
// differentiable, for the gradient search of the vision encoder. Choices beyond the paper:
// docs/method.md. Grids come from the ranges of calib/statistics.h.
//
// Values are float32 or float64. All throw kInvalidArgument for another type or shape, or a step or
// tau that is not positive; kCorrupt for values that are not finite.
#pragma once

#include "tensor/tensor.h"

namespace qvlm {

// The codes that entropies are counted with: 16 levels, -8 .. 7 times `step`.
struct EntropyGrid {
  double step = 1.0;  // 2 / 15 of the range that is to be covered on either side
  double tau = 0.25;  // weights fall as exp(-distance^2 / (tau * step^2))
};

inline constexpr int kEntropyLevels = 16;

// Soft codes [n, 16] of values [n], of their type: weights that sum to 1; levels more than 3 from
// the nearest one get none.
at::Tensor soft_codes(const at::Tensor& values, const EntropyGrid& grid);

// The joint table [16, 16], float64, of two sets of values [n], n > 0, of one type: the mean of
// soft(a)[i] * soft(b)[j]. Sums to 1. Differentiable in both; where no gradient is needed, memory
// does not grow with n, and the result does not depend on the number of threads.
at::Tensor joint_table(const at::Tensor& a,
                       const EntropyGrid& grid_a,
                       const at::Tensor& b,
                       const EntropyGrid& grid_b);

// H(b | a) = -sum P_ab log(P_ab / sum_b' P_ab'), natural logarithm, of a joint table; a scalar
// tensor, differentiable.
at::Tensor conditional_entropy(const at::Tensor& table);

// The share of values whose nearest level is the most frequent one: near 1 where outliers have
// collapsed the codes into one level and the entropy says nothing.
double largest_level_share(const at::Tensor& values, const EntropyGrid& grid);

}  // namespace qvlm
