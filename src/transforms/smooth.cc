#include "transforms/smooth.h"

#include "base/error.h"
#include "model/linear_list.h"

namespace qvlm {
namespace {

// A scale for every input channel of `linears`, which share their input.
at::Tensor make_scales(const WeightSource& weights,
                       const std::vector<LinearShape>& linears,
                       const InputStatistics& input,
                       double alpha) {
  at::Tensor weight_max = at::zeros({linears.front().in});
  for (const LinearShape& linear : linears) {
    const at::Tensor weight = weights.load(linear.name + ".weight", {linear.out, linear.in});
    weight_max = at::maximum(weight_max, weight.to(at::kFloat).abs().amax(0));
  }
  const at::Tensor input_max = at::maximum(input.low().abs(), input.high().abs());
  // A channel that is never used, or never read, has nothing to smooth.
  const at::Tensor scales =
      input_max.clamp_min(1e-5).pow(alpha) / weight_max.clamp_min(1e-5).pow(1.0 - alpha);
  return at::where((input_max > 0) & (weight_max > 0), scales.clamp(1e-4, 1e4),
                   at::ones_like(scales));
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
  Smoothing(const ModelConfig& config,
            const WeightSource& weights,
            const std::map<std::string, InputStatistics>& inputs,
            double alpha)
      : text_(config.text), weights_(weights), inputs_(inputs), alpha_(alpha) {
    for (const LinearShape& linear : list_linears(config))
      shapes_[linear.name] = linear;
  }

  void smooth_layer(const std::string& layer);
  TensorMaps take() { return std::move(maps_); }

 private:
  at::Tensor scales_of(const std::vector<std::string>& linears) const;
  // Behind a norm.
  void smooth_norm(const std::string& norm, const std::vector<std::string>& linears);
  void divide_output(const std::string& linear, const at::Tensor& scales, bool bias);

  const TextConfig& text_;
  const WeightSource& weights_;
  const std::map<std::string, InputStatistics>& inputs_;
  double alpha_;
  std::map<std::string, LinearShape> shapes_;
  TensorMaps maps_;
};

at::Tensor Smoothing::scales_of(const std::vector<std::string>& linears) const {
  std::vector<LinearShape> shapes;
  for (const std::string& linear : linears)
    shapes.push_back(shapes_.at(linear));
  const auto input = inputs_.find(linears.front());
  require(input != inputs_.end(), ErrorKind::kInternal, linears.front(),
          ": its inputs were not measured");
  return make_scales(weights_, shapes, input->second, alpha_);
}

void Smoothing::divide_output(const std::string& linear, const at::Tensor& scales, bool bias) {
  maps_[linear + ".weight"].out_scale = scales.reciprocal();
  if (bias) maps_[linear + ".bias"].out_scale = scales.reciprocal();
}

void Smoothing::smooth_norm(const std::string& norm, const std::vector<std::string>& linears) {
  const at::Tensor scales = scales_of(linears);
  maps_[norm + ".weight"].out_scale = scales.reciprocal();
  for (const std::string& linear : linears)
    maps_[linear + ".weight"].in_scale = scales;
}

void Smoothing::smooth_layer(const std::string& layer) {
  const std::string attention = layer + "self_attn.", mlp = layer + "mlp.";
  smooth_norm(layer + "input_layernorm",
              {attention + "q_proj", attention + "k_proj", attention + "v_proj"});
  const at::Tensor values = share_over_heads(scales_of({attention + "o_proj"}), text_);
  maps_[attention + "o_proj.weight"].in_scale = repeat_over_heads(values, text_);
  divide_output(attention + "v_proj", values, text_.attention_bias);
  smooth_norm(layer + "post_attention_layernorm", {mlp + "gate_proj", mlp + "up_proj"});
  const at::Tensor middle = scales_of({mlp + "down_proj"});
  maps_[mlp + "down_proj.weight"].in_scale = middle;
  divide_output(mlp + "up_proj", middle, text_.mlp_bias);
}

}  // namespace

TensorMaps make_smoothing(const ModelConfig& config,
                          const WeightSource& weights,
                          const std::map<std::string, InputStatistics>& inputs,
                          const SmoothOptions& options) {
  Smoothing smoothing(config, weights, inputs, options.alpha);
  for (std::int64_t i = 0; i < config.text.layers; ++i)
    smoothing.smooth_layer("decoder.layers." + std::to_string(i) + ".");
  return smoothing.take();
}

}  // namespace qvlm
