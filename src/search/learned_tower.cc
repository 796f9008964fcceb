#include "search/learned_tower.h"

#include "model/functional.h"
#include "model/linear_list.h"
#include "search/differentiate.h"

namespace qvlm {
namespace {

// A linear as its scheme rounds it, with gradients through the rounding of its input; nothing of it
// is learned. `stored`: float.
Linear round_linear(const Linear& stored, const LinearScheme& scheme, CodeRounding rounding) {
  const auto clip = [](const Scheme& of) { return at::scalar_tensor(of.clip_ratio, at::kFloat); };
  const at::Tensor& weight = stored.dense_weight();
  const at::Tensor rounded = round_weight(weight.to(at::kFloat), clip(scheme.weight), scheme.weight,
                                          weight.scalar_type(), rounding);
  if (!scheme.activation) return Linear(rounded, stored.bias(), make_straight_bf16(rounding));
  return Linear(rounded, stored.bias(),
                make_learned_rounding(*scheme.activation, clip(*scheme.activation), rounding));
}

std::vector<Linear> load_projector(const Weights& root,
                                   const ModelConfig& config,
                                   const TowerQuantization& quantization) {
  std::vector<Linear> linears;
  for (const LinearShape& shape : list_linears(config)) {
    if (!shape.name.starts_with("projector.")) continue;
    const Linear stored = root.linear(shape.name, shape.in, shape.out, config.projector_bias);
    const auto scheme = quantization.schemes.find(shape.name);
    if (scheme == quantization.schemes.end()) {
      linears.emplace_back(stored.dense_weight().to(at::kFloat), stored.bias());
    } else {
      require_dynamic(scheme->second, shape.name);
      linears.push_back(round_linear(stored, scheme->second, quantization.rounding));
    }
  }
  return linears;
}

// The samples' n-th states.
std::vector<at::Tensor> states_of(const std::vector<States>& states, std::size_t sample) {
  std::vector<at::Tensor> own;
  for (const States& layer : states)
    own.push_back(layer[sample]);
  return own;
}

}  // namespace

LearnedTower::LearnedTower(const Weights& root,
                           const ModelConfig& config,
                           const TowerQuantization& quantization)
    : config_(config), projector_(load_projector(root, config, quantization)) {
  for (std::int64_t i = 0; i < needed_vision_layers(config); ++i) {
    layers_.emplace_back("vision_tower.encoder.layers." + std::to_string(i), root, config.vision,
                         quantization, parameters_);
  }
}

void LearnedTower::clear_gradients() {
  for (Parameter& parameter : parameters_)
    parameter.gradient = at::zeros_like(parameter.gradient);
}

at::Tensor LearnedTower::project(const at::Tensor& features) const {
  return projector_.at(1).forward(
      projector_.at(0).forward(features, {.function = config_.projector_activation}));
}

VisionTrace LearnedTower::run(const States& embedded) const {
  VisionTrace trace;
  trace.states.push_back(embedded);
  for (const LearnedLayer& layer : layers_)
    trace.states.push_back(layer.run(trace.states.back(), parameters_));
  for (std::size_t i = 0; i < embedded.size(); ++i)
    trace.features.push_back(select_features(states_of(trace.states, i), config_));
  trace.images = map_states(trace.features, [&](const at::Tensor& x) { return project(x); });
  return trace;
}

std::vector<States> LearnedTower::pull_back_to_states(const VisionTrace& trace,
                                                      const States& gradients) const {
  std::vector<States> result(trace.states.size(), States(gradients.size()));
  for_samples(gradients.size(), [&](std::size_t sample) {
    const at::Tensor at_features = qvlm::pull_back(trace.features[sample], gradients[sample],
                                                   [&](const at::Tensor& x) { return project(x); });
    const c10::InferenceMode with_gradients(false);
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& state : states_of(trace.states, sample))
      leaves.push_back(state.detach().set_requires_grad(true));
    select_features(leaves, config_).backward(at_features);
    for (std::size_t i = 0; i < leaves.size(); ++i)
      result[i][sample] = leaves[i].grad();
  });
  return result;
}

void LearnedTower::pull_back(const VisionTrace& trace, const States& gradients) {
  std::vector<States> own = pull_back_to_states(trace, gradients);
  for (std::size_t i = layers_.size(); i > 0; --i) {
    const States below = layers_[i - 1].pull_back(trace.states[i - 1], own[i], parameters_);
    for (std::size_t sample = 0; sample < below.size(); ++sample) {
      at::Tensor& sum = own[i - 1][sample];
      sum = sum.defined() ? sum + below[sample] : below[sample];
    }
  }
}

LinearSchemes LearnedTower::schemes() const {
  LinearSchemes result;
  for (const LearnedLayer& layer : layers_)
    layer.collect_schemes(parameters_, result);
  return result;
}

std::map<std::string, at::Tensor> LearnedTower::norm_gains() const {
  std::map<std::string, at::Tensor> result;
  for (const LearnedLayer& layer : layers_)
    layer.collect_gains(parameters_, result);
  return result;
}

}  // namespace qvlm
