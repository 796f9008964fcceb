#include "pipeline/transform_run.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/process_memory.h"
#include "model/checkpoint_weights.h"
#include "model/linear_list.h"
#include "pipeline/decoder_inputs.h"
#include "search/trial_layer.h"
#include "transforms/massive_channels.h"
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
  const std::vector<std::int64_t>& massive_channels() const { return massive_; }

 private:
  // Shows every layer, in float, with the states in front of it. Whether it was not stopped.
  using SeeLayer = std::function<void(const Unit&, const TrialLayer&, const States&)>;
  bool walk_decoder(const std::vector<StreamedSample>& samples,
                    const std::string& what,
                    const SeeLayer& see);
  bool find_massive_channels();
  void add_readers(std::int64_t layer, MassiveChannels& channels) const;
  // Channels of the residual stream that this rotation leaves.
  std::vector<std::int64_t> left_by(const RotateOptions& rotate) const {
    return keeps_massive_apart(config_, rotate) ? massive_ : std::vector<std::int64_t>();
  }
  bool smooth(const SmoothStep& step);
  TensorMaps smooth_unit(const SmoothStep& step,
                         const Unit& unit,
                         const TrialLayer& layer,
                         const States& states) const;

  ModelConfig config_;
  const LinearSchemes& schemes_;
  const CalibrationSamples& samples_;
  const ProgressCallback& progress_;
  const Resumable& resumable_;
  std::shared_ptr<TransformedWeights> weights_;
  std::vector<std::int64_t> massive_;  // channels that rotations leave
};

// One layer in memory at a time.
bool Transforms::walk_decoder(const std::vector<StreamedSample>& samples,
                              const std::string& what,
                              const SeeLayer& see) {
  require(!samples.empty(), ErrorKind::kInternal, what, ": no samples");
  const Weights root(weights_, Execution::kFloat);
  const LinearSchemes nothing_rounded;
  States states = run_to_decoder(root, config_, samples);
  for (const Unit& unit : decoder_units(config_)) {
    if (resumable_.stop_requested && resumable_.stop_requested()) return false;
    if (progress_) progress_({unit.index, config_.text.layers, what + " " + unit.name});
    const TrialLayer layer(unit, root, config_, nothing_rounded);
    see(unit, layer, states);
    states = layer.run_float(states);
    return_freed_memory();
  }
  return true;
}

void Transforms::add_readers(std::int64_t layer, MassiveChannels& channels) const {
  const std::vector<LinearShape> linears = list_linears(config_);
  for (const StreamReaders& readers : stream_readers(layer)) {
    const at::Tensor gain =
        weights_->load(readers.norm + ".weight", {config_.text.hidden_size}).to(at::kFloat);
    for (const LinearShape& linear : linears) {
      if (std::ranges::find(readers.linears, linear.name) == readers.linears.end()) continue;
      const at::Tensor weight = weights_->load(linear.name + ".weight", {linear.out, linear.in});
      channels.add_reader(weight.to(at::kFloat) * gain);
    }
  }
}

// Whether it was not stopped. On some samples: what holds much of every token shows on few.
bool Transforms::find_massive_channels() {
  const std::size_t count = std::min(MassiveChannels::kSamples, samples_.samples.size());
  MassiveChannels found;
  const SeeLayer see = [&](const Unit& unit, const TrialLayer&, const States& states) {
    for (const at::Tensor& state : states)
      found.add(state);
    add_readers(unit.index, found);
  };
  if (!walk_decoder(slice(samples_.samples, 0, count), "massive channels", see)) return false;
  massive_ = found.find();
  return true;
}

// The inputs of a layer's linears when it runs in float.
MeasuredInputs measure_inputs(const TrialLayer& layer, const States& states, bool rows) {
  MeasuredInputs inputs(DecoderLayer::kInputs);
  for (auto& [name, statistics] : layer.measure_statistics(states))
    inputs[static_cast<std::size_t>(DecoderLayer::input_of(name))].statistics =
        std::move(statistics);
  if (!rows) return inputs;
  std::vector<at::Tensor> sampled = layer.sample_inputs(states, ScaleSearch::kTokens);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    inputs[i].rows = std::move(sampled[i]);
  return inputs;
}

TensorMaps Transforms::smooth_unit(const SmoothStep& step,
                                   const Unit& unit,
                                   const TrialLayer& layer,
                                   const States& states) const {
  const Smoothing& smoothing = step.smoothing;
  SearchJournal* const journal = resumable_.journal;
  const Alphas* known =
      journal != nullptr && !step.alpha ? journal->find_alphas(step.first + unit.index) : nullptr;
  const bool searches = !step.alpha && known == nullptr;
  const MeasuredInputs inputs =
      measure_inputs(layer, states, searches || smoothing.rule == ScaleRule::kAwq);
  Alphas alphas;
  if (searches) {
    alphas = search_alphas(config_, *weights_, unit.index, inputs, schemes_, smoothing);
    if (journal != nullptr) journal->add_alphas(alphas);
  } else {
    alphas = known != nullptr ? *known : same_alphas(config_, *step.alpha, smoothing);
  }
  return smooth_layer(config_, *weights_, unit.index, inputs, alphas, smoothing);
}

// The weights' function stays as it is, so each layer may be measured as if none had been smoothed.
bool Transforms::smooth(const SmoothStep& step) {
  TensorMaps maps;
  const SeeLayer see = [&](const Unit& unit, const TrialLayer& layer, const States& states) {
    maps.merge(smooth_unit(step, unit, layer, states));
  };
  if (!walk_decoder(samples_.samples, "smooth", see)) return false;
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
  if (keeps_massive_apart(config_, transforms) && !find_massive_channels()) return false;
  std::int64_t searched = 0;  // layers of the smoothings before
  for (std::size_t i = 0; i < transforms.size(); ++i) {
    if (const auto* rotate = std::get_if<RotateOptions>(&transforms[i])) {
      const std::vector<std::int64_t> left = left_by(*rotate);
      if (!left.empty()) {
        if (!smooth({searched, {ScaleRule::kSmoothQuant, *rotate, left}, {}})) return false;
        searched += config_.text.layers;
      }
      weights_->add(make_rotation(config_, *weights_, *rotate, left));
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

TransformedModel transform_weights(const Checkpoint& checkpoint,
                                   const Recipe& recipe,
                                   const LinearSchemes& schemes,
                                   const CalibrationSamples& samples,
                                   const ProgressCallback& progress,
                                   const Resumable& resumable) {
  Transforms transforms(checkpoint, schemes, samples, progress, resumable);
  if (!transforms.run(recipe.transforms)) return {};
  return {transforms.weights(), transforms.massive_channels()};
}

}  // namespace qvlm
