// CLIP's vision tower (CLIPVisionModel without its pooling): patches and a class token through
// pre-norm layers.
#pragma once

#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "io/hf_config.h"
#include "model/weight_source.h"
#include "tensor/tensor.h"

namespace qvlm {

// Pixels to the first hidden state.
class VisionEmbedding {
 public:
  VisionEmbedding(const Weights& tower, const VisionConfig& config);
  // pixels: [3, image_size, image_size] -> [1 + patches, hidden], class token first.
  at::Tensor forward(const at::Tensor& pixels) const;

 private:
  VisionConfig config_;
  at::Tensor class_token_;  // [1, hidden]
  at::Tensor patch_;        // [hidden, 3, patch_size, patch_size]
  at::Tensor positions_;    // [1 + patches, hidden]
  at::Tensor norm_weight_, norm_bias_;
};

class VisionLayer {
 public:
  VisionLayer(const Weights& layer, const VisionConfig& config);
  at::Tensor forward(const at::Tensor& x) const;  // [tokens, hidden] -> the same

  // All linears in the order in which they compute; they may be replaced.
  std::vector<NamedLinear> linears();
  // Gains of the two norms, [hidden] each; they may be replaced.
  std::vector<std::pair<std::string, at::Tensor*>> norm_gains();

 private:
  // x: the normed input; residual: what the result is added to.
  at::Tensor attend(const LinearInput& x, const at::Tensor& residual) const;

  VisionConfig config_;
  at::Tensor norm1_weight_, norm1_bias_, norm2_weight_, norm2_bias_;
  Linear q_, k_, v_, out_, fc1_, fc2_;
};

// How many layers the selected features need: layers above the highest selected one never run.
std::int64_t needed_vision_layers(const ModelConfig& config);
// Picks the selected hidden states (states[i] is the output of layer i, states[0] of the
// embedding), joins them along channels and drops the class token if the config says so: [patches
// (+ 1), hidden * selected layers].
at::Tensor select_features(const std::vector<at::Tensor>& states, const ModelConfig& config);

class VisionTower {
 public:
  VisionTower(const Weights& tower, const ModelConfig& config);
  // pixels: [3, image_size, image_size] -> selected features. Throws Cancelled between layers.
  at::Tensor forward(const at::Tensor& pixels, const std::stop_token& cancel = {}) const;

 private:
  ModelConfig config_;
  VisionEmbedding embedding_;
  std::vector<VisionLayer> layers_;
};

}  // namespace qvlm
