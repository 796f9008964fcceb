#include "pipeline/transform_run.h"

#include <utility>

#include "base/error.h"
#include "base/process_memory.h"
#include "model/checkpoint_weights.h"
#include "pipeline/decoder_inputs.h"
#include "search/trial_layer.h"
#include "transforms/rotate.h"
#include "transforms/scale_search.h"
#include "transforms/smooth.h"

namespace qvlm {
namespace {

// One smoothing of the recipe.
struct SmoothStep {
  std::int64_t first = 0;  // of its layers in the journal
  Smoothing smoothing;
  std::optional<double> alpha;  // nothing: searched
};

class Transforms {
 public:
  Transforms(const Checkpoint& checkpoint,
             const LinearSchemes& schemes,
             const CalibrationSamples& samples,
             const ProgressCallback& progress,
             const Resumable& resumable)
      : config_(load_model_config(checkpoint)),
        schemes_(schemes),
        samples_(samples),
        progress_(progress),
        resumable_(resumable),
        weights_(
            std::make_shared<TransformedWeights>(std::make_shared<CheckpointWeights>(checkpoint))) {
  }

  // Whether it was not stopped.
  bool run(const std::vector<Transform>& transforms);
  std::shared_ptr<const TransformedWeights> weights() const { return weights_; }

 private:
  bool smooth(const SmoothStep& step);
  TensorMaps smooth(const SmoothStep& step, const TrialLayer& layer, const Unit& unit);
  MeasuredInputs measure_inputs(const TrialLayer& layer, bool rows) const;

  ModelConfig config_;
  const LinearSchemes& schemes_;
  const CalibrationSamples& samples_;
  const ProgressCallback& progress_;
  const Resumable& resumable_;
  std::shared_ptr<TransformedWeights> weights_;
  States states_;  // in front of the layer that is smoothed
};

// The inputs of a layer's linears when it runs in float.
MeasuredInputs Transforms::measure_inputs(const TrialLayer& layer, bool rows) const {
  MeasuredInputs inputs(DecoderLayer::kInputs);
  for (auto& [name, statistics] : layer.measure_statistics(states_))
    inputs[static_cast<std::size_t>(DecoderLayer::input_of(name))].statistics =
        std::move(statistics);
  if (!rows) return inputs;
  std::vector<at::Tensor> sampled = layer.sample_inputs(states_, ScaleSearch::kTokens);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    inputs[i].rows = std::move(sampled[i]);
  return inputs;
}

TensorMaps Transforms::smooth(const SmoothStep& step, const TrialLayer& layer, const Unit& unit) {
  const Smoothing& smoothing = step.smoothing;
  SearchJournal* const journal = resumable_.journal;
  const Alphas* known =
      journal != nullptr && !step.alpha ? journal->find_alphas(step.first + unit.index) : nullptr;
  const bool searches = !step.alpha && known == nullptr;
  const MeasuredInputs inputs =
      measure_inputs(layer, searches || smoothing.rule == ScaleRule::kAwq);
  Alphas alphas;
  if (searches) {
    alphas = search_alphas(config_, *weights_, unit.index, inputs, schemes_, smoothing);
    if (journal != nullptr) journal->add_alphas(alphas);
  } else {
    alphas = known != nullptr ? *known : same_alphas(config_, *step.alpha, smoothing);
  }
  return smooth_layer(config_, *weights_, unit.index, inputs, alphas, smoothing);
}

// One layer in memory at a time: the weights' function stays as it is, so each may be measured as
// if none had been smoothed.
bool Transforms::smooth(const SmoothStep& step) {
  require(!samples_.samples.empty(), ErrorKind::kInternal, "smoothing has no samples");
  const Weights root(weights_, Execution::kFloat);
  states_.clear();
  states_ = run_to_decoder(root, config_, samples_.samples);
  TensorMaps maps;
  const LinearSchemes nothing_rounded;
  for (const Unit& unit : decoder_units(config_)) {
    if (resumable_.stop_requested && resumable_.stop_requested()) return false;
    if (progress_) progress_({unit.index, config_.text.layers, "smooth " + unit.name});
    const TrialLayer layer(unit, root, config_, nothing_rounded);
    maps.merge(smooth(step, layer, unit));
    states_ = layer.run_float(states_);
    return_freed_memory();
  }
  weights_->add(std::move(maps));
  return true;
}

// The rotation behind this transform, if there is one. Of several the first, which turns the
// residual stream if any of them does.
std::optional<RotateOptions> next_rotation(const std::vector<Transform>& transforms,
                                           std::size_t from) {
  std::optional<RotateOptions> next;
  for (std::size_t i = from; i < transforms.size(); ++i) {
    const auto* rotate = std::get_if<RotateOptions>(&transforms[i]);
    if (rotate == nullptr) continue;
    if (!next) next = *rotate;
    if (next->residual_stream == false) next->residual_stream = rotate->residual_stream;
  }
  return next;
}

bool Transforms::run(const std::vector<Transform>& transforms) {
  std::int64_t searched = 0;  // layers of the smoothings before
  for (std::size_t i = 0; i < transforms.size(); ++i) {
    if (const auto* rotate = std::get_if<RotateOptions>(&transforms[i])) {
      weights_->add(make_rotation(config_, *weights_, *rotate));
      continue;
    }
    const auto* smooth_options = std::get_if<SmoothOptions>(&transforms[i]);
    const ScaleRule rule = smooth_options != nullptr ? ScaleRule::kSmoothQuant : ScaleRule::kAwq;
    SmoothStep step{searched, {rule, next_rotation(transforms, i + 1)}, {}};
    if (smooth_options != nullptr) step.alpha = smooth_options->alpha;
    if (!smooth(step)) return false;
    if (!step.alpha) searched += config_.text.layers;
  }
  return true;
}

}  // namespace

void check_transforms(const Checkpoint& checkpoint, const Recipe& recipe) {
  const ModelConfig config = load_model_config(checkpoint);
  const CheckpointWeights weights(checkpoint);
  for (const Transform& transform : recipe.transforms) {
    if (const auto* rotate = std::get_if<RotateOptions>(&transform))
      make_rotation(config, weights, *rotate);
  }
}

std::shared_ptr<const TransformedWeights> transform_weights(const Checkpoint& checkpoint,
                                                            const Recipe& recipe,
                                                            const LinearSchemes& schemes,
                                                            const CalibrationSamples& samples,
                                                            const ProgressCallback& progress,
                                                            const Resumable& resumable) {
  Transforms transforms(checkpoint, schemes, samples, progress, resumable);
  return transforms.run(recipe.transforms) ? transforms.weights() : nullptr;
}

}  // namespace qvlm
