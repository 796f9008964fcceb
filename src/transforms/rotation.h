// Rotations spread what is large in few channels over many: a random sign for each channel, then a
// Hadamard matrix (kernels.h), x R = (x * signs) H / sqrt(width).
#pragma once

#include <qvlm/kernels.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace qvlm {

class Rotation {
 public:
  Rotation() = default;  // none
  // Turns each run of `width` values of a row, all runs alike. seed: of the signs.
  Rotation(std::int64_t width, std::uint64_t seed);

  explicit operator bool() const { return signs_.defined(); }
  at::Tensor rows(const at::Tensor& x) const;     // [.., in] float32 -> x R
  at::Tensor columns(const at::Tensor& x) const;  // [out, ..] or [out] -> R^T x

 private:
  at::Tensor signs_;  // [width] float32
  kernels::Hadamard hadamard_;
};

}  // namespace qvlm
