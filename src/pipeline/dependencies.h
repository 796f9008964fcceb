// What the planner wants to know about the decoder's layers: how much neighbours depend on each
// other (entropy), what rounding each costs (error), what joint search gains (the discretization
// error difference, DED). Layers are loaded one block at a time.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "calib/statistics.h"
#include "io/declare_quantization.h"
#include "model/unit.h"
#include "pipeline/decoder_inputs.h"
#include "search/block_search.h"
#include "search/token_errors.h"
#include "search/token_importance.h"

namespace qvlm {

// What all measurements stand on. References are not owned.
struct DecoderStudy {
  const Weights& root;  // float
  const ModelConfig& config;
  const LinearSchemes& schemes;
  const SearchOptions& search;
  const RoundingOptions& rounding;
  double tau = 0.25;
  std::function<void(const std::string& what)> on_forward;  // after every layer-forward; or empty
  std::set<std::string, std::less<>> unclipped = {};        // linears that no clip is searched for
  TokenImportance importance = {};  // where `search` or `rounding` ask for gradients
};

// What tokens count by gradients, its forwards counted; see measure_token_importance() of weights.
TokenImportance measure_token_importance(const DecoderStudy& study,
                                         const DecoderInputs& inputs,
                                         const std::function<bool()>& stop_requested = {});

// What the tokens of all samples count in errors of the search.
TokenCounts count_tokens(const DecoderStudy& study, const DecoderInputs& inputs);

struct LayerDependencies {
  std::vector<double> dependency;  // D(k, k+1) of the outputs of layers k and k+1; layers - 1
  // Per layer: the entropy of its output's codes, the share of the most frequent code (near 1:
  // outliers have collapsed the codes and the entropy says nothing), seconds of one float forward.
  std::vector<double> entropy, level_share, forward_seconds;
  // Relative error at a layer's output when only that layer is rounded, unclipped; empty unless
  // asked for, as it takes a second forward of every layer.
  std::vector<double> error;
  // Of the inputs of all linears, by whole names; empty unless asked for.
  std::map<std::string, InputStatistics> statistics;
};

// What is measured beside entropies; each takes another forward of every layer.
struct ExtraMeasures {
  bool errors = false;
  bool statistics = false;
};

// One float pass over the decoder. `inputs`: the states before its first layer.
LayerDependencies measure_dependencies(const DecoderStudy& study,
                                       const States& inputs,
                                       const ExtraMeasures& extra);

// Errors of greedy and joint search of `depth` layers from layer `first` on, for depths from 1 to
// the tree's: gain[d] = greedy - joint error of depth d + 1, never negative; gain[0] = 0.
struct JointGain {
  std::vector<double> greedy_error, joint_error, gain;
  std::int64_t forwards = 0;
};

// Measures every start layer up to max_depth, from inputs that the greedy choices below left: what
// equation 4 calls DED. Costs (c + c^2 + ... ) layer-forwards a layer.
std::vector<JointGain> measure_joint_gains(const DecoderStudy& study,
                                           const DecoderInputs& inputs,
                                           int max_depth);

}  // namespace qvlm
