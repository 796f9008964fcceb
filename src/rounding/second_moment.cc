#include "rounding/second_moment.h"

#include <cmath>

#include "base/error.h"

namespace qvlm {

void SecondMoment::add(const at::Tensor& x, const at::Tensor& weights) {
  if (x.size(0) == 0) return;
  const at::Tensor weighed = weights.defined() ? x * weights.sqrt().unsqueeze(1) : x;
  const at::Tensor product = at::matmul(weighed.t(), weighed);  // of one sample: float32 will do
  require(std::isfinite(product.sum().item<double>()), ErrorKind::kCorrupt,
          "inputs of a linear hold NaN or infinity, or overflow");
  if (!sum_.defined()) sum_ = at::zeros(product.sizes(), at::kDouble);
  sum_.add_(product);
  weight_ += weights.defined() ? weights.sum().item<double>() : static_cast<double>(x.size(0));
}

at::Tensor SecondMoment::matrix() const {
  require(weight_ > 0.0, ErrorKind::kInvalidArgument, "second moments of no tokens");
  return sum_ / weight_;
}

}  // namespace qvlm
