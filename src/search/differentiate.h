// Gradients of one function at one tensor, whatever the mode of the calling thread is. Several
// threads may ask at once, each for a function of its own.
#pragma once

#include <functional>
#include <vector>

#include "tensor/tensor.h"

namespace qvlm {

// A function's value at x and, of the same shape as x, its gradient there.
struct Differential {
  double value = 0.0;
  at::Tensor gradient;
};
// fn: x -> a number of one element.
Differential differentiate(const at::Tensor& x,
                           const std::function<at::Tensor(const at::Tensor&)>& fn);

// The gradient at x of sum(fn(x) * gradient), for fn: x -> the shape of `gradient`.
at::Tensor pull_back(const at::Tensor& x,
                     const at::Tensor& gradient,
                     const std::function<at::Tensor(const at::Tensor&)>& fn);
// The same for each of several gradients; fn is computed once. behind_each is called behind each;
// what fn kept the gradients of has them then, and has to be cleared. May be empty.
std::vector<at::Tensor> pull_back_each(const at::Tensor& x,
                                       const std::vector<at::Tensor>& gradients,
                                       const std::function<at::Tensor(const at::Tensor&)>& fn,
                                       const std::function<void()>& behind_each = {});

}  // namespace qvlm
