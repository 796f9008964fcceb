// Massive channels (Sun et al. 2024): few channels of the residual stream that hold much of it. A
// rotation that spreads them leaves little of a low-bit grid to all others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace qvlm {

class MassiveChannels {
 public:
  // states: [tokens, hidden] of one sample, in front of a layer or behind the last one. The first
  // token is left out, unless it is the only one: it is often massive for itself, and the same for
  // every prompt.
  void add(const at::Tensor& states);
  // Those that hold at least kShare of a token's square, on average; in order.
  std::vector<std::int64_t> find() const;

  static constexpr double kShare = 0.05;
  static constexpr std::size_t kSamples = 8;  // that are enough to find them

 private:
  at::Tensor shares_;  // [hidden] float64, sums over tokens
  std::int64_t tokens_ = 0;
};

}  // namespace qvlm
