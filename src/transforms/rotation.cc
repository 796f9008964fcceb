#include "transforms/rotation.h"

#include <vector>

#include "base/random.h"
#include "quant/hadamard_rows.h"

namespace qvlm {

Rotation::Rotation(std::int64_t width, std::uint64_t seed)
    : hadamard_(kernels::make_hadamard(width)) {
  Random random(seed);
  std::vector<float> signs(static_cast<std::size_t>(width));
  for (float& sign : signs)
    sign = random.below(2) == 0 ? 1.0f : -1.0f;
  signs_ = at::tensor(signs);
}

at::Tensor Rotation::rows(const at::Tensor& x) const {
  const at::Tensor runs = x.reshape({-1, signs_.size(0)}) * signs_;
  return hadamard_rows(runs, hadamard_).reshape(x.sizes());
}

at::Tensor Rotation::columns(const at::Tensor& x) const {
  return x.dim() == 1 ? rows(x) : rows(x.t().contiguous()).t().contiguous();
}

}  // namespace qvlm
