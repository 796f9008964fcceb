#include "search/learned_layer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "io/scheme.h"
#include "search/differentiate.h"

namespace qvlm {
namespace {

at::Tensor to_ratio(const at::Tensor& logarithm) {
  return logarithm.exp().to(at::kFloat);
}

double get_clip(const Parameter& parameter) {
  return static_cast<double>(to_ratio(parameter.logarithm).item<float>());
}

Parameter make_clip(const std::string& name, double ratio) {
  const at::Tensor logarithm = at::scalar_tensor(std::log(ratio), at::kDouble);
  return {name, logarithm, at::zeros_like(logarithm), /*is_clip=*/true};
}

Parameter make_gains(const std::string& name, std::int64_t hidden) {
  const at::Tensor logarithms = at::zeros({hidden}, at::kDouble);
  return {name, logarithms, at::zeros_like(logarithms), /*is_clip=*/false};
}

}  // namespace

void require_dynamic(const LinearScheme& scheme, const std::string& linear) {
  require(!has_static_input(scheme), ErrorKind::kUnsupported, linear,
          ": the vision encoder is optimized with dynamic activations only, got static ones");
}

LearnedLayer::LearnedLayer(const std::string& name,
                           const Weights& root,
                           const VisionConfig& config,
                           const TowerQuantization& quantization,
                           std::vector<Parameter>& parameters)
    : layer_(root.scope(name), config),
      rounding_(quantization.rounding),
      bf16_(make_straight_bf16(quantization.rounding)) {
  const std::vector<NamedLinear> places = layer_.linears();
  for (std::size_t i = 0; i < places.size(); ++i) {
    Linear& linear = *places[i].linear;
    const at::Tensor stored = linear.dense_weight();
    linear = Linear(stored.to(at::kFloat), linear.bias());
    const std::string whole = name + "." + places[i].name;
    const auto scheme = quantization.schemes.find(whole);
    if (scheme != quantization.schemes.end())
      add_slot(stored.scalar_type(), {i, whole, scheme->second}, parameters);
  }
  if (!quantization.norm_gains) return;
  for (const auto& [gain_name, gain] : layer_.norm_gains()) {
    const std::string whole = name + "." + gain_name;
    const auto of_ratio = [gain = *gain](const at::Tensor& ratio) { return gain * ratio; };
    gains_.push_back({whole, add_value(make_gains(whole, gain->size(0)), of_ratio, parameters)});
  }
}

void LearnedLayer::add_slot(at::ScalarType storage, Slot slot, std::vector<Parameter>& parameters) {
  require_dynamic(slot.scheme, slot.name);
  const Scheme& scheme = slot.scheme.weight;
  const at::Tensor weight = layer_.linears()[slot.linear].linear->dense_weight();
  const auto of_ratio = [weight, scheme, storage, rounding = rounding_](const at::Tensor& ratio) {
    return round_weight(weight, ratio, scheme, storage, rounding);
  };
  slot.weight =
      add_value(make_clip(slot.name + ".weight", scheme.clip_ratio), of_ratio, parameters);
  if (slot.scheme.activation) slot.clip = find_or_add_clip(slot, parameters);
  slots_.push_back(std::move(slot));
}

std::size_t LearnedLayer::find_or_add_clip(const Slot& slot, std::vector<Parameter>& parameters) {
  const std::vector<NamedLinear> places = layer_.linears();
  const auto alike = std::ranges::find_if(slots_, [&](const Slot& other) {
    return places[other.linear].input == places[slot.linear].input &&
           other.scheme.activation == slot.scheme.activation;
  });
  if (alike != slots_.end()) return alike->clip;
  return add_value(
      make_clip(slot.name + ".input", slot.scheme.activation->clip_ratio),
      [](const at::Tensor& ratio) { return ratio; }, parameters);
}

std::size_t LearnedLayer::add_value(Parameter parameter,
                                    std::function<at::Tensor(const at::Tensor& ratio)> of_ratio,
                                    std::vector<Parameter>& parameters) {
  values_.push_back({parameters.size(), std::move(of_ratio)});
  parameters.push_back(std::move(parameter));
  return values_.size() - 1;
}

VisionLayer LearnedLayer::build(const Values& values) const {
  VisionLayer layer = layer_;
  const std::vector<NamedLinear> places = layer.linears();
  std::map<std::size_t, InputRounding> shared;  // by place of the clip
  for (const Slot& slot : slots_) {
    InputRounding rounding = bf16_;
    if (slot.scheme.activation) {
      InputRounding& own = shared[slot.clip];
      if (!own) own = make_learned_rounding(*slot.scheme.activation, values[slot.clip], rounding_);
      rounding = own;
    }
    Linear& linear = *places[slot.linear].linear;
    linear = Linear(values[slot.weight], linear.bias(), rounding);
  }
  const auto gains = layer.norm_gains();
  for (std::size_t i = 0; i < gains_.size(); ++i)
    *gains[i].second = values[gains_[i].value];
  return layer;
}

States LearnedLayer::run(const States& in, const std::vector<Parameter>& parameters) const {
  Values values;
  for (const Value& value : values_)
    values.push_back(value.of_ratio(to_ratio(parameters[value.parameter].logarithm)));
  const VisionLayer layer = build(values);
  return map_states(in, [&](const at::Tensor& x) { return layer.forward(x); });
}

LearnedLayer::Values LearnedLayer::pull_back_to_values(const States& in,
                                                       const States& gradients,
                                                       const Values& values,
                                                       States& below) const {
  // Every sample has leaves of its own: gradients are summed in the order of the samples, not in
  // that of the threads.
  std::vector<Values> leaves(in.size());
  for_samples(in.size(), [&](std::size_t sample) {
    for (const at::Tensor& value : values)
      leaves[sample].push_back(value.detach().set_requires_grad(true));
    const VisionLayer layer = build(leaves[sample]);
    below[sample] = qvlm::pull_back(in[sample], gradients[sample],
                                    [&](const at::Tensor& x) { return layer.forward(x); });
  });
  Values sums;
  for (std::size_t i = 0; i < values.size(); ++i) {
    at::Tensor sum = leaves[0][i].grad();
    for (std::size_t sample = 1; sample < in.size(); ++sample)
      sum = sum + leaves[sample][i].grad();
    sums.push_back(sum);
  }
  return sums;
}

States LearnedLayer::pull_back(const States& in,
                               const States& gradients,
                               std::vector<Parameter>& parameters) const {
  const c10::InferenceMode with_gradients(false);
  Values logarithms, values;
  for (const Value& value : values_) {
    const at::Tensor& logarithm = parameters[value.parameter].logarithm;
    logarithms.push_back(logarithm.detach().set_requires_grad(true));
    values.push_back(value.of_ratio(to_ratio(logarithms.back())));
  }
  States below(in.size());
  const Values sums = pull_back_to_values(in, gradients, values, below);
  // Each on one thread: what is summed up to a number would depend on how many there are.
  for_each_apart(static_cast<std::int64_t>(values.size()), [&](std::int64_t i) {
    const auto place = static_cast<std::size_t>(i);
    values[place].backward(sums[place]);
    parameters[values_[place].parameter].gradient.add_(logarithms[place].grad());
  });
  return below;
}

void LearnedLayer::collect_schemes(const std::vector<Parameter>& parameters,
                                   LinearSchemes& into) const {
  for (const Slot& slot : slots_) {
    LinearScheme& scheme = into[slot.name] = slot.scheme;
    scheme.weight.clip_ratio = get_clip(parameters[values_[slot.weight].parameter]);
    if (scheme.activation)
      scheme.activation->clip_ratio = get_clip(parameters[values_[slot.clip].parameter]);
  }
}

void LearnedLayer::collect_gains(const std::vector<Parameter>& parameters,
                                 std::map<std::string, at::Tensor>& into) const {
  for (const Gain& gain : gains_) {
    const Value& value = values_[gain.value];
    into[gain.name] = value.of_ratio(to_ratio(parameters[value.parameter].logarithm));
  }
}

}  // namespace qvlm
