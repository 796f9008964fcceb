// TrialLayer's rounding by GPTQ.
#include <algorithm>

#include "base/parallel.h"
#include "quant/input_rounding.h"
#include "rounding/gptq.h"
#include "search/trial_layer.h"

namespace qvlm {

// The weights of the slots, rounded to nearest.
std::vector<at::Tensor> TrialLayer::nearest_weights(const LayerClips& clips) const {
  std::vector<at::Tensor> weights(slots_.size());
  for_samples(slots_.size(), [&](std::size_t i) {
    const Slot& slot = slots_[i];
    const Scheme scheme = scheme_of(slot, clips.at(slot.input())).weight;
    weights[i] = quantize_weight(slot.weight, scheme, slot.storage).dequantize();
  });
  return weights;
}

// What the products of one state see, turned and rounded: [tokens, in] by leader.
States TrialLayer::rounded_inputs(const at::Tensor& state,
                                  const std::vector<at::Tensor>& weights,
                                  const LayerClips& clips) const {
  States seen(slots_.size());
  std::vector<InputRounding> taps(slots_.size());
  DecoderLayer watched = quantized_;
  const std::vector<NamedLinear> places = watched.linears();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    InputRounding& tap = taps[slot.leader];
    if (!tap) {
      const LinearScheme scheme = scheme_of(slot, clips.at(slot.input()));
      tap = make_rounding(
          [&input = seen[slot.leader], round = make_rounding(scheme, slot.weight.size(1))](
              const at::Tensor& x) { return input = (*round)(x); });
    }
    *places[slot.index].linear = Linear(weights[i], slot.place.linear->bias(), tap);
  }
  watched.forward(state, rope_.angles(0, state.size(0)));
  return seen;
}

// By leader. As many samples at a time as there are threads: all inputs of a layer are what memory
// has to hold of each.
std::vector<SecondMoment> TrialLayer::measure_second_moments(const States& in,
                                                             const InputWeights& token_weights,
                                                             const LayerClips& clips) const {
  const std::vector<at::Tensor> weights = nearest_weights(clips);
  std::vector<SecondMoment> moments(slots_.size());
  const auto batch = static_cast<std::size_t>(thread_count());
  for (std::size_t first = 0; first < in.size(); first += batch) {
    std::vector<States> inputs(std::min(batch, in.size() - first));
    for_samples(inputs.size(),
                [&](std::size_t i) { inputs[i] = rounded_inputs(in[first + i], weights, clips); });
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      for (std::size_t leader = 0; leader < moments.size(); ++leader) {
        if (!inputs[i][leader].defined()) continue;
        const std::vector<at::Tensor>& own = token_weights.at(slots_[leader].input());
        moments[leader].add(inputs[i][leader], own.empty() ? at::Tensor() : own[first + i]);
      }
    }
  }
  return moments;
}

RoundedLinears TrialLayer::round_by_gptq(const States& in,
                                         const InputWeights& weights,
                                         const LayerClips& wanted,
                                         const RoundingOptions& options) {
  const LayerClips clips = allowed(wanted);
  const c10::InferenceMode no_gradients;
  const std::vector<SecondMoment> moments = measure_second_moments(in, weights, clips);
  const GptqOptions settings{.damping = options.damping, .act_order = options.act_order};
  RoundedLinears codes;
  // Of the leader before: those who share one stand together, unless their activations alternate.
  std::size_t leader = slots_.size();
  GptqFeedback feedback;
  for (Slot& slot : slots_) {
    if (slot.leader != leader) {
      leader = slot.leader;
      feedback = make_gptq_feedback(moments[leader].matrix(), settings);
    }
    const InputClips& own = clips.at(slot.input());
    const LinearScheme scheme = scheme_of(slot, own);
    const QuantizedTensor rounded =
        gptq(slot.weight, feedback, scheme.weight, slot.storage, settings);
    const QuantizedWeight& stored = codes[slot.name] = to_quantized_weight(rounded);
    if (is_static(scheme)) {
      slot.dequantized[own.weight] = rounded.dequantize();
    } else {
      slot.packed.insert_or_assign(
          own.weight, Linear(stored, slot.place.linear->bias(), scheme, Execution::kPacked));
    }
  }
  applied_.clear();  // quantized_ has the nearest codes
  return codes;
}

}  // namespace qvlm
