// Rounds the linears of one layer by what their inputs look like when the layer runs on calibration
// samples: GPTQ, and the mean inputs that corrections of biases take. Any layer will do.
#pragma once

#include <qvlm/recipe.h>

#include <cstddef>
#include <functional>
#include <vector>

#include "model/linear.h"
#include "quant/quantized_tensor.h"
#include "search/token_importance.h"

namespace qvlm {

struct LinearToRound {
  at::Tensor weight;                    // [out, in] float32, turned where its scheme says so
  at::Tensor bias;                      // [out]; undefined: none
  at::ScalarType storage = at::kFloat;  // of the scales
  LinearScheme scheme;                  // with clips and static scales
  std::size_t input = 0;                // NamedLinear::input
};

struct RoundedLinear {
  QuantizedTensor weight;
  at::Tensor mean_input;  // [in] float64, over the tokens of all samples; turned and rounded
};

// Runs the layer on a sample with these in place of its own linears, in their order; from several
// threads.
using RunWith = std::function<void(std::size_t sample, const std::vector<Linear>& linears)>;

// Inputs are those that the layer has when all its linears are rounded to nearest. weights: what
// tokens count in GPTQ, by LinearToRound::input; empty: all 1. Does not depend on the number of
// threads. Throws what gptq() and SecondMoment do.
std::vector<RoundedLinear> round_linears(const std::vector<LinearToRound>& linears,
                                         std::size_t samples,
                                         const RunWith& run,
                                         const InputWeights& weights,
                                         const RoundingOptions& options);

}  // namespace qvlm
