#include "search/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "search/trial_layer.h"

namespace qvlm {

std::vector<std::vector<double>> combine_changes(const std::vector<AnswerChange>& changes,
                                                 std::int64_t positions) {
  const std::size_t count = changes.size();
  const double half_mean = 0.5 / static_cast<double>(positions * Sensitivity::kDraws);
  std::vector<std::vector<double>> error(count, std::vector<double>(count, 0.0));
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      const double product =
          std::inner_product(changes[i].begin(), changes[i].end(), changes[j].begin(), 0.0);
      error[i][j] = error[j][i] = half_mean * std::max(product, 0.0);
    }
  }
  return error;
}

Sensitivity::Sensitivity(const Weights& root,
                         const ModelConfig& config,
                         const States& inputs,
                         const std::vector<std::vector<TokenKind>>& kinds,
                         std::size_t first,
                         std::function<void()> on_forward)
    : root_(root),
      config_(config),
      on_forward_(std::move(on_forward)),
      units_(decoder_units(config)),
      decoder_(root, config) {
  const AnswerLogits answers(decoder_.weights(), config, kinds);
  trajectory_ = decoder_.run(inputs, on_forward_);
  gradients_ = answers.draw_gradients(trajectory_.back(), kDraws, first);
  layer_ = units_.size() - 1;
}

void Sensitivity::count(std::int64_t forwards) const {
  for (std::int64_t i = 0; on_forward_ && i < forwards; ++i)
    on_forward_();
}

std::vector<AnswerChange> Sensitivity::measure(const std::vector<LinearSchemes>& variants) const {
  const States& before = trajectory_.at(layer_);
  std::vector<AnswerChange> changes;
  for (const LinearSchemes& variant : variants) {
    TrialLayer trial(units_[layer_], root_, config_, variant);
    trial.measure_scales(before, {1.0});
    changes.push_back(compare(trial.run(before, LayerClips(DecoderLayer::kInputs))));
    count(1);
  }
  return changes;
}

AnswerChange Sensitivity::compare(const States& states) const {
  const States& exact = trajectory_.at(layer_ + 1);
  AnswerChange change(states.size() * kDraws);
  for_samples(states.size(), [&](std::size_t sample) {
    const c10::InferenceMode inference;
    const at::Tensor difference = states[sample] - exact[sample];
    for (std::size_t draw = 0; draw < kDraws; ++draw) {
      const at::Tensor product = difference * gradients_[sample][draw];
      change[sample * kDraws + draw] = product.sum(at::kDouble).item<double>();
    }
  });
  require(std::ranges::all_of(change, [](double value) { return std::isfinite(value); }),
          ErrorKind::kCorrupt, units_[layer_].name,
          ": rounded, it makes states that are not finite");
  return change;
}

void Sensitivity::descend() {
  gradients_ = decoder_.pull_back_layer(layer_, trajectory_.at(layer_), gradients_);
  trajectory_.pop_back();
  --layer_;
  count(kForwards);
}

}  // namespace qvlm
