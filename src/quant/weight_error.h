// How far a quantized weight is from the one it was made of: the number in reports, in qvlm.json
// and of `qvlm verify --against`.
#pragma once

#include "tensor/tensor.h"

namespace qvlm {

// |reals - weight|^2 / |weight|^2 of two float32 tensors [out, in]; 0 where the weight is. The sums
// do not depend on the number of threads. Throws kInvalidArgument for different shapes.
double relative_error(const at::Tensor& reals, const at::Tensor& weight);

}  // namespace qvlm
