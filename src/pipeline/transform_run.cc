#include "pipeline/transform_run.h"

#include <map>

#include "base/error.h"
#include "base/process_memory.h"
#include "model/checkpoint_weights.h"
#include "pipeline/decoder_inputs.h"
#include "pipeline/dependencies.h"
#include "search/trial_layer.h"
#include "transforms/rotate.h"
#include "transforms/smooth.h"

namespace qvlm {
namespace {

// Tokens that a search of scales looks at.
constexpr std::int64_t kSearchedTokens = 1024;

// The inputs of a layer's linears when it runs in float.
MeasuredInputs measure_inputs(const TrialLayer& layer, const States& states, bool rows) {
  std::vector<at::Tensor> own(DecoderLayer::kInputs);
  if (rows) own = layer.sample_inputs(states, kSearchedTokens);
  MeasuredInputs inputs;
  for (auto& [name, statistics] : layer.measure_statistics(states)) {
    const auto input = static_cast<std::size_t>(DecoderLayer::input_of(name));
    inputs[name] = {std::move(statistics), own[input]};
  }
  return inputs;
}

// Scales for all layers, one layer in memory at a time: the weights' function stays as it is, so
// each may be measured as if none had been smoothed.
template <typename Options>
TensorMaps smooth_decoder(const std::shared_ptr<const WeightSource>& weights,
                          const ModelConfig& config,
                          const LinearSchemes& schemes,
                          const CalibrationSamples& samples,
                          const Options& options,
                          const ProgressCallback& progress) {
  require(!samples.samples.empty(), ErrorKind::kInternal, "smoothing has no samples");
  const Weights root(weights, Execution::kFloat);
  States states = run_to_decoder(root, config, samples.samples);
  TensorMaps maps;
  const LinearSchemes nothing_rounded;
  for (const Unit& unit : decoder_units(config)) {
    if (progress) progress({unit.index, config.text.layers, "inputs of " + unit.name});
    const TrialLayer layer(unit, root, config, nothing_rounded);
    const MeasuredInputs inputs = measure_inputs(layer, states, searches_scales(options));
    maps.merge(smooth_layer(config, *weights, unit.index, inputs, schemes, options));
    states = layer.run_float(states);
    return_freed_memory();
  }
  return maps;
}

}  // namespace

std::shared_ptr<const TransformedWeights> transform_weights(const Checkpoint& checkpoint,
                                                            const Recipe& recipe,
                                                            const LinearSchemes& schemes,
                                                            const CalibrationSamples& samples,
                                                            const ProgressCallback& progress) {
  const ModelConfig config = load_model_config(checkpoint);
  auto weights =
      std::make_shared<TransformedWeights>(std::make_shared<CheckpointWeights>(checkpoint));
  const auto smooth = [&](const auto& options) {
    weights->add(smooth_decoder(weights, config, schemes, samples, options, progress));
  };
  for (const Transform& transform : recipe.transforms) {
    if (const auto* rotate = std::get_if<RotateOptions>(&transform)) {
      weights->add(make_rotation(config, *weights, *rotate));
    } else if (const auto* awq = std::get_if<AwqOptions>(&transform)) {
      smooth(*awq);
    } else {
      smooth(std::get<SmoothOptions>(transform));
    }
  }
  return weights;
}

}  // namespace qvlm
