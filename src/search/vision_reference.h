// What the optimization of the vision encoder is held against: the calibration samples as the float
// model sees them.
#pragma once

#include <qvlm/recipe.h>

#include <functional>
#include <string>
#include <vector>

#include "calib/entropy.h"
#include "calib/samples.h"
#include "io/declare_quantization.h"
#include "model/weight_source.h"

namespace qvlm {

// What the optimization stands on. References are not owned.
struct VisionEncoderStudy {
  const Weights& root;  // float
  const ModelConfig& config;
  const LinearSchemes& schemes;  // of the model's quantized linears
  const std::vector<StreamedSample>& samples;
  const std::vector<std::vector<TokenKind>>& kinds;  // of the samples' positions
  VisionEncoderOptions options;
  double tau = 0.25;                                // of the entropies
  std::function<void(const std::string&)> on_step;  // after every batch; or empty
};

struct VisionSample {
  at::Tensor embedded;         // behind the tower's embedding: [1 + patches, hidden]
  at::Tensor images;           // behind the projector: [image tokens, hidden]
  at::Tensor image_positions;  // of these among the decoder's inputs: [image tokens] int64
  at::Tensor inputs;           // of the decoder: [tokens, hidden]
  at::Tensor output;           // of its last layer; undefined where no loss needs it
  at::Tensor answer_ids;       // tokens of the answer: [answer tokens] int64
  at::Tensor before_answer;    // the position before each, which has to predict it
};

struct VisionReference {
  std::vector<VisionSample> samples;  // those with an image: nothing else depends on the tower
  // Of the outputs of each decoder layer over all samples, where the loss has entropies.
  std::vector<EntropyGrid> grids;
};

// Whether the loss looks behind the projector.
bool needs_decoder(const VisionEncoderOptions& options);

// Runs the samples through the float model, one unit at a time in memory. Throws kInvalidArgument
// where no sample has an image or the numbers of samples and kinds differ.
VisionReference run_reference(const VisionEncoderStudy& study);

}  // namespace qvlm
