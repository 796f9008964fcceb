#include "model/projector.h"

namespace qvlm {
namespace {

std::int64_t feature_size(const ModelConfig& config) {
  return config.vision.hidden_size * static_cast<std::int64_t>(config.vision_feature_layers.size());
}

}  // namespace

Projector::Projector(const Weights& projector, const ModelConfig& config)
    : activation_(config.projector_activation),
      linear_1_(projector.linear(
          "linear_1", feature_size(config), config.text.hidden_size, config.projector_bias)),
      linear_2_(projector.linear(
          "linear_2", config.text.hidden_size, config.text.hidden_size, config.projector_bias)) {}

at::Tensor Projector::forward(const at::Tensor& features) const {
  return linear_2_.forward(linear_1_.forward(features, {.function = activation_}));
}

std::vector<NamedLinear> Projector::linears() {
  return {{"linear_1", &linear_1_, 0}, {"linear_2", &linear_2_, 1}};
}

}  // namespace qvlm
