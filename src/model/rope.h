// Rotary position embedding (Su et al., 2021) as transformers lays it out: the two halves of a head
// are rotated against each other.
#pragma once

#include "io/hf_config.h"
#include "tensor/tensor.h"

namespace qvlm {

// Cosines and sines of some positions, each [tokens, head_dim], computed once per forward for all
// layers.
struct RopeAngles {
  at::Tensor cos, sin;
};

class Rope {
 public:
  Rope(const RopeConfig& config, std::int64_t head_dim);
  // Of the positions [first, first + tokens).
  RopeAngles angles(std::int64_t first, std::int64_t tokens) const;

 private:
  at::Tensor inverse_frequencies_;  // [head_dim / 2]
};

// Rotates x [heads, tokens, head_dim].
at::Tensor rotate(const at::Tensor& x, const RopeAngles& angles);

}  // namespace qvlm
