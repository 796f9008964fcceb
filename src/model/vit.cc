#include "model/vit.h"

#include <algorithm>

#include "base/cancellation.h"
#include "model/attention.h"
#include "model/functional.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

// vision_feature_layer counts from the end when negative; there is one more hidden state than
// layers.
std::int64_t state_index(std::int64_t feature_layer, const ModelConfig& config) {
  return feature_layer >= 0 ? feature_layer : config.vision.layers + 1 + feature_layer;
}

}  // namespace

VisionEmbedding::VisionEmbedding(const Weights& tower, const VisionConfig& config)
    : config_(config) {
  const std::int64_t hidden = config.hidden_size, patch = config.patch_size;
  const Weights embeddings = tower.scope("embeddings");
  class_token_ = embeddings.get("class_embedding", {hidden}).unsqueeze(0);
  patch_ = embeddings.get("patch_embedding.weight", {hidden, 3, patch, patch});
  positions_ = embeddings.get("position_embedding.weight", {1 + config.patches(), hidden});
  norm_weight_ = tower.get("pre_layrnorm.weight", {hidden});  // the misspelling is CLIP's
  norm_bias_ = tower.get("pre_layrnorm.bias", {hidden});
}

at::Tensor VisionEmbedding::forward(const at::Tensor& pixels) const {
  require_shape(pixels, "pixels", {3, config_.image_size, config_.image_size});
  const at::Tensor grid = at::conv2d(pixels.unsqueeze(0), patch_, {}, config_.patch_size);
  const at::Tensor patches = grid.flatten(2).squeeze(0).transpose(0, 1);  // [patches, hidden]
  const at::Tensor x = at::cat({class_token_, patches}) + positions_;
  return at::layer_norm(x, {config_.hidden_size}, norm_weight_, norm_bias_, config_.layer_norm_eps);
}

VisionLayer::VisionLayer(const Weights& layer, const VisionConfig& config)
    : config_(config),
      norm1_weight_(layer.get("layer_norm1.weight", {config.hidden_size})),
      norm1_bias_(layer.get("layer_norm1.bias", {config.hidden_size})),
      norm2_weight_(layer.get("layer_norm2.weight", {config.hidden_size})),
      norm2_bias_(layer.get("layer_norm2.bias", {config.hidden_size})),
      q_(layer.linear("self_attn.q_proj", config.hidden_size, config.hidden_size, true)),
      k_(layer.linear("self_attn.k_proj", config.hidden_size, config.hidden_size, true)),
      v_(layer.linear("self_attn.v_proj", config.hidden_size, config.hidden_size, true)),
      out_(layer.linear("self_attn.out_proj", config.hidden_size, config.hidden_size, true)),
      fc1_(layer.linear("mlp.fc1", config.hidden_size, config.intermediate_size, true)),
      fc2_(layer.linear("mlp.fc2", config.intermediate_size, config.hidden_size, true)) {}

at::Tensor VisionLayer::attend(const LinearInput& x, const at::Tensor& residual) const {
  const auto heads = [&](const at::Tensor& projected) {
    return projected.reshape({residual.size(0), config_.heads, -1})
        .transpose(0, 1);  // [heads, tokens, head_dim]
  };
  const at::Tensor mixed =
      attention(heads(q_.forward(x)), heads(k_.forward(x)), heads(v_.forward(x)), /*causal=*/false);
  return out_.forward(mixed, add_to(residual));
}

at::Tensor VisionLayer::forward(const at::Tensor& x) const {
  const double eps = config_.layer_norm_eps;
  const at::Tensor middle =
      attend(at::layer_norm(x, {config_.hidden_size}, norm1_weight_, norm1_bias_, eps), x);
  const at::Tensor normed =
      at::layer_norm(middle, {config_.hidden_size}, norm2_weight_, norm2_bias_, eps);
  return fc2_.forward(fc1_.forward(normed, {.function = config_.activation}), add_to(middle));
}

std::vector<NamedLinear> VisionLayer::linears() {
  return {{"self_attn.q_proj", &q_, 0}, {"self_attn.k_proj", &k_, 0},
          {"self_attn.v_proj", &v_, 0}, {"self_attn.out_proj", &out_, 1},
          {"mlp.fc1", &fc1_, 2},        {"mlp.fc2", &fc2_, 3}};
}

std::vector<std::pair<std::string, at::Tensor*>> VisionLayer::norm_gains() {
  return {{"layer_norm1.weight", &norm1_weight_}, {"layer_norm2.weight", &norm2_weight_}};
}

std::int64_t needed_vision_layers(const ModelConfig& config) {
  std::int64_t needed = 0;
  for (const std::int64_t layer : config.vision_feature_layers)
    needed = std::max(needed, state_index(layer, config));
  return needed;
}

at::Tensor select_features(const std::vector<at::Tensor>& states, const ModelConfig& config) {
  std::vector<at::Tensor> selected;
  for (const std::int64_t layer : config.vision_feature_layers) {
    const at::Tensor& state = states[static_cast<std::size_t>(state_index(layer, config))];
    selected.push_back(config.feature_selection == FeatureSelection::kDefault ? state.slice(0, 1)
                                                                              : state);
  }
  return at::cat(selected, -1);
}

VisionTower::VisionTower(const Weights& tower, const ModelConfig& config)
    : config_(config), embedding_(tower, config.vision) {
  for (std::int64_t i = 0; i < needed_vision_layers(config); ++i) {
    layers_.emplace_back(tower.scope("encoder.layers." + std::to_string(i)), config.vision);
  }
}

at::Tensor VisionTower::forward(const at::Tensor& pixels, const std::stop_token& cancel) const {
  std::vector<at::Tensor> states = {embedding_.forward(pixels)};
  for (const VisionLayer& layer : layers_) {
    throw_if_cancelled(cancel);
    states.push_back(layer.forward(states.back()));
  }
  return select_features(states, config_);
}

}  // namespace qvlm
