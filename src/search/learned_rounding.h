// Quantizers whose clip ratio is learned: their values are those of quant/grid, and gradients go
// through the rounding as if it were not there (straight-through estimator). With respect to the
// clip that gives the gradient of LSQ (Esser et al., 2020): code minus steps inside the range, the
// last code outside it. Who moves the clips is search/learned_tower.h.
#pragma once

#include "io/scheme.h"
#include "quant/input_rounding.h"
#include "tensor/tensor.h"

namespace qvlm {

enum class CodeRounding {
  kNearest,  // what quantizers do
  kNone,     // codes stay real numbers: a smooth function, which tests differentiate numerically
};

// The values that the codes of a weight [out, in] stand for: [out, in], equal to
// quantize_weight(weight, scheme, storage).dequantize() with clip_ratio `clip`, and differentiable
// in it. clip: a float32 number; it takes the place of scheme.clip_ratio. storage: of the scales,
// ignored with kNone.
at::Tensor round_weight(const at::Tensor& weight,
                        const at::Tensor& clip,
                        const Scheme& scheme,
                        at::ScalarType storage,
                        CodeRounding rounding);

// The same of a dynamic activation scheme: equal to fake_quantize_tokens with clip_ratio `clip`,
// differentiable in clip and activations [tokens, in]. The zero points of asymmetric schemes count
// as constants.
at::Tensor round_tokens(const at::Tensor& activations,
                        const at::Tensor& clip,
                        const Scheme& scheme,
                        CodeRounding rounding);

// round_tokens() as the input of a linear.
InputRounding make_learned_rounding(const Scheme& scheme, at::Tensor clip, CodeRounding rounding);
// What linears without an activation scheme do to their input, to bfloat16 and back, in the same
// way.
InputRounding make_straight_bf16(CodeRounding rounding);

}  // namespace qvlm
