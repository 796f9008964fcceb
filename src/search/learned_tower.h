// The vision tower and the projector as a recipe quantizes them, simulated, with gradients with
// respect to the tower's clip ratios and, where asked for, the gains of its norms. What it is
// trained on is search/vision_encoder_loss.h; who trains it is search/vision_encoder.h.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/declare_quantization.h"
#include "model/vit.h"
#include "search/learned_rounding.h"
#include "search/states.h"

namespace qvlm {

// What training moves: a clip ratio, or the ratios of a norm's gains to those of the float model.
struct Parameter {
  std::string name;      // of the linear (the first of those that share an activation clip) or gain
  at::Tensor logarithm;  // of the ratio: float64, one number or [hidden]
  at::Tensor gradient;   // with respect to the logarithm
  bool is_clip = true;

  at::Tensor ratio() const;  // float32
};

// Clip ratios stay in [kLowestClip, 1].
inline constexpr double kLowestClip = 0.3;

// One layer of the tower. Values are what parameters become in the layer: a rounded weight, an
// activation clip, gains.
class LearnedLayer {
 public:
  // Adds its parameters to `parameters`.
  LearnedLayer(const std::string& name,
               const Weights& root,
               const ModelConfig& config,
               const LinearSchemes& schemes,
               CodeRounding rounding,
               std::vector<Parameter>& parameters);
  // Makes the gains of the norms parameters too.
  void learn_norm_gains(std::vector<Parameter>& parameters);

  States run(const States& in, const std::vector<Parameter>& parameters) const;
  // Takes the gradients at the layer's output to its input, and adds to those of the parameters.
  States pull_back(const States& in,
                   const States& gradients,
                   std::vector<Parameter>& parameters) const;

  void collect(const std::vector<Parameter>& parameters, LinearSchemes& schemes) const;
  void collect(const std::vector<Parameter>& parameters,
               std::map<std::string, at::Tensor>& norm_gains) const;

 private:
  // A quantized linear. weight and clip: places in values_.
  struct Slot {
    std::size_t place = 0;  // in linears()
    std::string name;
    LinearScheme scheme;
    at::Tensor weight;                    // [out, in] float32
    at::ScalarType storage = at::kFloat;  // of the scales
    std::size_t weight_value = 0;
    std::size_t clip_value = 0;  // with scheme.activation
  };
  struct Gain {
    std::size_t place = 0;  // in norm_gains()
    std::string name;
    at::Tensor gain;  // [hidden] of the float model
    std::size_t value = 0;
  };
  struct Value {
    std::size_t parameter = 0;
    std::function<at::Tensor(const at::Tensor& ratio)> of_ratio;
  };
  using Values = std::vector<at::Tensor>;

  // Returns the place of the value.
  std::size_t add_value(Parameter parameter,
                        std::function<at::Tensor(const at::Tensor& ratio)> of_ratio,
                        std::vector<Parameter>& parameters);
  void add_slot(Slot slot, int input, std::vector<Parameter>& parameters);
  VisionLayer build(const Values& values) const;
  Values values(const std::vector<Parameter>& parameters) const;

  std::string name_;
  CodeRounding rounding_;
  VisionLayer float_;
  std::vector<Slot> slots_;
  std::vector<int> inputs_;  // of the slots
  std::vector<Gain> gains_;
  std::vector<Value> values_;
  InputRounding bf16_;  // of linears without an activation scheme
};

// What a run leaves for the pass back.
struct VisionTrace {
  std::vector<States> states;  // behind the embedding and every layer
  States features;             // selected
  States images;               // behind the projector
};

class LearnedTower {
 public:
  // root: float. schemes: of the model's quantized linears; clips start at their clip_ratio. Throws
  // kUnsupported, naming the linear, for static activations in tower or projector.
  LearnedTower(const Weights& root,
               const ModelConfig& config,
               const LinearSchemes& schemes,
               bool norm_gains,
               CodeRounding rounding = CodeRounding::kNearest);

  std::vector<Parameter>& parameters() { return parameters_; }

  // embedded: the states behind the tower's embedding, which stays float.
  VisionTrace run(const States& embedded) const;
  // Adds to the gradients of the parameters what `gradients` at the images give.
  void pull_back(const VisionTrace& trace, const States& gradients);

  LinearSchemes schemes() const;                          // of the linears whose clips are learned
  std::map<std::string, at::Tensor> norm_gains() const;  // learned ones, by whole names

 private:
  at::Tensor project(const at::Tensor& features) const;
  // Gradients at the outputs of the embedding and every layer that selected features give.
  std::vector<States> pull_back_features(const VisionTrace& trace, const States& gradients) const;

  ModelConfig config_;
  std::vector<Parameter> parameters_;
  std::vector<LearnedLayer> layers_;
  std::vector<Linear> projector_;
};

}  // namespace qvlm
