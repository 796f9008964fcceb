#include "transforms/smooth.h"

#include <functional>
#include <map>
#include <string>

#include "base/error.h"
#include "model/linear_list.h"
#include "model/llama.h"
#include "transforms/rotate.h"
#include "transforms/scale_search.h"

namespace qvlm {
namespace {

constexpr double kLeast = 1e-5, kMost = 1e4;

// Scales [in] of an alpha.
using ScalesOf = std::function<at::Tensor(double alpha)>;

// The largest magnitude of every input channel, over the weights of `linears`, which share them.
at::Tensor weight_magnitudes(const WeightSource& weights, const std::vector<LinearShape>& linears) {
  at::Tensor magnitudes = at::zeros({linears.front().in});
  for (const LinearShape& linear : linears) {
    const at::Tensor weight = weights.load(linear.name + ".weight", {linear.out, linear.in});
    magnitudes = at::maximum(magnitudes, weight.to(at::kFloat).abs().amax(0));
  }
  return magnitudes;
}

// A channel that is never used, or never read, has nothing to smooth.
ScalesOf smooth_rule(const at::Tensor& weight_max, const InputStatistics& input) {
  const at::Tensor input_max = at::maximum(input.low().abs(), input.high().abs());
  return [=](double alpha) {
    const at::Tensor scales =
        input_max.clamp_min(kLeast).pow(alpha) / weight_max.clamp_min(kLeast).pow(1.0 - alpha);
    return at::where((input_max > 0) & (weight_max > 0), scales.clamp(1.0 / kMost, kMost),
                     at::ones_like(scales));
  };
}

ScalesOf awq_rule(const at::Tensor& rows) {
  const at::Tensor mean = rows.abs().mean(0);
  return [=](double alpha) {
    const at::Tensor scales = mean.clamp_min(kLeast).pow(alpha);
    return (scales / (scales.amax() * scales.amin()).sqrt()).clamp(1.0 / kMost, kMost);
  };
}

// The scales of query heads that read one value head are one: their geometric mean.
at::Tensor share_over_heads(const at::Tensor& scales, const TextConfig& config) {
  const at::Tensor heads =
      scales.reshape({config.kv_heads, config.heads / config.kv_heads, config.head_dim});
  return heads.log().mean(1).exp().reshape({-1});
}

at::Tensor repeat_over_heads(const at::Tensor& scales, const TextConfig& config) {
  return scales.reshape({config.kv_heads, 1, config.head_dim})
      .expand({-1, config.heads / config.kv_heads, -1})
      .reshape({-1});
}

// The scales next to these by which a gain can be divided without rounding it.
at::Tensor divide_exactly(const at::Tensor& gain, const at::Tensor& scales) {
  const at::Tensor wide = gain.to(at::kFloat);
  const at::Tensor stored = (wide / scales).to(gain.scalar_type()).to(at::kFloat);
  return at::where((stored != 0) & stored.isfinite(), wide / stored, at::ones_like(scales));
}

class LayerSmoothing {
 public:
  LayerSmoothing(const ModelConfig& config,
                 const WeightSource& weights,
                 std::int64_t layer,
                 const MeasuredInputs& inputs,
                 const Smoothing& smoothing)
      : text_(config.text),
        weights_(weights),
        name_("decoder.layers." + std::to_string(layer) + "."),
        inputs_(inputs),
        rule_(smoothing.rule),
        linears_(DecoderLayer::kInputs) {
    for (const LinearShape& linear : list_linears(config)) {
      if (linear.name.starts_with(name_))
        linears_[static_cast<std::size_t>(DecoderLayer::input_of(linear.name))].push_back(linear);
    }
    if (!smoothing.before) return;
    turn_ = value_rotation(config, *smoothing.before);
    if (smoothing.massive.empty()) return;
    stream_ = stream_rotation(config, *smoothing.before, smoothing.massive);
    massive_ = channel_mask(config.text.hidden_size, smoothing.massive);
  }

  std::optional<double> search(std::size_t input, const LinearSchemes& schemes) const;
  void fold(std::size_t input, double alpha, TensorMaps& maps) const;

 private:
  // As they can be folded.
  ScalesOf scales_of(std::size_t input) const;
  // Behind a norm whose output a rotation turns: 1 but for massive channels.
  ScalesOf massive_scales_of(std::size_t input) const;
  ScalesOf rule_of(std::size_t input) const;
  std::string norm_before(std::size_t input) const;
  // Of that norm, as it is stored; undefined where there is none.
  at::Tensor gain_before(std::size_t input) const;
  void fold_into_linear(const std::string& linear,
                        const at::Tensor& scales,
                        bool bias,
                        TensorMaps& maps) const;
  bool is_mixed_values(std::size_t input) const {
    return linears_[input].front().name.ends_with(".o_proj");
  }

  const TextConfig& text_;
  const WeightSource& weights_;
  std::string name_;
  const MeasuredInputs& inputs_;
  ScaleRule rule_;
  std::vector<std::vector<LinearShape>> linears_;  // by input
  Rotation turn_, stream_;                         // of values and residual stream, to come
  at::Tensor massive_;                             // [hidden] bool; undefined: none
};

// Behind a norm the rotation takes the other channels' gains into the weights.
std::optional<double> LayerSmoothing::search(std::size_t input,
                                             const LinearSchemes& schemes) const {
  const MeasuredInput& measured = inputs_.at(input);
  const ScalesOf scales = scales_of(input);
  const at::Tensor gain = gain_before(input);
  if (!gain.defined() || !massive_.defined()) {
    return ScaleSearch(weights_, linears_[input], schemes, measured.rows,
                       is_mixed_values(input) ? turn_ : Rotation())
        .find(scales);
  }
  // An input without a gain is 0, and what reads it becomes so.
  const at::Tensor wide = gain.to(at::kFloat), least = at::full_like(wide, kLeast);
  const at::Tensor folded =
      at::where(massive_, at::ones_like(wide), at::where(wide == 0, least, wide));
  const ScalesOf with_gains = [&](double alpha) { return folded * scales(alpha); };
  return ScaleSearch(weights_, linears_[input], schemes, measured.rows, stream_)
      .find(with_gains, folded);
}

ScalesOf LayerSmoothing::massive_scales_of(std::size_t input) const {
  const at::Tensor gain = gain_before(input).to(at::kDouble);
  const at::Tensor power = inputs_.at(input).statistics.second_moment();
  // As the rotation will have them, which takes their gains.
  const at::Tensor others = (power / gain.square())
                                .masked_select(massive_.logical_not() & (gain != 0))
                                .mean()
                                .nan_to_num(0.0);
  const at::Tensor ratio = 2.0 * (power / others.clamp_min(kLeast * kLeast)).sqrt().to(at::kFloat);
  const at::Tensor larger = at::where(massive_, ratio.clamp(1.0, kMost), at::ones_like(ratio));
  return [larger](double alpha) { return larger.pow(alpha); };
}

ScalesOf LayerSmoothing::rule_of(std::size_t input) const {
  const MeasuredInput& measured = inputs_.at(input);
  if (massive_.defined() && !norm_before(input).empty()) return massive_scales_of(input);
  if (rule_ == ScaleRule::kAwq) return awq_rule(measured.rows);
  return smooth_rule(weight_magnitudes(weights_, linears_[input]), measured.statistics);
}

ScalesOf LayerSmoothing::scales_of(std::size_t input) const {
  const ScalesOf rule = rule_of(input);
  if (is_mixed_values(input)) {
    return [this, rule](double alpha) {
      return repeat_over_heads(share_over_heads(rule(alpha), text_), text_);
    };
  }
  const at::Tensor gain = gain_before(input);
  if (!gain.defined()) return rule;
  return [gain, rule](double alpha) { return divide_exactly(gain, rule(alpha)); };
}

// Its gain scales the input; empty: no norm comes before.
std::string LayerSmoothing::norm_before(std::size_t input) const {
  const std::string& first = linears_[input].front().name;
  if (first.ends_with(".q_proj")) return name_ + "input_layernorm";
  return first.ends_with(".gate_proj") ? name_ + "post_attention_layernorm" : "";
}

at::Tensor LayerSmoothing::gain_before(std::size_t input) const {
  const std::string norm = norm_before(input);
  if (norm.empty()) return {};
  return weights_.load(norm + ".weight", {linears_[input].front().in});
}

void LayerSmoothing::fold_into_linear(const std::string& linear,
                                      const at::Tensor& scales,
                                      bool bias,
                                      TensorMaps& maps) const {
  maps[linear + ".weight"].out_scale = scales.reciprocal();
  if (bias) maps[linear + ".bias"].out_scale = scales.reciprocal();
}

void LayerSmoothing::fold(std::size_t input, double alpha, TensorMaps& maps) const {
  const at::Tensor scales = scales_of(input)(alpha);
  for (const LinearShape& linear : linears_[input])
    maps[linear.name + ".weight"].in_scale = scales;
  const std::string norm = norm_before(input);
  if (!norm.empty()) {
    maps[norm + ".weight"].out_scale = scales.reciprocal();
  } else if (is_mixed_values(input)) {
    fold_into_linear(name_ + "self_attn.v_proj", share_over_heads(scales, text_),
                     text_.attention_bias, maps);
  } else {
    fold_into_linear(name_ + "mlp.up_proj", scales, text_.mlp_bias, maps);
  }
}

// By input.
std::vector<bool> smoothed_inputs(const ModelConfig& config, const Smoothing& smoothing) {
  std::vector<bool> smoothed(DecoderLayer::kInputs, true);
  if (!smoothing.before || !turns_residual_stream(config, *smoothing.before)) return smoothed;
  const bool massive = !smoothing.massive.empty();
  std::vector<bool> behind_norms(DecoderLayer::kInputs, false);
  for (const char* linear : {"self_attn.q_proj", "mlp.gate_proj"})
    behind_norms[static_cast<std::size_t>(DecoderLayer::input_of(linear))] = true;
  for (std::size_t input = 0; input < smoothed.size(); ++input)
    smoothed[input] = behind_norms[input] == massive;
  return smoothed;
}

}  // namespace

Alphas search_alphas(const ModelConfig& config,
                     const WeightSource& weights,
                     std::int64_t layer,
                     const MeasuredInputs& inputs,
                     const LinearSchemes& schemes,
                     const Smoothing& smoothing) {
  const LayerSmoothing own(config, weights, layer, inputs, smoothing);
  const std::vector<bool> smoothed = smoothed_inputs(config, smoothing);
  Alphas alphas(smoothed.size());
  for (std::size_t input = 0; input < alphas.size(); ++input) {
    if (smoothed[input]) alphas[input] = own.search(input, schemes);
  }
  return alphas;
}

Alphas same_alphas(const ModelConfig& config, double alpha, const Smoothing& smoothing) {
  Alphas alphas;
  for (const bool smoothed : smoothed_inputs(config, smoothing))
    alphas.push_back(smoothed ? std::optional(alpha) : std::nullopt);
  return alphas;
}

TensorMaps smooth_layer(const ModelConfig& config,
                        const WeightSource& weights,
                        std::int64_t layer,
                        const MeasuredInputs& inputs,
                        const Alphas& alphas,
                        const Smoothing& smoothing) {
  const LayerSmoothing own(config, weights, layer, inputs, smoothing);
  TensorMaps maps;
  for (std::size_t input = 0; input < alphas.size(); ++input) {
    if (alphas[input]) own.fold(input, *alphas[input], maps);
  }
  return maps;
}

}  // namespace qvlm
