// From measurements to a plan: which numbers each strategy wants.
#include "pipeline/decoder_search.h"

#include <algorithm>

#include "model/llama.h"

namespace qvlm {
namespace {

// Errors of single layers as a dependency of neighbours: the mean of the two.
std::vector<double> neighbour_means(const std::vector<double>& values) {
  std::vector<double> means;
  for (std::size_t i = 0; i + 1 < values.size(); ++i)
    means.push_back(0.5 * (values[i] + values[i + 1]));
  return means;
}

}  // namespace

SearchCost search_cost(const SearchOptions& options) {
  const Candidates candidates(options, DecoderLayer::kInputs);
  SearchCost cost;
  cost.method = options.method;
  cost.candidates = static_cast<int>(candidates.shared().size());
  cost.beam_width = options.beam_width;
  int choices = 0;
  for (const int values : candidates.axes())
    choices += values > 1 ? 1 : 0;
  cost.coordinates = std::max(1, choices);
  cost.sweeps = 2;  // usual; coordinate_descent.h has the most
  return cost;
}

PlanNumbers make_plan_numbers(PlanStrategy strategy,
                              const LayerDependencies& measured,
                              const std::vector<JointGain>& gains) {
  PlanNumbers numbers;
  numbers.units = static_cast<std::int64_t>(measured.forward_seconds.size());
  if (strategy == PlanStrategy::kEntropy) numbers.dependency = measured.dependency;
  if (strategy == PlanStrategy::kError) numbers.dependency = neighbour_means(measured.error);
  if (strategy != PlanStrategy::kOracle) return numbers;
  for (const JointGain& gain : gains)
    numbers.gain.push_back(gain.gain);
  return numbers;
}

PlannedDecoder plan_decoder(const DecoderStudy& study,
                            const PlanOptions& options,
                            const DecoderInputs& inputs) {
  // Every strategy makes the float pass: reports show the entropies whatever planned. The decoder
  // is given what the rounded tower makes, as moving the tower's clips is meant to lower its
  // entropies.
  const LayerDependencies measured = measure_dependencies(
      study, inputs.rounded, {.errors = options.strategy == PlanStrategy::kError});
  std::vector<JointGain> gains;
  if (options.strategy == PlanStrategy::kOracle)
    gains = measure_joint_gains(study, inputs, options.max_depth);
  const PlanNumbers numbers = make_plan_numbers(options.strategy, measured, gains);
  return {make_plan(options, numbers, search_cost(study.search)), measured.dependency};
}

}  // namespace qvlm
