#include "search/trial_layer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "io/scheme.h"
#include "quant/hadamard_rows.h"
#include "quant/input_rounding.h"
#include "search/watched_layer.h"

namespace qvlm {
namespace {

// Values that the quantiles of one input are taken from: a sample of its tokens is enough, and the
// memory does not grow with the calibration set.
constexpr std::int64_t kTokensForQuantiles = 16384;

// The smallest magnitudes [in] (or [1]) that cover a share of the rows [tokens, in].
at::Tensor covering_magnitude(const at::Tensor& magnitudes, double share) {
  if (share >= 1.0) return std::get<0>(magnitudes.max(0));
  const auto count = static_cast<double>(magnitudes.size(0));
  const auto rank = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(share * count)));
  return std::get<0>(magnitudes.kthvalue(rank, 0));
}

std::vector<float> to_floats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

}  // namespace

TrialLayer::TrialLayer(const Unit& unit,
                       const Weights& root,
                       const ModelConfig& config,
                       const LinearSchemes& schemes,
                       const std::set<std::string, std::less<>>& unclipped)
    : name_(unit.name),
      rope_(config.text.rope, config.text.head_dim),
      float_(root.scope(unit.name), config.text),
      quantized_(float_) {
  const std::vector<NamedLinear> places = quantized_.linears();
  const std::vector<NamedLinear> floats = float_.linears();
  for (std::size_t i = 0; i < places.size(); ++i) {
    Linear& linear = *floats[i].linear;
    const at::ScalarType storage = linear.dense_weight().scalar_type();
    linear = Linear(linear.dense_weight().to(at::kFloat), linear.bias());
    *places[i].linear = linear;
    const std::string name = unit.name + "." + places[i].name;
    const auto scheme = schemes.find(name);
    if (scheme == schemes.end()) continue;
    if (unclipped.contains(name)) unclipped_.insert(places[i].input);
    add_slot(places[i], i, scheme->second, storage);
  }
}

// REQUIRES: the linear at this place is dense.
void TrialLayer::add_slot(const NamedLinear& place,
                          std::size_t index,
                          const LinearScheme& scheme,
                          at::ScalarType storage) {
  const auto alike = std::ranges::find_if(slots_, [&](const Slot& slot) {
    return slot.place.input == place.input && rounds_input_alike(slot.scheme, scheme);
  });
  slots_.push_back({place,
                    index,
                    name_ + "." + place.name,
                    weight_to_round(place.linear->dense_weight(), scheme),
                    storage,
                    scheme,
                    static_cast<std::size_t>(alike - slots_.begin()),
                    {},
                    {}});
}

States TrialLayer::run_layer(const DecoderLayer& layer, const States& in) const {
  return map_states(
      in, [&](const at::Tensor& x) { return layer.forward(x, rope_.angles(0, x.size(0))); });
}

States TrialLayer::run_float(const States& in) const {
  return run_layer(float_, in);
}

LayerClips TrialLayer::allowed(LayerClips clips) const {
  for (const int input : unclipped_)
    clips.at(static_cast<std::size_t>(input)) = {};
  return clips;
}

States TrialLayer::run(const States& in, const LayerClips& clips) {
  apply(allowed(clips));
  return run_layer(quantized_, in);
}

void TrialLayer::apply(const LayerClips& clips) {
  if (clips == applied_) return;
  // Each linear on one thread: rounding them one after the other would start the pool for every
  // small step of each.
  std::vector<Linear> linears(slots_.size(), Linear(at::Tensor(), at::Tensor()));
  for_samples(slots_.size(), [&](std::size_t i) {
    const InputClips& own = clips.at(slots_[i].input());
    linears[i] = has_static_input(slots_[i].scheme) ? make_simulated(slots_[i], own)
                                                    : make_packed(slots_[i], own);
  });
  for (std::size_t i = 0; i < slots_.size(); ++i)
    *slots_[i].place.linear = std::move(linears[i]);
  applied_ = clips;
}

LinearScheme TrialLayer::scheme_of(const Slot& slot, const InputClips& clips) const {
  LinearScheme scheme = slot.scheme;
  scheme.weight.clip_ratio *= clips.weight;
  if (!scheme.activation) return scheme;
  scheme.activation->clip_ratio *= clips.activation;
  if (has_static_input(scheme)) {
    const auto scales = scales_.find({slot.leader, clips.activation});
    require(scales != scales_.end(), ErrorKind::kInternal, slot.name,
            ": its static scales were not measured");
    scheme.input_scale = scales->second;
  }
  return scheme;
}

Linear TrialLayer::make_packed(Slot& slot, const InputClips& clips) const {
  const LinearScheme scheme = scheme_of(slot, clips);
  const at::Tensor& bias = slot.place.linear->bias();
  auto found = slot.packed.find(clips.weight);
  if (found == slot.packed.end()) {
    const QuantizedTensor codes = quantize_weight(slot.weight, scheme.weight, slot.storage);
    found = slot.packed
                .emplace(clips.weight,
                         Linear(to_quantized_weight(codes), bias, scheme, Execution::kPacked))
                .first;
  }
  const kernels::PackedWeights* packed = found->second.packed();
  // Asymmetric activations have no kernel; the search knows none.
  require(packed != nullptr, ErrorKind::kInternal, slot.name, ": is not packed");
  return Linear(*packed, bias, scheme);
}

Linear TrialLayer::make_simulated(Slot& slot, const InputClips& clips) const {
  const LinearScheme scheme = scheme_of(slot, clips);
  auto weight = slot.dequantized.find(clips.weight);
  if (weight == slot.dequantized.end()) {
    weight = slot.dequantized
                 .emplace(clips.weight,
                          quantize_weight(slot.weight, scheme.weight, slot.storage).dequantize())
                 .first;
  }
  // Linears whose input is rounded alike share the rounding, and with it the rounded input.
  return Linear(weight->second, slot.place.linear->bias(),
                roundings_.at({slot.leader, clips.activation}));
}

LinearSchemes TrialLayer::schemes(const LayerClips& wanted) const {
  const LayerClips clips = allowed(wanted);
  LinearSchemes result;
  for (const Slot& slot : slots_)
    result[slot.name] = scheme_of(slot, clips.at(slot.input()));
  return result;
}

// Magnitudes [tokens, in] of what an input sees in float.
at::Tensor TrialLayer::collect_input(const States& in, std::size_t input) const {
  std::int64_t tokens = 0;
  for (const at::Tensor& state : in)
    tokens += state.size(0);
  const std::int64_t stride = (tokens + kTokensForQuantiles - 1) / kTokensForQuantiles;
  std::vector<at::Tensor> seen(in.size());
  run_watched(in, [&](std::size_t sample, std::size_t own, const at::Tensor& x) {
    if (own == input) seen[sample] = x.slice(0, 0, x.size(0), stride).abs();
  });
  return at::cat(seen);
}

void TrialLayer::run_watched(const States& in, const SeeSample& see) const {
  for_samples(in.size(), [&](std::size_t i) {
    const SeeInput see_input = [&](std::size_t input, const at::Tensor& x) { see(i, input, x); };
    watch_inputs(float_, see_input).forward(in[i], rope_.angles(0, in[i].size(0)));
  });
}

std::vector<at::Tensor> TrialLayer::sample_inputs(const States& in, std::int64_t tokens) const {
  std::vector<std::int64_t> first;  // place of each sample's first token in a row of all
  std::int64_t all = 0;
  for (const at::Tensor& state : in) {
    first.push_back(all);
    all += state.size(0);
  }
  const std::int64_t stride = std::max<std::int64_t>((all + tokens - 1) / tokens, 1);
  std::vector<std::vector<at::Tensor>> rows(DecoderLayer::kInputs,
                                            std::vector<at::Tensor>(in.size()));
  run_watched(in, [&](std::size_t sample, std::size_t input, const at::Tensor& x) {
    // Every stride-th place of the row.
    std::int64_t next = (stride - first[sample] % stride) % stride;
    if (next == 0 && x.size(0) > 1) ++next;
    rows[input][sample] = x.slice(0, next, x.size(0), stride).clone();
  });
  std::vector<at::Tensor> inputs;
  for (const std::vector<at::Tensor>& samples : rows)
    inputs.push_back(at::cat(samples));
  return inputs;
}

std::map<std::string, InputStatistics> TrialLayer::measure_statistics(const States& in) const {
  // Each sample for itself, merged in order: sums do not depend on which thread was first.
  std::vector<std::vector<InputStatistics>> samples(
      in.size(), std::vector<InputStatistics>(DecoderLayer::kInputs));
  run_watched(in, [&](std::size_t sample, std::size_t input, const at::Tensor& x) {
    samples[sample][input].add(x);
  });
  std::vector<InputStatistics> merged(DecoderLayer::kInputs);
  for (const std::vector<InputStatistics>& sample : samples) {
    for (std::size_t input = 0; input < merged.size(); ++input)
      merged[input].merge(sample[input]);
  }
  std::map<std::string, InputStatistics> result;
  DecoderLayer names = float_;
  for (const NamedLinear& place : names.linears())
    result[name_ + "." + place.name] = merged[static_cast<std::size_t>(place.input)];
  return result;
}

void TrialLayer::measure_scales(const States& in, const std::vector<double>& activation_clips) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    const int input = slot.place.input;
    const bool measured = scales_.lower_bound({i, 0.0}) != scales_.end();  // leaders come in order
    if (!has_static_input(slot.scheme) || slot.leader != i || measured) continue;
    const Scheme& activation = *slot.scheme.activation;
    at::Tensor magnitudes = collect_input(in, slot.input());
    if (activation.granularity == Granularity::kTensor) magnitudes = magnitudes.reshape({-1, 1});
    for (const double clip : unclipped_.contains(input) ? std::vector{1.0} : activation_clips) {
      const at::Tensor high = covering_magnitude(magnitudes, clip * activation.clip_ratio);
      scales_[{i, clip}] = to_floats(make_grid({-high, high}, activation).scale);
      roundings_[{i, clip}] = make_rounding(
          LinearScheme{slot.scheme.weight, activation, scales_.at({i, clip})}, slot.weight.size(1));
    }
  }
}

}  // namespace qvlm
