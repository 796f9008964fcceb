// GPTQ (Frantar et al. 2022): rounds a weight column by column and lets the columns that are left
// make up for each one's error, so that the error at the output is small rather than that of the
// weight.
#pragma once

#include "quant/quantized_tensor.h"

namespace qvlm {

struct GptqOptions {
  double damping = 0.01;  // added to the diagonal of the second moments, as a share of its mean
  bool act_order = true;  // the columns with the largest inputs first
};

// Rounds a weight [out, in] float32 for inputs of these second moments [in, in].
// Scales and zero points are those of quantize_weight(), made from the whole weight before any
// column moves: each column keeps its group's grid whatever the order, and files know no order.
// Columns whose inputs are always 0 are rounded to nearest.
//   storage: see make_grid.
// Throws kInvalidArgument for second moments that are not finite or, damped a hundred times over,
// still not positive definite.
QuantizedTensor gptq(const at::Tensor& weight,
                     const at::Tensor& second_moment,
                     const Scheme& scheme,
                     at::ScalarType storage,
                     const GptqOptions& options = {});

// |(W_q - W) x|^2 / |W x|^2 over the inputs x of these second moments.
double output_error(const at::Tensor& rounded,
                    const at::Tensor& weight,
                    const at::Tensor& second_moment);

}  // namespace qvlm
