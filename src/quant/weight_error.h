// How far a quantized weight is from the one it was made of: the number in reports, in qvlm.json
// and of `qvlm verify --against`. And how far the output of its linear is, given the inputs.
#pragma once

#include "quant/quantized_tensor.h"
#include "tensor/tensor.h"

namespace qvlm {

// |reals - weight|^2 / |weight|^2 of two float32 tensors [out, in]; 0 where the weight is. The sums
// do not depend on the number of threads. Throws kInvalidArgument for different shapes.
double relative_error(const at::Tensor& reals, const at::Tensor& weight);

// tr(D H D^T) / tr(W H W^T), D = W - quantized, for a weight W [out, in] and the second moment H
// [in, in] of its inputs, in float64: the relative squared error at the output of the linear; 0
// where that output is. Does not depend on the number of threads. Throws kInvalidArgument for
// different shapes.
double output_error(const at::Tensor& weight,
                    const QuantizedTensor& quantized,
                    const at::Tensor& second_moment);

}  // namespace qvlm
