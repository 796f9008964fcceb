// The dependency of neighbouring layers (calib/entropy.h) with its gradient, a piece of the values
// at a time: soft codes take 16 times the memory of the values they are of.
#pragma once

#include "calib/entropy.h"
#include "search/states.h"

namespace qvlm {

// The outputs of a layer over all samples, and the grid they are counted on.
struct LayerOutputs {
  const States& states;
  EntropyGrid grid;
};

struct EntropyGradient {
  double entropy = 0.0;  // H(above | below), per element
  States below, above;   // its gradients, of the states' shapes
};

// Samples are shared out over the threads; the result does not depend on their number. REQUIRES:
// states of equal shapes.
EntropyGradient differentiate_entropy(const LayerOutputs& below, const LayerOutputs& above);

}  // namespace qvlm
