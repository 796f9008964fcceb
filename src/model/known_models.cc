#include "model/known_models.h"

#include <algorithm>

#include "base/error.h"

namespace qvlm {
namespace {

// CLIP ViT-L/14 at 336 pixels: 576 patches, of which the last layer but one is used.
VisionConfig clip_large_336() {
  VisionConfig vision;
  vision.hidden_size = 1024;
  vision.intermediate_size = 4096;
  vision.layers = 24;
  vision.heads = 16;
  vision.image_size = 336;
  vision.patch_size = 14;
  return vision;
}

// Vicuna 1.5, a Llama 2; the vocabulary is padded to 32 064 with the image token inside.
TextConfig vicuna(std::int64_t hidden,
                  std::int64_t intermediate,
                  std::int64_t layers,
                  std::int64_t heads) {
  TextConfig text;
  text.vocab_size = 32064;
  text.hidden_size = hidden;
  text.intermediate_size = intermediate;
  text.layers = layers;
  text.heads = text.kv_heads = heads;
  text.head_dim = hidden / heads;
  text.max_positions = 4096;
  text.rms_norm_eps = 1e-5;
  return text;
}

}  // namespace

ModelConfig make_known_config(std::string_view model, std::int64_t layers) {
  ModelConfig config;
  config.vision = clip_large_336();
  if (model == "llava-1.5-7b") {
    config.text = vicuna(4096, 11008, 32, 32);
  } else if (model == "llava-1.5-13b") {
    config.text = vicuna(5120, 13824, 40, 40);
  } else {
    fail(ErrorKind::kInvalidArgument, "no shapes of '", model, "' are known; expected one of ",
         kKnownModels);
  }
  require(layers <= config.text.layers, ErrorKind::kInvalidArgument, model, " has ",
          config.text.layers, " decoder layers, got ", layers);
  if (layers > 0) {
    config.text.layers = layers;
    config.vision.layers = std::min(config.vision.layers, layers + 1);  // the last never runs
  }
  return config;
}

}  // namespace qvlm
