#include "eval/product_check.h"

#include "base/error.h"
#include "model/linear.h"
#include "quant/grid.h"
#include "quant/quantized_tensor.h"

namespace qvlm {
namespace {

// Rows of different sizes, no two values alike: [3, in].
at::Tensor make_inputs(std::int64_t in) {
  const at::Tensor steps = at::arange(3 * in, at::kFloat).reshape({3, in});
  return at::sin(steps * 1.618f) * at::logspace(-1, 1, 3).unsqueeze(1);
}

}  // namespace

std::string check_packed_product(const QuantizedWeight& weight, const LinearScheme& scheme) {
  const Arithmetic arithmetic = arithmetic_of(scheme, Execution::kPacked);
  if (arithmetic != Arithmetic::kInteger && arithmetic != Arithmetic::kUnpacked) return "";
  const at::Tensor x = make_inputs(weight.in);
  const at::Tensor rounded = (*make_rounding(scheme, weight.in))(x);
  const at::Tensor reals = to_quantized_tensor(weight).dequantize();
  const at::Tensor simulated = at::matmul(rounded, reals.t());
  const at::Tensor packed = Linear(weight, {}, scheme, Execution::kPacked).forward(x);
  // A float32 sum of n products is off by at most n * 2^-24 of the sum of magnitudes, each of the
  // two by that much.
  const at::Tensor bound =
      at::matmul(rounded.abs(), reals.abs().t()) * (static_cast<double>(weight.in) * 0x1p-23) +
      1e-6;
  const at::Tensor difference = (packed - simulated).abs();
  if ((difference <= bound).all().item<bool>()) return "";
  return join("packed product differs from the simulated one by up to ",
              difference.max().item<double>(), ", float sums explain ", bound.max().item<double>());
}

}  // namespace qvlm
