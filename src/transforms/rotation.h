// Rotations spread what is large in few channels over many: a random sign for each channel, then a
// Hadamard matrix (kernels.h), x R = (x * signs) H / sqrt(width).
#pragma once

#include <qvlm/kernels.h>

#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace qvlm {

// Channels [width] bool: true at these.
at::Tensor channel_mask(std::int64_t width, const std::vector<std::int64_t>& channels);

class Rotation {
 public:
  Rotation() = default;  // none
  // Turns each run of `width` values of a row, all runs alike. seed: of the signs. apart: places in
  // the run that stay as they are, in any order; only the others are mixed.
  Rotation(std::int64_t width, std::uint64_t seed, const std::vector<std::int64_t>& apart = {});

  explicit operator bool() const { return !turns_.empty(); }
  // [.., in] float32 -> x R. Takes little memory beside the result.
  at::Tensor rows(const at::Tensor& x) const;
  at::Tensor columns(const at::Tensor& x) const;  // [out, ..] or [out] -> R^T x

 private:
  at::Tensor turned(const at::Tensor& runs) const;  // [runs, width] -> the same

  // Some neighbours among the places that are mixed.
  struct Turn {
    std::int64_t first = 0;
    at::Tensor signs;  // [width] float32
    kernels::Hadamard hadamard;
  };

  std::int64_t width_ = 0;
  at::Tensor mixed_;         // places int64; undefined: all
  std::vector<Turn> turns_;  // one after the other
};

}  // namespace qvlm
