// Second moments of the inputs of a linear: mean of x x^T over tokens. By them the error at the
// linear's output follows from the error of its weight.
#pragma once

#include "tensor/tensor.h"

namespace qvlm {

class SecondMoment {
 public:
  // x: [tokens, in] float32. weights: what each token counts, [tokens]; undefined: 1. Throws
  // kCorrupt for values that are not finite; nothing is added then. Uses all threads; the numbers
  // do not depend on how many there are.
  void add(const at::Tensor& x, const at::Tensor& weights = {});
  // The mean [in, in] float64. Throws kInvalidArgument where nothing, or nothing of weight, was
  // added.
  at::Tensor matrix() const;

 private:
  at::Tensor sum_;  // [in, in] float64, as sums of many samples outgrow float32; the lower triangle
  double weight_ = 0.0;
};

}  // namespace qvlm
