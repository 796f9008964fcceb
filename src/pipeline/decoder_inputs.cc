#include "pipeline/decoder_inputs.h"

#include <algorithm>

#include "model/linear_list.h"

namespace qvlm {

States run_to_decoder(const Weights& root,
                      const ModelConfig& config,
                      std::vector<StreamedSample> samples) {
  for (const Unit& unit : list_units(config)) {
    if (unit.kind == UnitKind::kDecoderLayer) break;
    run_unit(unit, root, config, samples);
  }
  States states;
  for (StreamedSample& sample : samples)
    states.push_back(std::move(sample.hidden));
  return states;
}

DecoderInputs run_to_decoder(const std::shared_ptr<const WeightSource>& floats,
                             const ModelConfig& config,
                             const LinearSchemes& schemes,
                             const ReplacedTensors& replaced,
                             const RoundedLinears& codes,
                             const CalibrationSamples& samples) {
  DecoderInputs inputs;
  inputs.kinds = samples.kinds;
  inputs.exact = run_to_decoder(Weights(floats, Execution::kFloat), config, samples.samples);
  const bool rounds =
      std::ranges::any_of(schemes, [](const auto& entry) { return is_in_encoder(entry.first); });
  if (!rounds) {
    inputs.rounded = inputs.exact;
    return inputs;
  }
  const auto rounded = std::make_shared<RoundedWeights>(floats, schemes, replaced, codes);
  inputs.rounded = run_to_decoder(Weights(rounded, Execution::kPacked), config, samples.samples);
  return inputs;
}

}  // namespace qvlm
