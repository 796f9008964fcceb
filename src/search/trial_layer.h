// A decoder layer under trial: in float, and with its linears quantized by clips that may change
// from run to run. A weight is rounded once for each of its clips, whatever happens to activations;
// dynamic schemes run on the packed kernels, as the result will, static ones are simulated.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "calib/statistics.h"
#include "io/declare_quantization.h"
#include "model/llama.h"
#include "model/rounded_weights.h"
#include "model/unit.h"
#include "search/candidates.h"
#include "search/states.h"
#include "search/token_importance.h"

namespace qvlm {

class TrialLayer {
 public:
  // Loads a layer in float32. schemes: of the model's quantized linears; the layer may have none.
  // unclipped: linears that keep their whole range, whatever clips their layer has; those that
  // share an input are all or none among them.
  TrialLayer(const Unit& unit,
             const Weights& root,
             const ModelConfig& config,
             const LinearSchemes& schemes,
             const std::set<std::string, std::less<>>& unclipped = {});
  TrialLayer(const TrialLayer&) = delete;  // slots point into the layer
  TrialLayer& operator=(const TrialLayer&) = delete;

  States run_float(const States& in) const;
  // Measures the scales of static activations: for every activation clip those that cover this
  // share of the magnitudes at each input, per tensor or per channel, when the layer runs in float
  // on `in`. Does nothing without static schemes; must come before run() where there are some.
  void measure_scales(const States& in, const std::vector<double>& activation_clips);
  // Statistics of the input of every linear when the layer runs in float on `in`, by whole names;
  // those of one input are the same.
  std::map<std::string, InputStatistics> measure_statistics(const States& in) const;
  // Some tokens of every input [tokens, in] when the layer runs in float on `in`, by
  // NamedLinear::input: evenly drawn, at most about so many. The first token of a sample is left
  // out, as in state_error(), unless it is the only one.
  std::vector<at::Tensor> sample_inputs(const States& in, std::int64_t tokens) const;
  // Rounds the weights under these clips by GPTQ, for the inputs that the layer has when it runs
  // rounded to nearest on `in`; from then on it runs on these codes under the same clips. Returns
  // the codes by whole names.
  RoundedLinears round_by_gptq(const States& in,
                               const InputWeights& weights,
                               const LayerClips& clips,
                               const RoundingOptions& options);
  // Runs the layer under these clips; one InputClips for each input, see NamedLinear::input.
  States run(const States& in, const LayerClips& clips);
  // What the quantized linears become under these clips, by whole names.
  LinearSchemes schemes(const LayerClips& clips) const;

 private:
  // A linear that the recipe quantizes.
  struct Slot {
    NamedLinear place;                    // in quantized_
    std::size_t index = 0;                // among the linears of the layer
    std::string name;                     // whole
    at::Tensor weight;                    // [out, in] float32, as it is rounded
    at::ScalarType storage = at::kFloat;  // of the scales
    LinearScheme scheme;                  // of the recipe
    std::size_t leader = 0;               // the first slot whose input is the same, rounded alike
    // By weight clip: the packed linear, or for static activations the dequantized weight.
    std::map<double, Linear> packed;
    std::map<double, at::Tensor> dequantized;

    std::size_t input() const { return static_cast<std::size_t>(place.input); }
  };

  LayerClips allowed(LayerClips clips) const;
  void apply(const LayerClips& clips);
  Linear make_packed(Slot& slot, const InputClips& clips) const;
  Linear make_simulated(Slot& slot, const InputClips& clips) const;
  LinearScheme scheme_of(const Slot& slot, const InputClips& clips) const;
  States run_layer(const DecoderLayer& layer, const States& in) const;
  // Runs the layer in float and shows every input of every sample; from the threads of the samples,
  // one after the other for each.
  using SeeSample = std::function<void(std::size_t sample, std::size_t input, const at::Tensor& x)>;
  void run_watched(const States& in, const SeeSample& see) const;
  at::Tensor collect_input(const States& in, std::size_t input) const;
  void add_slot(const NamedLinear& place,
                std::size_t index,
                const LinearScheme& scheme,
                at::ScalarType storage);

  std::string name_;  // whole
  Rope rope_;
  DecoderLayer float_, quantized_;
  std::vector<Slot> slots_;
  std::set<int> unclipped_;  // inputs
  LayerClips applied_;       // to quantized_; empty: none
  // Of static inputs, by leader and activation clip.
  std::map<std::pair<std::size_t, double>, std::vector<float>> scales_;
  std::map<std::pair<std::size_t, double>, InputRounding> roundings_;
};

}  // namespace qvlm
