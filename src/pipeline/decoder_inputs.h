// Where the search of the decoder begins: calibration samples run through vision tower and
// projector, in float and as the recipe rounds them.
#pragma once

#include "calib/samples.h"
#include "io/declare_quantization.h"
#include "model/rounded_weights.h"
#include "search/states.h"

namespace qvlm {

struct DecoderInputs {
  States exact;    // embeddings [tokens, hidden] of the float model
  States rounded;  // of the quantized tower and projector; the same tensors where both stay float
  std::vector<std::vector<TokenKind>> kinds;  // of the samples' positions
};

// The states before the decoder's first layer, in float; one unit at a time in memory.
States run_to_decoder(const Weights& root,
                      const ModelConfig& config,
                      std::vector<StreamedSample> samples);
// The same in float and rounded. schemes: of the model's quantized linears; replaced: tensors of
// the quantized model that are not the float model's; codes: of linears that are not rounded to
// nearest.
DecoderInputs run_to_decoder(const std::shared_ptr<const WeightSource>& floats,
                             const ModelConfig& config,
                             const LinearSchemes& schemes,
                             const ReplacedTensors& replaced,
                             const RoundedLinears& codes,
                             const CalibrationSamples& samples);

}  // namespace qvlm
