// Massive channels (Sun et al. 2024): few channels of the residual stream that hold much of it, and
// that weights read little of. A rotation that spreads them leaves little of a low-bit grid to all
// others. By themselves they are rounded coarsely, which only small weights forgive: a large
// channel that is read as the others are is better spread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace qvlm {

class MassiveChannels {
 public:
  // states: [tokens, hidden] of one sample, in front of a layer. The first
  // token is left out, unless it is the only one: it is often massive for itself, and the same for
  // every prompt.
  void add(const at::Tensor& states);
  // weight: [out, hidden] of a linear that reads the stream, the gain of its norm included.
  void add_reader(const at::Tensor& weight);
  // Those that hold at least kShare of a token's square, on average, and whose columns in the
  // readers have at most kRead of the mean square of all; in order.
  std::vector<std::int64_t> find() const;

  static constexpr double kShare = 0.05, kRead = 0.25;
  static constexpr std::size_t kSamples = 8;  // that are enough to find them

 private:
  at::Tensor shares_, read_;  // [hidden] float64, sums over tokens and over readers
  std::int64_t tokens_ = 0, readers_ = 0;
};

}  // namespace qvlm
