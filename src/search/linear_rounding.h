// Rounds the linears of one layer by what their inputs look like when the layer runs on calibration
// samples: GPTQ, and biases that make up for what rounding does to means. Any layer will do.
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

// Runs the layer on a sample with these in place of its own linears, in their order; from several
// threads.
using RunWith = std::function<void(std::size_t sample, const std::vector<Linear>& linears)>;

// The codes of each. GPTQ's inputs are those that the layer has when all its linears are rounded to
// nearest. weights: what tokens count in GPTQ, by LinearToRound::input; empty: all 1. Does not
// depend on the number of threads. Throws what gptq() and SecondMoment do.
std::vector<QuantizedTensor> round_linears(const std::vector<LinearToRound>& linears,
                                           std::size_t samples,
                                           const RunWith& run,
                                           const InputWeights& weights,
                                           const RoundingOptions& options);

// Biases [out] float32 with which the mean of every output is that of the unrounded weight on the
// same inputs (Nagel et al. 2019, section 4.2); undefined where there is none. Inputs are those
// that the layer has on these codes, and with the biases of the linears before corrected: the layer
// runs once for each input that is read. linears: in the order in which the layer runs them. Does
// not depend on the number of threads.
std::vector<at::Tensor> correct_biases(std::vector<LinearToRound> linears,
                                       const std::vector<QuantizedTensor>& codes,
                                       std::size_t samples,
                                       const RunWith& run);

}  // namespace qvlm
