// Scales of input channels (SmoothQuant, Xiao et al. 2023; AWQ, Lin et al. 2023): what is large in
// activations is made smaller there and larger in the weights that read it.
#pragma once

#include <qvlm/quantize.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "calib/statistics.h"
#include "io/declare_quantization.h"
#include "io/hf_config.h"
#include "transforms/transformed_weights.h"

namespace qvlm {

enum class ScaleRule {
  kSmoothQuant,  // max|x|^alpha / max|w|^(1 - alpha)
  kAwq,          // mean|x|^alpha, about 1
};

struct Smoothing {
  ScaleRule rule = ScaleRule::kSmoothQuant;
  // A rotation to come. Where it turns the residual stream, it takes what scales leave in the gains
  // of norms back into the weights: inputs behind norms are not smoothed then.
  std::optional<RotateOptions> before = {};
  // Of the residual stream, channels that this rotation leaves. Where there are some, they are all
  // that is smoothed: behind norms they are made smaller, by (2 r / r of the others)^alpha where r
  // is the root of the mean square, of the others without their gains, and never larger.
  std::vector<std::int64_t> massive = {};
};

// What the input of some linears is when the model runs in float as it is now.
struct MeasuredInput {
  InputStatistics statistics;  // for SmoothQuant's rule
  at::Tensor rows;  // [tokens, in] float32, some of them; for AWQ's rule, and where one searches
};
using MeasuredInputs = std::vector<MeasuredInput>;  // of a layer, by NamedLinear::input

// The alphas under which the rounded products of each input are nearest to those in float; see
// ScaleSearch. schemes: what the recipe makes of linears; only those are looked at. Does not depend
// on the number of threads.
Alphas search_alphas(const ModelConfig& config,
                     const WeightSource& weights,
                     std::int64_t layer,
                     const MeasuredInputs& inputs,
                     const LinearSchemes& schemes,
                     const Smoothing& smoothing);

// One alpha for all inputs of a layer that are smoothed.
Alphas same_alphas(const ModelConfig& config, double alpha, const Smoothing& smoothing);

// Folds the scales of a decoder layer into what comes before its linears: norm gains, the value
// projection, the up projection. Scales behind a norm are such that its gains are exact in bfloat16
// or float16 where they are stored so: what rounds is the weights alone.
TensorMaps smooth_layer(const ModelConfig& config,
                        const WeightSource& weights,
                        std::int64_t layer,
                        const MeasuredInputs& inputs,
                        const Alphas& alphas,
                        const Smoothing& smoothing);

}  // namespace qvlm
