#include "transforms/smooth.h"

#include <functional>
#include <optional>

#include "base/error.h"
#include "model/linear_list.h"
#include "transforms/scale_search.h"

namespace qvlm {
namespace {

constexpr double kLeast = 1e-5, kMost = 1e4;

// The largest magnitude of every input channel, over the weights of `linears`, which share them.
at::Tensor weight_magnitudes(const WeightSource& weights, const std::vector<LinearShape>& linears) {
  at::Tensor magnitudes = at::zeros({linears.front().in});
  for (const LinearShape& linear : linears) {
    const at::Tensor weight = weights.load(linear.name + ".weight", {linear.out, linear.in});
    magnitudes = at::maximum(magnitudes, weight.to(at::kFloat).abs().amax(0));
  }
  return magnitudes;
}

// Scales [in] of an alpha.
using ScaleRule = std::function<at::Tensor(double alpha)>;

// SmoothQuant's. A channel that is never used, or never read, has nothing to smooth.
ScaleRule smooth_rule(const at::Tensor& weight_max, const InputStatistics& input) {
  const at::Tensor input_max = at::maximum(input.low().abs(), input.high().abs());
  return [=](double alpha) {
    const at::Tensor scales =
        input_max.clamp_min(kLeast).pow(alpha) / weight_max.clamp_min(kLeast).pow(1.0 - alpha);
    return at::where((input_max > 0) & (weight_max > 0), scales.clamp(1.0 / kMost, kMost),
                     at::ones_like(scales));
  };
}

// AWQ's, about 1.
ScaleRule awq_rule(const at::Tensor& rows) {
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

class Smoothing {
 public:
  // alpha: nothing, it is searched. awq: by AWQ's rule, else by SmoothQuant's.
  Smoothing(const ModelConfig& config,
            const WeightSource& weights,
            const MeasuredInputs& inputs,
            const LinearSchemes& schemes,
            std::optional<double> alpha,
            bool awq)
      : text_(config.text),
        weights_(weights),
        inputs_(inputs),
        schemes_(schemes),
        alpha_(alpha),
        awq_(awq) {
    for (const LinearShape& linear : list_linears(config))
      shapes_[linear.name] = linear;
  }

  TensorMaps smooth(std::int64_t layer);

 private:
  // Scales [in] of linears that share their input. `fit` makes of a rule's scales those that can be
  // folded. Undefined: better left alone.
  at::Tensor scales_of(const std::vector<std::string>& linears,
                       const std::function<at::Tensor(const at::Tensor&)>& fit) const;
  // Behind a norm.
  void smooth_norm(const std::string& norm, const std::vector<std::string>& linears);
  void divide_output(const std::string& linear, const at::Tensor& scales, bool bias);

  const TextConfig& text_;
  const WeightSource& weights_;
  const MeasuredInputs& inputs_;
  const LinearSchemes& schemes_;
  std::optional<double> alpha_;
  bool awq_;
  std::map<std::string, LinearShape> shapes_;
  TensorMaps maps_;
};

at::Tensor Smoothing::scales_of(const std::vector<std::string>& linears,
                                const std::function<at::Tensor(const at::Tensor&)>& fit) const {
  std::vector<LinearShape> shapes;
  for (const std::string& linear : linears)
    shapes.push_back(shapes_.at(linear));
  const auto input = inputs_.find(linears.front());
  require(input != inputs_.end(), ErrorKind::kInternal, linears.front(),
          ": its inputs were not measured");
  const ScaleRule rule =
      awq_ ? awq_rule(input->second.rows)
           : smooth_rule(weight_magnitudes(weights_, shapes), input->second.statistics);
  if (alpha_) return fit(rule(*alpha_));
  return ScaleSearch(weights_, shapes, schemes_, input->second.rows).find([&](double alpha) {
    return fit(rule(alpha));
  });
}

void Smoothing::divide_output(const std::string& linear, const at::Tensor& scales, bool bias) {
  maps_[linear + ".weight"].out_scale = scales.reciprocal();
  if (bias) maps_[linear + ".bias"].out_scale = scales.reciprocal();
}

void Smoothing::smooth_norm(const std::string& norm, const std::vector<std::string>& linears) {
  const at::Tensor scales = scales_of(linears, [](const at::Tensor& all) { return all; });
  if (!scales.defined()) return;
  maps_[norm + ".weight"].out_scale = scales.reciprocal();
  for (const std::string& linear : linears)
    maps_[linear + ".weight"].in_scale = scales;
}

TensorMaps Smoothing::smooth(std::int64_t index) {
  const std::string layer = "decoder.layers." + std::to_string(index) + ".";
  const std::string attention = layer + "self_attn.", mlp = layer + "mlp.";
  smooth_norm(layer + "input_layernorm",
              {attention + "q_proj", attention + "k_proj", attention + "v_proj"});
  const at::Tensor mixed = scales_of({attention + "o_proj"}, [this](const at::Tensor& all) {
    return repeat_over_heads(share_over_heads(all, text_), text_);
  });
  if (mixed.defined()) {
    maps_[attention + "o_proj.weight"].in_scale = mixed;
    divide_output(attention + "v_proj", share_over_heads(mixed, text_), text_.attention_bias);
  }
  smooth_norm(layer + "post_attention_layernorm", {mlp + "gate_proj", mlp + "up_proj"});
  const at::Tensor middle =
      scales_of({mlp + "down_proj"}, [](const at::Tensor& all) { return all; });
  if (middle.defined()) {
    maps_[mlp + "down_proj.weight"].in_scale = middle;
    divide_output(mlp + "up_proj", middle, text_.mlp_bias);
  }
  return std::move(maps_);
}

}  // namespace

bool searches_scales(const SmoothOptions& options) {
  return !options.alpha.has_value();
}

bool searches_scales(const AwqOptions& /*options*/) {
  return true;
}

TensorMaps smooth_layer(const ModelConfig& config,
                        const WeightSource& weights,
                        std::int64_t layer,
                        const MeasuredInputs& inputs,
                        const LinearSchemes& schemes,
                        const SmoothOptions& options) {
  return Smoothing(config, weights, inputs, schemes, options.alpha, /*awq=*/false).smooth(layer);
}

TensorMaps smooth_layer(const ModelConfig& config,
                        const WeightSource& weights,
                        std::int64_t layer,
                        const MeasuredInputs& inputs,
                        const LinearSchemes& schemes,
                        const AwqOptions& /*options*/) {
  return Smoothing(config, weights, inputs, schemes, std::nullopt, /*awq=*/true).smooth(layer);
}

}  // namespace qvlm
