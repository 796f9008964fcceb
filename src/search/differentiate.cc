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
  return pull_back_each(x, {gradient}, fn).front();
}

std::vector<at::Tensor> pull_back_each(const at::Tensor& x,
                                       const std::vector<at::Tensor>& gradients,
                                       const std::function<at::Tensor(const at::Tensor&)>& fn,
                                       const std::function<void()>& behind_each) {
  const c10::InferenceMode with_gradients(false);
  const at::Tensor leaf = x.detach().set_requires_grad(true);
  const at::Tensor value = fn(leaf);
  std::vector<at::Tensor> result;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    value.backward(gradients[i], /*retain_graph=*/i + 1 < gradients.size());
    result.push_back(leaf.grad());
    leaf.mutable_grad() = at::Tensor();
    if (behind_each) behind_each();
  }
  return result;
}

}  // namespace qvlm
