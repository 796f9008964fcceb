// Grids: the affine map between real numbers and integer codes. All rounding in the project happens
// here (and, for activations inside the integer kernels, in kernels/quantize_rows, which tests hold
// equal to this). Ranges come from observers (observer.h); packing of codes for files is
// io/packed_words.h.
#pragma once

#include "io/scheme.h"
#include "quant/observer.h"
#include "tensor/tensor.h"

namespace qvlm {

// real = (code - zero_point) * scale.
struct Grid {
  at::Tensor scale;       // float32, shape of the range it was made from, positive
  at::Tensor zero_point;  // float32, whole numbers; undefined when symmetric
};

// Returns the grid that covers the range and zero, as compressed-tensors computes it: symmetric
// scale = absmax / ((2^bits - 1) / 2). A range of only zeros gives scale 1.
//   storage: the type the scale is stored in (bf16, ...); the scale is rounded to it before any
//   code is computed, so that a reader of the file gets the same reals.
// Throws kInvalidArgument if a bound is not finite or low > high.
Grid make_grid(const Range& range, const Scheme& scheme, at::ScalarType storage = at::kFloat);

// Codes as float32 whole numbers: clamp(round(values / scale + zero_point)), half to even. The grid
// broadcasts against values.
at::Tensor quantize(const at::Tensor& values, const Grid& grid, const Scheme& scheme);
at::Tensor dequantize(const at::Tensor& codes, const Grid& grid);

// dequantize(quantize(values)) on the grid of each token's own range: what a dynamic activation
// quantizer does.
at::Tensor fake_quantize_tokens(const at::Tensor& activations, const Scheme& scheme);

}  // namespace qvlm
