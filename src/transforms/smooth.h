// Smoothing (SmoothQuant, Xiao et al. 2023): channels that are large in activations are made
// smaller there and larger in the weights that read them, s = max|x|^alpha / max|w|^(1 - alpha).
#pragma once

#include <qvlm/recipe.h>

#include <map>
#include <string>

#include "calib/statistics.h"
#include "io/hf_config.h"
#include "transforms/transformed_weights.h"

namespace qvlm {

// Folds the scales of a decoder layer into what comes before its linears: norm gains, the value
// projection, the up projection.
//   inputs: of the layer's linears, by whole names, when the model runs in float as it is now.
TensorMaps make_smoothing(const ModelConfig& config,
                          const WeightSource& weights,
                          const std::map<std::string, InputStatistics>& inputs,
                          const SmoothOptions& options);

}  // namespace qvlm
