// The float operations that models share. All tensors are float32; shapes have no batch dimension:
// one sequence at a time is what a question about an image is.
#pragma once

#include "io/hf_config.h"
#include "tensor/tensor.h"

namespace qvlm {

// x * rsqrt(mean(x^2) + eps) * weight over the last dimension (LlamaRMSNorm).
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

at::Tensor activate(const at::Tensor& x, Activation activation);

}  // namespace qvlm
