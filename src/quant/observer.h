// Observers: the range of real values that each scale has to cover.
#pragma once

#include <qvlm/scheme.h>

#include "tensor/tensor.h"

namespace qvlm {

// Lowest and highest value per scale.
struct Range {
  at::Tensor low, high;  // float32, same shape
};

// Range of a weight [out, in]: [out, groups] for kGroup, [out, 1] for kChannel, [1, 1] for kTensor,
// times scheme.clip_ratio. Throws kInvalidArgument if the group size does not divide `in`; kCorrupt
// if a value is not finite.
Range observe_weight(const at::Tensor& weight, const Scheme& scheme);

// Range of activations [..., in] per token: [..., 1], times scheme.clip_ratio.
Range observe_tokens(const at::Tensor& activations, const Scheme& scheme);

}  // namespace qvlm
