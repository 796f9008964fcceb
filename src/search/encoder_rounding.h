// Vision tower and projector rounded by calibration images: GPTQ, and biases that make up for what
// rounding does to the mean of an output. Layer after layer, each from the inputs that those below
// leave when they are rounded.
#pragma once

#include <qvlm/recipe.h>

#include <functional>
#include <memory>
#include <vector>

#include "io/declare_quantization.h"
#include "io/hf_config.h"
#include "model/rounded_weights.h"
#include "model/unit.h"

namespace qvlm {

struct EncoderRounding {
  RoundedLinears codes;      // of the quantized linears of tower and projector
  ReplacedTensors replaced;  // what was replaced before, and the corrected biases
  bool stopped = false;      // by stop_requested
};

// Whether there is something to round here: a linear of vision tower or projector among those that
// are quantized, and a rounding that looks at data.
bool rounds_encoder(const LinearSchemes& schemes, const RoundingOptions& options);

// schemes: of the model's quantized linears; replaced: tensors of the quantized model that are not
// the float model's. on_layer: after every layer that was rounded. stop_requested is asked at every
// layer; both may be empty. Throws kInvalidArgument where no sample has an image.
EncoderRounding round_encoder(const std::shared_ptr<const WeightSource>& floats,
                              const ModelConfig& config,
                              const LinearSchemes& schemes,
                              const ReplacedTensors& replaced,
                              std::vector<StreamedSample> samples,
                              const RoundingOptions& options,
                              const std::function<void()>& on_layer = {},
                              const std::function<bool()>& stop_requested = {});

}  // namespace qvlm
