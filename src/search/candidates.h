// What the search may choose for one layer: a clip for the activations and one for the weights, the
// same for all its linears or one for each input that linears share.
#pragma once

#include <qvlm/recipe.h>

#include <vector>

namespace qvlm {

// One value index per axis of a layer. Axes: activation clips, then weight clips; a single one of
// each, or one per input.
using Setting = std::vector<int>;

// Clip ratios of the linears behind one input of a layer.
struct InputClips {
  double activation = 1.0;
  double weight = 1.0;

  friend bool operator==(const InputClips&, const InputClips&) = default;
};
using LayerClips = std::vector<InputClips>;  // by input, see NamedLinear::input

class Candidates {
 public:
  // inputs: how many inputs a layer's linears have. Values are put in order, the least clipped
  // first. Throws kInvalidArgument for an empty list, a value outside (0, 1], a value given twice,
  // or per_linear with another method than descent.
  Candidates(const SearchOptions& options, int inputs);

  // Settings in which all inputs share their clips, the least clipped first: what exhaustive and
  // beam search try and what descent starts from.
  const std::vector<Setting>& shared() const { return shared_; }
  // Number of values of each axis.
  std::vector<int> axes() const;
  LayerClips clips(const Setting& setting) const;

 private:
  std::vector<double> activation_, weight_;
  int inputs_;
  bool per_linear_;
  std::vector<Setting> shared_;
};

}  // namespace qvlm
