#include "tensor/finite.h"

#include <cmath>

namespace qvlm {

bool is_finite(const at::Tensor& tensor) {
  const auto [low, high] = at::aminmax(tensor);  // both NaN if any value is
  return std::isfinite(low.item<double>()) && std::isfinite(high.item<double>());
}

}  // namespace qvlm
