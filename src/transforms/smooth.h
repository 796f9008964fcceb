// Scales of input channels (SmoothQuant, Xiao et al. 2023; AWQ, Lin et al. 2023): what is large in
// activations is made smaller there and larger in the weights that read it.
#pragma once

#include <qvlm/recipe.h>

#include <map>
#include <string>

#include "calib/statistics.h"
#include "io/declare_quantization.h"
#include "io/hf_config.h"
#include "transforms/transformed_weights.h"

namespace qvlm {

// What the inputs of a linear are when the model runs in float as it is now.
struct MeasuredInput {
  InputStatistics statistics;
  at::Tensor rows;  // [tokens, in] float32, some of them; undefined where nothing is searched
};
using MeasuredInputs = std::map<std::string, MeasuredInput>;  // by whole names of linears

// Whether the scales are searched, so that rows are wanted.
bool searches_scales(const SmoothOptions& options);
bool searches_scales(const AwqOptions& options);

// Folds the scales of a decoder layer into what comes before its linears: norm gains, the value
// projection, the up projection. inputs: of its linears. schemes: what the recipe makes of linears;
// a search looks at those only.
TensorMaps smooth_layer(const ModelConfig& config,
                        const WeightSource& weights,
                        std::int64_t layer,
                        const MeasuredInputs& inputs,
                        const LinearSchemes& schemes,
                        const SmoothOptions& options);
TensorMaps smooth_layer(const ModelConfig& config,
                        const WeightSource& weights,
                        std::int64_t layer,
                        const MeasuredInputs& inputs,
                        const LinearSchemes& schemes,
                        const AwqOptions& options);

}  // namespace qvlm
