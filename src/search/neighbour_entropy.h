// Entropies of a chain of layers, measured as their outputs come by: only two of them are held at a
// time.
#pragma once

#include <optional>
#include <vector>

#include "calib/entropy.h"
#include "search/states.h"

namespace qvlm {

class NeighbourEntropy {
 public:
  explicit NeighbourEntropy(double tau) : tau_(tau) {}

  // The output of the next layer.
  void add(const States& output);

  // D(k, k+1) = H(output of layer k+1 | output of layer k); one value fewer than layers.
  const std::vector<double>& dependency() const { return dependency_; }
  // Of each layer: the entropy of its codes, the share of the most frequent one.
  const std::vector<double>& entropy() const { return entropy_; }
  const std::vector<double>& level_share() const { return level_share_; }

 private:
  double tau_;
  at::Tensor below_;  // values of the last output, flat
  EntropyGrid grid_below_;
  std::vector<double> dependency_, entropy_, level_share_;
};

}  // namespace qvlm
