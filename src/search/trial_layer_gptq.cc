// TrialLayer's rounding by GPTQ.
#include "quant/input_rounding.h"
#include "rounding/gptq.h"
#include "search/trial_layer.h"

namespace qvlm {

// By input. Taken of the values that the products see, turned and rounded. Samples run one after
// the other, as one matrix of a wide input is all that memory should hold; their products use all
// threads.
std::vector<SecondMoment> TrialLayer::measure_second_moments(const States& in,
                                                             const std::vector<at::Tensor>& weights,
                                                             const LayerClips& clips) {
  std::vector<SecondMoment> moments(DecoderLayer::kInputs);
  std::size_t sample = 0;
  std::vector<InputRounding> taps(moments.size());
  DecoderLayer watched = quantized_;
  const std::vector<NamedLinear> places = watched.linears();
  for (Slot& slot : slots_) {
    const auto input = static_cast<std::size_t>(slot.place.input);
    const LinearScheme scheme = scheme_of(slot, clips.at(input));
    if (!taps[input]) {
      taps[input] = make_rounding(
          [&, input, round = make_rounding(scheme, slot.weight.size(1))](const at::Tensor& x) {
            at::Tensor rounded = (*round)(x);
            moments[input].add(rounded, weights.empty() ? at::Tensor() : weights[sample]);
            return rounded;
          });
    }
    for (const NamedLinear& place : places) {
      if (place.name != slot.place.name) continue;
      const at::Tensor weight =
          quantize_weight(slot.weight, scheme.weight, slot.storage).dequantize();
      *place.linear = Linear(weight, place.linear->bias(), taps[input]);
    }
  }
  for (; sample < in.size(); ++sample)
    watched.forward(in[sample], rope_.angles(0, in[sample].size(0)));
  return moments;
}

RoundedLinears TrialLayer::round_by_gptq(const States& in,
                                         const std::vector<at::Tensor>& weights,
                                         const LayerClips& wanted,
                                         const RoundingOptions& options) {
  const LayerClips clips = allowed(wanted);
  const c10::InferenceMode no_gradients;
  const std::vector<SecondMoment> moments = measure_second_moments(in, weights, clips);
  const GptqOptions settings{.damping = options.damping, .act_order = options.act_order};
  RoundedLinears codes;
  GptqFeedback feedback;
  int input = -1;  // that it is of; linears that share one stand together
  for (Slot& slot : slots_) {
    if (slot.place.input != input) {
      input = slot.place.input;
      feedback = make_gptq_feedback(moments[static_cast<std::size_t>(input)].matrix(), settings);
    }
    const InputClips& own = clips.at(static_cast<std::size_t>(input));
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
