#include "model/llama.h"

#include "base/cancellation.h"
#include "model/attention.h"
#include "model/functional.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

Linear load_head(const Weights& root, const ModelConfig& config) {
  const std::int64_t vocab = config.text.vocab_size, hidden = config.text.hidden_size;
  if (!config.tied_head) return root.linear("lm_head", hidden, vocab, /*bias=*/false);
  return Linear(root.get_stored("decoder.embed_tokens.weight", {vocab, hidden}), at::Tensor(),
                root.execution());
}

}  // namespace

DecoderLayer::DecoderLayer(const Weights& layer, const TextConfig& config)
    : config_(config),
      input_norm_(layer.get("input_layernorm.weight", {config.hidden_size})),
      post_attention_norm_(layer.get("post_attention_layernorm.weight", {config.hidden_size})),
      q_(layer.linear("self_attn.q_proj",
                      config.hidden_size,
                      config.heads * config.head_dim,
                      config.attention_bias)),
      k_(layer.linear("self_attn.k_proj",
                      config.hidden_size,
                      config.kv_heads * config.head_dim,
                      config.attention_bias)),
      v_(layer.linear("self_attn.v_proj",
                      config.hidden_size,
                      config.kv_heads * config.head_dim,
                      config.attention_bias)),
      o_(layer.linear("self_attn.o_proj",
                      config.heads * config.head_dim,
                      config.hidden_size,
                      config.attention_bias)),
      gate_(layer.linear(
          "mlp.gate_proj", config.hidden_size, config.intermediate_size, config.mlp_bias)),
      up_(layer.linear(
          "mlp.up_proj", config.hidden_size, config.intermediate_size, config.mlp_bias)),
      down_(layer.linear(
          "mlp.down_proj", config.intermediate_size, config.hidden_size, config.mlp_bias)) {}

at::Tensor DecoderLayer::forward_with(const at::Tensor& x,
                                      const RopeAngles& angles,
                                      const Attend& attend) const {
  const auto heads = [&](const at::Tensor& projected) {
    return projected.reshape({x.size(0), -1, config_.head_dim})
        .transpose(0, 1);  // [heads, tokens, head_dim]
  };
  const LinearInput normed = rms_norm(x, input_norm_, config_.rms_norm_eps);
  const at::Tensor query = rotate(heads(q_.forward(normed)), angles);
  const at::Tensor key = rotate(heads(k_.forward(normed)), angles);
  const at::Tensor mixed = attend(query, key, heads(v_.forward(normed)));
  const at::Tensor middle = o_.forward(mixed, add_to(x));

  const LinearInput normed_middle = rms_norm(middle, post_attention_norm_, config_.rms_norm_eps);
  const at::Tensor gate = gate_.forward(normed_middle, {.function = config_.activation});
  return down_.forward(up_.forward(normed_middle, multiply_by(gate)), add_to(middle));
}

at::Tensor DecoderLayer::forward(const at::Tensor& x,
                                 const RopeAngles& angles,
                                 KvCache& cache,
                                 std::int64_t index) const {
  return forward_with(x, angles,
                      [&](const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
                        return cached_attention(query, cache.append(index, key, value));
                      });
}

at::Tensor DecoderLayer::forward(const at::Tensor& x, const RopeAngles& angles) const {
  return forward_with(x, angles,
                      [](const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
                        return attention(query, key, value, /*causal=*/true);
                      });
}

std::vector<NamedLinear> DecoderLayer::linears() {
  std::vector<NamedLinear> linears = {{"self_attn.q_proj", &q_}, {"self_attn.k_proj", &k_},
                                      {"self_attn.v_proj", &v_}, {"self_attn.o_proj", &o_},
                                      {"mlp.gate_proj", &gate_}, {"mlp.up_proj", &up_},
                                      {"mlp.down_proj", &down_}};
  for (NamedLinear& place : linears)
    place.input = input_of(place.name);
  return linears;
}

int DecoderLayer::input_of(std::string_view name) {
  if (name.ends_with("self_attn.o_proj")) return 1;
  if (name.ends_with("mlp.gate_proj") || name.ends_with("mlp.up_proj")) return 2;
  return name.ends_with("mlp.down_proj") ? 3 : 0;
}

Head::Head(const Weights& root, const ModelConfig& config)
    : eps_(config.text.rms_norm_eps),
      norm_(root.get("decoder.norm.weight", {config.text.hidden_size})),
      projection_(load_head(root, config)) {}

at::Tensor Head::forward(const at::Tensor& x) const {
  return projection_.forward(rms_norm(x, norm_, eps_));
}

Decoder::Decoder(const Weights& root, const ModelConfig& config)
    : embedding_(root.get_stored("decoder.embed_tokens.weight",
                                 {config.text.vocab_size, config.text.hidden_size})),
      rope_(config.text.rope, config.text.head_dim),
      head_(root, config) {
  for (std::int64_t i = 0; i < config.text.layers; ++i) {
    layers_.emplace_back(root.scope("decoder.layers." + std::to_string(i)), config.text);
  }
}

at::Tensor Decoder::embed(const std::vector<std::int32_t>& ids) const {
  return embedding_.index_select(0, at::tensor(ids, at::kLong)).to(at::kFloat);
}

at::Tensor Decoder::forward(const at::Tensor& x,
                            KvCache& cache,
                            LogitsOf positions,
                            const std::stop_token& cancel) const {
  require_shape(x, "decoder input", {kAnySize, embedding_.size(1)});
  const RopeAngles angles = rope_.angles(cache.length(), x.size(0));
  at::Tensor hidden = x;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    throw_if_cancelled(cancel);
    hidden = layers_[i].forward(hidden, angles, cache, static_cast<std::int64_t>(i));
  }
  cache.advance(x.size(0));
  return head_.forward(positions == LogitsOf::kAll ? hidden : hidden.slice(0, x.size(0) - 1));
}

}  // namespace qvlm
