// The model as a sequence of units in data order. A pass over calibration samples loads one unit,
// runs it on every sample and frees it, so memory holds one unit and the samples' hidden states,
// whatever the depth of the model.
#pragma once

#include <string>
#include <vector>

#include "io/hf_config.h"
#include "model/weight_source.h"
#include "tensor/tensor.h"

namespace qvlm {

enum class UnitKind {
  kVisionEmbedding,
  kVisionLayer,
  kProjector,
  kTokenEmbedding,
  kDecoderLayer,
  kHead
};

struct Unit {
  UnitKind kind = UnitKind::kVisionEmbedding;
  std::int64_t index = 0;  // of the layer, for layers
  std::string name;        // "vision_tower.encoder.layers.3"
};

// From pixels to logits; vision layers that no selected feature needs are left out.
std::vector<Unit> list_units(const ModelConfig& config);
// The decoder's layers among them.
std::vector<Unit> decoder_units(const ModelConfig& config);

// One sample on its way through the units.
struct StreamedSample {
  at::Tensor pixels;              // [3, image_size, image_size]; undefined: no image
  std::vector<std::int32_t> ids;  // the prompt, image positions expanded
  at::Tensor hidden;  // output of the last unit: [tokens, ...]; after the head the logits
  std::vector<at::Tensor> vision_states;  // inside the tower only
  at::Tensor image;                       // projector output, until the decoder takes it
};

// Loads the unit, runs it on every sample in place, frees it. Units must be run in list_units()
// order. Each sample runs on one thread.
void run_unit(const Unit& unit,
              const Weights& root,
              const ModelConfig& config,
              std::vector<StreamedSample>& samples);

}  // namespace qvlm
