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

// Statistics of the inputs of the decoder's linears in a float run, by whole names.
std::map<std::string, InputStatistics> measure_inputs(std::shared_ptr<const WeightSource> weights,
                                                      const ModelConfig& config,
                                                      const CalibrationSamples& samples,
                                                      const ProgressCallback& progress) {
  require(!samples.samples.empty(), ErrorKind::kInternal, "smoothing has no samples");
  const Weights root(std::move(weights), Execution::kFloat);
  States states = run_to_decoder(root, config, samples.samples);
  std::map<std::string, InputStatistics> inputs;
  const LinearSchemes nothing_rounded;
  std::int64_t done = 0;
  for (const Unit& unit : decoder_units(config)) {
    if (progress) progress({done++, config.text.layers, "inputs of " + unit.name});
    const TrialLayer layer(unit, root, config, nothing_rounded);
    inputs.merge(layer.measure_statistics(states));
    states = layer.run_float(states);
    return_freed_memory();
  }
  return inputs;
}

}  // namespace

std::shared_ptr<const TransformedWeights> transform_weights(const Checkpoint& checkpoint,
                                                            const Recipe& recipe,
                                                            const CalibrationSamples& samples,
                                                            const ProgressCallback& progress) {
  const ModelConfig config = load_model_config(checkpoint);
  auto weights =
      std::make_shared<TransformedWeights>(std::make_shared<CheckpointWeights>(checkpoint));
  for (const Transform& transform : recipe.transforms) {
    if (const auto* smooth = std::get_if<SmoothOptions>(&transform)) {
      weights->add(make_smoothing(config, *weights,
                                  measure_inputs(weights, config, samples, progress), *smooth));
    } else {
      weights->add(make_rotation(config, *weights, std::get<RotateOptions>(transform)));
    }
  }
  return weights;
}

}  // namespace qvlm
