#include "transforms/rotate.h"

#include <algorithm>

#include "base/error.h"

namespace qvlm {
namespace {

class DecoderRotation {
 public:
  DecoderRotation(const ModelConfig& config, const WeightSource& weights)
      : config_(config), weights_(weights) {}

  void turn_residual_stream(const Rotation& rotation, const std::vector<std::int64_t>& massive);
  void turn_values(const Rotation& rotation);
  TensorMaps take() { return std::move(maps_); }

 private:
  // The linear writes to the residual stream.
  void turn_output(const std::string& linear, bool bias);
  // The norm's linears read its output; its gain becomes theirs, but for channels that stay.
  void turn_inputs(const StreamReaders& readers);

  const ModelConfig& config_;
  const WeightSource& weights_;
  Rotation stream_;
  at::Tensor turned_;  // [hidden] bool
  TensorMaps maps_;
};

void DecoderRotation::turn_output(const std::string& linear, bool bias) {
  maps_[linear + ".weight"].out_rotation = stream_;
  if (bias) maps_[linear + ".bias"].out_rotation = stream_;
}

void DecoderRotation::turn_inputs(const StreamReaders& readers) {
  const at::Tensor gain =
      weights_.load(readers.norm + ".weight", {config_.text.hidden_size}).to(at::kFloat);
  maps_[readers.norm + ".weight"].becomes_one = turned_;
  for (const std::string& linear : readers.linears) {
    maps_[linear + ".weight"].in_scale = at::where(turned_, gain, at::ones_like(gain));
    maps_[linear + ".weight"].in_rotation = stream_;
  }
}

void DecoderRotation::turn_residual_stream(const Rotation& rotation,
                                           const std::vector<std::int64_t>& massive) {
  stream_ = rotation;
  turned_ = channel_mask(config_.text.hidden_size, massive).logical_not();
  maps_["decoder.embed_tokens.weight"].in_rotation = stream_;
  turn_output("projector.linear_2", config_.projector_bias);
  for (std::int64_t i = 0; i < config_.text.layers; ++i) {
    const std::string layer = "decoder.layers." + std::to_string(i) + ".";
    for (const StreamReaders& readers : stream_readers(i))
      turn_inputs(readers);
    turn_output(layer + "self_attn.o_proj", config_.text.attention_bias);
    turn_output(layer + "mlp.down_proj", config_.text.mlp_bias);
  }
  turn_inputs({"decoder.norm", {"lm_head"}});
}

// Attention mixes tokens, not channels: what is turned in each head of the values is turned back
// behind it.
void DecoderRotation::turn_values(const Rotation& rotation) {
  for (std::int64_t i = 0; i < config_.text.layers; ++i) {
    const std::string attention = "decoder.layers." + std::to_string(i) + ".self_attn.";
    maps_[attention + "v_proj.weight"].out_rotation = rotation;
    if (config_.text.attention_bias) maps_[attention + "v_proj.bias"].out_rotation = rotation;
    maps_[attention + "o_proj.weight"].in_rotation = rotation;
  }
}

}  // namespace

std::vector<StreamReaders> stream_readers(std::int64_t layer) {
  const std::string name = "decoder.layers." + std::to_string(layer) + ".";
  return {{name + "input_layernorm",
           {name + "self_attn.q_proj", name + "self_attn.k_proj", name + "self_attn.v_proj"}},
          {name + "post_attention_layernorm", {name + "mlp.gate_proj", name + "mlp.up_proj"}}};
}

bool turns_residual_stream(const ModelConfig& config, const RotateOptions& options) {
  return options.residual_stream.value_or(!config.tied_head);
}

bool keeps_massive_apart(const ModelConfig& config, const RotateOptions& options) {
  return options.massive_apart && turns_residual_stream(config, options);
}

bool keeps_massive_apart(const ModelConfig& config, const std::vector<Transform>& transforms) {
  return std::ranges::any_of(transforms, [&](const Transform& transform) {
    const auto* rotate = std::get_if<RotateOptions>(&transform);
    return rotate != nullptr && keeps_massive_apart(config, *rotate);
  });
}

Rotation stream_rotation(const ModelConfig& config,
                         const RotateOptions& options,
                         const std::vector<std::int64_t>& massive) {
  return Rotation(config.text.hidden_size, options.seed, massive);
}

Rotation value_rotation(const ModelConfig& config, const RotateOptions& options) {
  return options.values ? Rotation(config.text.head_dim, options.seed + 1) : Rotation();
}

TensorMaps make_rotation(const ModelConfig& config,
                         const WeightSource& weights,
                         const RotateOptions& options,
                         const std::vector<std::int64_t>& massive) {
  const bool residual_stream = turns_residual_stream(config, options);
  require(!residual_stream || !config.tied_head, ErrorKind::kUnsupported,
          "rotate: this model's head is its embedding table, and the two would be turned "
          "differently; leave residual_stream out of the recipe, or make it false");
  require(residual_stream || options.values || options.down_input, ErrorKind::kInvalidArgument,
          "rotate: turns nothing in this model, whose head is its embedding table; leave values or "
          "down_input in the recipe, or rotate out of it");
  DecoderRotation rotation(config, weights);
  if (residual_stream)
    rotation.turn_residual_stream(stream_rotation(config, options, massive), massive);
  if (options.values) rotation.turn_values(value_rotation(config, options));
  return rotation.take();
}

}  // namespace qvlm
