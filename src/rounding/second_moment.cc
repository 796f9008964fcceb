#include "rounding/second_moment.h"

#include "base/error.h"
#include "rounding/tiles.h"

namespace qvlm {

void SecondMoment::add(const at::Tensor& x, const at::Tensor& weights) {
  if (x.size(0) == 0) return;
  const at::Tensor weighed = weights.defined() ? x * weights.sqrt().unsqueeze(1) : x;
  // No product of two columns is larger than the larger one of their squares.
  require(weighed.square().sum(0).isfinite().all().item<bool>(), ErrorKind::kCorrupt,
          "inputs of a linear hold NaN or infinity, or overflow");
  const std::int64_t in = x.size(1);
  if (!sum_.defined()) sum_ = at::zeros({in, in}, at::kDouble);
  const at::Tensor columns = weighed.t();
  for_tiles(0, in, [&](std::int64_t begin, std::int64_t end) {
    // Of one sample: float32 will do.
    sum_.slice(0, begin, end)
        .slice(1, 0, end)
        .add_(at::matmul(columns.slice(0, begin, end), weighed.slice(1, 0, end)));
  });
  weight_ += weights.defined() ? weights.sum().item<double>() : static_cast<double>(x.size(0));
}

at::Tensor SecondMoment::matrix() const {
  require(weight_ > 0.0, ErrorKind::kInvalidArgument, "second moments of no tokens");
  at::Tensor mean = sum_ / weight_;
  for_tiles(0, mean.size(0), [&](std::int64_t begin, std::int64_t end) {
    const at::Tensor below = mean.slice(0, begin, end).slice(1, 0, begin);
    mean.slice(0, 0, begin).slice(1, begin, end).copy_(below.t());
  });
  return mean;
}

}  // namespace qvlm
