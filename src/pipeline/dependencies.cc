#include "pipeline/dependencies.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>

#include "search/decoder_block.h"
#include "search/neighbour_entropy.h"

namespace qvlm {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A window of float states and layers that moves up the decoder one layer at a time.
class Window {
 public:
  Window(const DecoderStudy& study, States exact) : study_(study), exact_({std::move(exact)}) {}

  // Loads layers and float states until `depth` layers from `first` on are there, as far as there
  // are any; drops what lies below.
  void move(std::int64_t first, int depth) {
    while (first_ < first) {
      layers_.pop_front();
      exact_.pop_front();
      ++first_;
    }
    const std::vector<Unit> units = decoder_units(study_.config);
    while (static_cast<int>(layers_.size()) < depth && next() < units.size()) {
      layers_.push_back(
          std::make_unique<TrialLayer>(units[next()], study_.root, study_.config, study_.schemes));
      layers_.back()->measure_scales(exact_.back(), study_.search.activation_clip);
      exact_.push_back(layers_.back()->run_float(exact_.back()));
    }
  }

  std::vector<TrialLayer*> layers() const {
    std::vector<TrialLayer*> all;
    for (const auto& layer : layers_)
      all.push_back(layer.get());
    return all;
  }
  // Float states behind each of the layers.
  std::vector<States> references() const { return {exact_.begin() + 1, exact_.end()}; }

 private:
  std::size_t next() const { return static_cast<std::size_t>(first_) + layers_.size(); }

  const DecoderStudy& study_;
  std::int64_t first_ = 0;
  std::deque<std::unique_ptr<TrialLayer>> layers_;
  std::deque<States> exact_;  // before the first layer, behind it, ...
};

// Relative error at a layer's output when only it is rounded, unclipped.
double rounding_error(const DecoderStudy& study,
                      TrialLayer& layer,
                      const States& before,
                      const States& exact) {
  const Candidates candidates(study.search, DecoderLayer::kInputs);
  layer.measure_scales(before, study.search.activation_clip);
  const States rounded = layer.run(before, candidates.clips(candidates.shared().front()));
  if (study.on_forward) study.on_forward("dependencies");
  return state_error(rounded, exact, {ErrorMeasure::kRelative});
}

JointGain gain_of(const ErrorTree& tree, int max_depth) {
  JointGain result;
  for (int depth = 1; depth <= max_depth; ++depth) {
    const TreeChoice choice = choose(tree, depth);
    result.greedy_error.push_back(choice.greedy_error);
    result.joint_error.push_back(choice.best_error);
    result.gain.push_back(choice.greedy_error - choice.best_error);
  }
  result.forwards = static_cast<std::int64_t>(tree.size());
  return result;
}

}  // namespace

TokenImportance measure_token_importance(const DecoderStudy& study,
                                         const DecoderInputs& inputs,
                                         const std::function<bool()>& stop_requested) {
  const auto count = [&] {
    if (study.on_forward) study.on_forward("token weights");
  };
  return measure_token_importance(study.root, study.config, inputs.exact, inputs.kinds, count,
                                  stop_requested);
}

TokenCounts count_tokens(const DecoderStudy& study, const DecoderInputs& inputs) {
  TokenCounts counts{
      study.search.error, make_token_weights(inputs.kinds, study.search.token_weights), {}};
  if (study.search.by_gradient) counts.by_gradient = study.importance.outputs;
  return counts;
}

LayerDependencies measure_dependencies(const DecoderStudy& study,
                                       const States& inputs,
                                       const ExtraMeasures& extra) {
  LayerDependencies result;
  NeighbourEntropy entropy(study.tau);
  States states = inputs;
  for (const Unit& unit : decoder_units(study.config)) {
    TrialLayer layer(unit, study.root, study.config, study.schemes);
    const auto start = std::chrono::steady_clock::now();
    States next = layer.run_float(states);
    result.forward_seconds.push_back(seconds_since(start));
    if (study.on_forward) study.on_forward("dependencies");
    if (extra.statistics) result.statistics.merge(layer.measure_statistics(states));
    if (extra.errors) result.error.push_back(rounding_error(study, layer, states, next));
    entropy.add(next);
    states = std::move(next);
  }
  result.dependency = entropy.dependency();
  result.entropy = entropy.entropy();
  result.level_share = entropy.level_share();
  return result;
}

std::vector<JointGain> measure_joint_gains(const DecoderStudy& study,
                                           const DecoderInputs& inputs,
                                           int max_depth) {
  std::vector<JointGain> gains;
  Window window(study, inputs.exact);
  States states = inputs.rounded;
  const TokenCounts counts = count_tokens(study, inputs);
  const auto layers = static_cast<std::int64_t>(decoder_units(study.config).size());
  for (std::int64_t first = 0; first < layers; ++first) {
    window.move(first, max_depth);
    const std::vector<TrialLayer*> block = window.layers();
    const std::vector<States> references = window.references();
    const Candidates candidates(study.search, DecoderLayer::kInputs);
    DecoderBlock trial(block, candidates, states, references, counts.terms(first, references), [&] {
      if (study.on_forward) study.on_forward("joint gains");
    });
    const ErrorTree tree = measure_error_tree(trial, candidates);
    gains.push_back(gain_of(tree, trial.depth()));
    const int greedy = choose(tree, 1).greedy.front();
    states = trial.run(0, candidates.shared()[static_cast<std::size_t>(greedy)], states);
  }
  return gains;
}

}  // namespace qvlm
