#include "search/differentiate.h"

namespace qvlm {

Differential differentiate(const at::Tensor& x,
                           const std::function<at::Tensor(const at::Tensor&)>& fn) {
  const c10::InferenceMode with_gradients(false);
  const at::Tensor leaf = x.detach().set_requires_grad(true);
  const at::Tensor value = fn(leaf);
  value.backward();
  return {value.item<double>(), leaf.grad()};
}

at::Tensor pull_back(const at::Tensor& x,
                     const at::Tensor& gradient,
                     const std::function<at::Tensor(const at::Tensor&)>& fn) {
  const c10::InferenceMode with_gradients(false);
  const at::Tensor leaf = x.detach().set_requires_grad(true);
  fn(leaf).backward(gradient);
  return leaf.grad();
}

}  // namespace qvlm
