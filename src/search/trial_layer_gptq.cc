// TrialLayer's rounding by GPTQ.
#include "io/scheme.h"
#include "search/linear_rounding.h"
#include "search/trial_layer.h"

namespace qvlm {

RoundedLinears TrialLayer::round_by_gptq(const States& in,
                                         const InputWeights& weights,
                                         const LayerClips& wanted,
                                         const RoundingOptions& options) {
  const LayerClips clips = allowed(wanted);
  std::vector<LinearToRound> linears;
  for (const Slot& slot : slots_) {
    linears.push_back({slot.weight, slot.place.linear->bias(), slot.storage,
                       scheme_of(slot, clips.at(slot.input())), slot.input()});
  }
  const RunWith run = [&](std::size_t sample, const std::vector<Linear>& replaced) {
    DecoderLayer layer = quantized_;
    const std::vector<NamedLinear> places = layer.linears();
    for (std::size_t i = 0; i < slots_.size(); ++i)
      *places[slots_[i].index].linear = replaced[i];
    layer.forward(in[sample], rope_.angles(0, in[sample].size(0)));
  };
  const std::vector<QuantizedTensor> rounded =
      round_linears(linears, in.size(), run, weights, options);
  RoundedLinears codes;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    const double clip = clips.at(slot.input()).weight;
    const QuantizedWeight& stored = codes[slot.name] = to_quantized_weight(rounded[i]);
    if (has_static_input(slot.scheme)) {
      slot.dequantized[clip] = rounded[i].dequantize();
    } else {
      slot.packed.insert_or_assign(
          clip, Linear(stored, linears[i].bias, linears[i].scheme, Execution::kPacked));
    }
  }
  applied_.clear();  // quantized_ has the nearest codes
  return codes;
}

}  // namespace qvlm
