// One layer of the vision tower as a recipe quantizes it, simulated, with gradients with respect to
// the clip ratios of its quantizers and, where asked for, the gains of its norms. The whole tower
// is search/learned_tower.h.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/declare_quantization.h"
#include "model/vit.h"
#include "search/learned_rounding.h"
#include "search/states.h"

namespace qvlm {

// What training moves: a clip ratio, or the ratios of a norm's gains to those of the float model.
struct Parameter {
  std::string name;
  at::Tensor logarithm;  // of the ratio: float64, one number or [hidden]
  at::Tensor gradient;   // with respect to the logarithm, summed up by pull_back()
  bool is_clip = true;
};

struct TowerQuantization {
  const LinearSchemes& schemes;  // of the model's quantized linears; clips start at clip_ratio
  bool norm_gains = false;       // whether gains are learned
  CodeRounding rounding = CodeRounding::kNearest;
};

// Throws kUnsupported, naming the linear, for a static activation scheme.
void require_dynamic(const LinearScheme& scheme, const std::string& linear);

class LearnedLayer {
 public:
  // name: "vision_tower.encoder.layers.0". Appends the layer's parameters to `parameters`, which
  // all later calls get too: a clip for each quantized weight, one for each input whose linears
  // round it alike, two gains.
  LearnedLayer(const std::string& name,
               const Weights& root,
               const VisionConfig& config,
               const TowerQuantization& quantization,
               std::vector<Parameter>& parameters);

  States run(const States& in, const std::vector<Parameter>& parameters) const;
  // Takes the gradients at the layer's outputs to its inputs, and adds to those of the parameters.
  States pull_back(const States& in,
                   const States& gradients,
                   std::vector<Parameter>& parameters) const;

  // Adds what the layer's linears and gains become, by whole names.
  void collect_schemes(const std::vector<Parameter>& parameters, LinearSchemes& into) const;
  void collect_gains(const std::vector<Parameter>& parameters,
                     std::map<std::string, at::Tensor>& into) const;

 private:
  // What a parameter becomes in the layer: a rounded weight, an activation clip, gains.
  struct Value {
    std::size_t parameter = 0;
    std::function<at::Tensor(const at::Tensor& ratio)> of_ratio;
  };
  using Values = std::vector<at::Tensor>;  // by place in values_

  struct Slot {              // a quantized linear
    std::size_t linear = 0;  // place in linears()
    std::string name;
    LinearScheme scheme;
    std::size_t weight = 0;  // places in values_
    std::size_t clip = 0;    // only with an activation scheme
  };
  struct Gain {
    std::string name;
    std::size_t value = 0;  // place in values_
  };

  // storage: of the scales.
  void add_slot(at::ScalarType storage, Slot slot, std::vector<Parameter>& parameters);
  std::size_t find_or_add_clip(const Slot& slot, std::vector<Parameter>& parameters);
  std::size_t add_value(Parameter parameter,
                        std::function<at::Tensor(const at::Tensor& ratio)> of_ratio,
                        std::vector<Parameter>& parameters);
  VisionLayer build(const Values& values) const;
  // Gradients of the values, summed over the samples; `below` gets those at the inputs.
  Values pull_back_to_values(const States& in,
                             const States& gradients,
                             const Values& values,
                             States& below) const;

  VisionLayer layer_;  // float32
  CodeRounding rounding_;
  InputRounding bf16_;  // of quantized linears without an activation scheme
  std::vector<Value> values_;
  std::vector<Slot> slots_;
  std::vector<Gain> gains_;  // in the order of norm_gains()
};

}  // namespace qvlm
