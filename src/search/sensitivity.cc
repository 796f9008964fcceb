#include "search/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/parallel.h"
#include "search/trial_layer.h"
#include "search/wide_weights.h"

namespace qvlm {
namespace {

// The lower triangle; each sum on one thread.
std::vector<std::vector<double>> multiply_directions(const std::vector<AnswerEffect>& effects) {
  std::vector<std::vector<double>> products(effects.size());
  for_samples(effects.size(), [&](std::size_t i) {
    const c10::InferenceMode inference;
    for (std::size_t j = 0; j <= i; ++j) {
      const at::Tensor product = effects[i].direction * effects[j].direction;
      products[i].push_back(product.sum(at::kDouble).item<double>());
    }
  });
  return products;
}

}  // namespace

std::vector<std::vector<double>> combine_effects(const std::vector<AnswerEffect>& effects) {
  const std::size_t count = effects.size();
  std::vector<std::vector<double>> error(count, std::vector<double>(count, 0.0));
  const std::vector<std::vector<double>> products = multiply_directions(effects);
  for (std::size_t i = 0; i < count; ++i) {
    error[i][i] = effects[i].divergence;
    for (std::size_t j = 0; j < i; ++j) {
      const double lengths = std::sqrt(products[i][i]) * std::sqrt(products[j][j]);
      if (lengths == 0.0) continue;
      const double cosine = std::max(products[i][j] / lengths, 0.0);
      error[i][j] = error[j][i] = cosine * std::sqrt(effects[i].divergence * effects[j].divergence);
    }
  }
  return error;
}

Sensitivity::Sensitivity(const Weights& root,
                         const ModelConfig& config,
                         States inputs,
                         const std::vector<std::vector<TokenKind>>& kinds,
                         std::function<void()> on_forward)
    : root_(root),
      wide_(std::make_shared<WideWeights>(root), Execution::kFloat),
      config_(config),
      on_forward_(std::move(on_forward)),
      units_(decoder_units(config)),
      answers_(wide_, config, kinds),
      rope_(config.text.rope, config.text.head_dim),
      exact_(std::move(inputs)) {
  std::vector<States> states = {exact_};
  for (std::size_t i = 0; i < units_.size(); ++i)
    run_float(i, states);
  reference_ = answers_.log_probabilities(states.front());
}

void Sensitivity::run_float(std::size_t layer, std::vector<States>& variants) const {
  const DecoderLayer loaded(wide_.scope(units_[layer].name), config_.text);
  for (States& states : variants) {
    states = map_states(
        states, [&](const at::Tensor& x) { return loaded.forward(x, rope_.angles(0, x.size(0))); });
    if (on_forward_) on_forward_();
  }
}

std::vector<AnswerEffect> Sensitivity::measure(const std::vector<LinearSchemes>& variants) const {
  std::vector<States> states;
  for (const LinearSchemes& variant : variants) {
    TrialLayer trial(units_.at(layer_), root_, config_, variant);
    trial.measure_scales(exact_, {1.0});
    states.push_back(trial.run(exact_, LayerClips(DecoderLayer::kInputs)));
    if (on_forward_) on_forward_();
  }
  for (std::size_t i = layer_ + 1; i < units_.size(); ++i)
    run_float(i, states);
  std::vector<AnswerEffect> effects;
  for (const States& variant : states)
    effects.push_back(compare(variant));
  return effects;
}

AnswerEffect Sensitivity::compare(const States& states) const {
  const at::Tensor result = answers_.log_probabilities(states);
  AnswerEffect effect;
  effect.divergence = mean_divergence(reference_, result);
  for_each_apart(1, [&](std::int64_t) {
    const at::Tensor p = reference_.exp(), change = result - reference_;
    effect.direction = p.sqrt() * (change - (p * change).sum(-1, /*keepdim=*/true));
  });
  require(std::isfinite(effect.divergence), ErrorKind::kCorrupt, units_[layer_].name,
          ": rounded, it makes logits that are not finite");
  return effect;
}

void Sensitivity::advance() {
  std::vector<States> states = {std::move(exact_)};
  run_float(layer_++, states);
  exact_ = std::move(states.front());
}

}  // namespace qvlm
