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

// What it works on; nothing but the first is owned.
struct EncoderStudy {
  std::shared_ptr<const WeightSource> floats;  // the float model
  const ModelConfig& config;
  const LinearSchemes& schemes;     // of the quantized linears
  const ReplacedTensors& replaced;  // tensors of the quantized model that are not the float model's
  const RoundingOptions& options;
};

struct EncoderRounding {
  RoundedLinears codes;      // of the quantized linears of tower and projector
  ReplacedTensors replaced;  // what was replaced before, and the corrected biases
  bool stopped = false;      // by stop_requested
};

// Whether there is something to round here: a linear of vision tower or projector among those that
// are quantized, and a rounding that looks at data.
bool rounds_encoder(const LinearSchemes& schemes, const RoundingOptions& options);

// Throws kInvalidArgument where no sample has an image to round them by.
void check_images(const std::vector<StreamedSample>& samples);

// on_layer: behind every unit before the decoder, from the tower's embedding to the projector.
// stop_requested is asked in front of each; both may be empty. Throws as check_images() does.
EncoderRounding round_encoder(const EncoderStudy& study,
                              std::vector<StreamedSample> samples,
                              const std::function<void()>& on_layer = {},
                              const std::function<bool()>& stop_requested = {});

}  // namespace qvlm
