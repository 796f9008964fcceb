// GPTQ (Frantar et al. 2022): codes of a weight that keep the output of the linear, not each
// number, near. The grids are those of nearest rounding (quant/quantized_tensor.h), so files and
// kernels see no difference; what the inputs look like comes from rounding/second_moment.h.
#pragma once

#include <cstdint>

#include "quant/quantized_tensor.h"
#include "tensor/tensor.h"

namespace qvlm {

struct GptqOptions {
  double damping = 0.01;     // added to the diagonal, as a share of its mean; above 0
  bool act_order = true;     // columns of strong inputs first; each keeps the grid of its own group
  std::int64_t block = 128;  // columns between two matrix products: speed, and last bits of sums
};

// What the inputs of a linear say about rounding its weight. Linears that share their input share
// it.
struct GptqFeedback {
  at::Tensor order;    // [in] int64: the column rounded at each step
  at::Tensor factors;  // [in, in] float32: [j, i], i < j, is how step j makes up for the error of i
};

// second_moment: [in, in]. Throws kInvalidArgument for one that is not finite, has a negative
// diagonal or stays indefinite, and for a damping that is not above 0.
GptqFeedback make_gptq_feedback(const at::Tensor& second_moment, const GptqOptions& options);

// Rounds a weight [out, in] column by column, each time to the nearest codes of what makes up for
// the errors so far under the second moment [in, in] of the inputs. Columns of inputs that were
// always 0 stay nearest. Where the damped second moment is not positive definite the damping grows,
// three times tenfold. Does not depend on the number of threads. Takes about 20 in^2 bytes beside
// the arguments. `storage`: see make_grid. Throws kInvalidArgument for other shapes or options;
// else as make_gptq_feedback() and quantize_weight() do.
QuantizedTensor gptq(const at::Tensor& weight,
                     const GptqFeedback& feedback,
                     const Scheme& scheme,
                     at::ScalarType storage,
                     const GptqOptions& options = {});
QuantizedTensor gptq(const at::Tensor& weight,
                     const at::Tensor& second_moment,
                     const Scheme& scheme,
                     at::ScalarType storage,
                     const GptqOptions& options = {});

}  // namespace qvlm
