// The vision tower and the projector as a recipe quantizes them, simulated, with gradients with
// respect to what can be learned of the tower. What it is trained on is
// search/vision_encoder_loss.h, who trains it search/vision_encoder.h.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/hf_config.h"
#include "search/learned_layer.h"

namespace qvlm {

// What a run leaves for the pass back, one state a sample.
struct VisionTrace {
  std::vector<States> states;  // behind the embedding and behind every layer
  States features;             // selected ones
  States images;               // behind the projector
};

class LearnedTower {
 public:
  // root: float. Throws kUnsupported, naming the linear, for static activations.
  LearnedTower(const Weights& root,
               const ModelConfig& config,
               const TowerQuantization& quantization);

  std::vector<Parameter>& parameters() { return parameters_; }

  // embedded: the states behind the tower's embedding, which stays float.
  VisionTrace run(const States& embedded) const;
  // Adds to the gradients of the parameters what gradients at the images give.
  void pull_back(const VisionTrace& trace, const States& gradients);

  void clear_gradients();  // of the parameters

  LinearSchemes schemes() const;                         // of the linears whose clips are learned
  std::map<std::string, at::Tensor> norm_gains() const;  // of learned gains, by whole names

 private:
  at::Tensor project(const at::Tensor& features) const;
  // Gradients at trace.states, undefined where a state is not selected.
  std::vector<States> pull_back_to_states(const VisionTrace& trace, const States& gradients) const;

  ModelConfig config_;
  std::vector<Parameter> parameters_;
  std::vector<LearnedLayer> layers_;
  std::vector<Linear> projector_;  // float32 or rounded
};

}  // namespace qvlm
