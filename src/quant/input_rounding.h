// How a simulated linear rounds its input: a function, so that dynamic, static and learned
// quantizers are alike to the model. Sums of integer codes in the kernels give the same numbers up
// to float rounding (tests/model/linear_test.cc).
#pragma once

#include <functional>
#include <memory>

#include "io/scheme.h"
#include "quant/grid.h"
#include "tensor/tensor.h"

namespace qvlm {

// Activations [tokens, in] -> the values that their codes stand for. Linears that share an input
// and the pointer share the result too.
using InputRounding = std::shared_ptr<const std::function<at::Tensor(const at::Tensor&)>>;

InputRounding make_rounding(std::function<at::Tensor(const at::Tensor&)> function);

// What the scheme does to inputs: dynamic per token, static on the stored scales, or, without an
// activation scheme, to bfloat16, as the kernels do; turned before, where the scheme says so. `in`:
// width of the inputs. Throws kInvalidArgument when the scales of a static scheme are missing.
InputRounding make_rounding(const LinearScheme& scheme, std::int64_t in);

// Whether make_rounding() does the same for both, on inputs of one width.
bool rounds_input_alike(const LinearScheme& a, const LinearScheme& b);

}  // namespace qvlm
