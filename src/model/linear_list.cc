#include "model/linear_list.h"

namespace qvlm {
namespace {

void add_vision_layer(std::vector<LinearShape>& linears,
                      const std::string& layer,
                      const VisionConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
    linears.push_back({layer + ".self_attn." + name, hidden, hidden});
  }
  linears.push_back({layer + ".mlp.fc1", config.intermediate_size, hidden});
  linears.push_back({layer + ".mlp.fc2", hidden, config.intermediate_size});
}

void add_decoder_layer(std::vector<LinearShape>& linears,
                       const std::string& layer,
                       const TextConfig& config) {
  const std::int64_t hidden = config.hidden_size, query = config.heads * config.head_dim;
  const std::int64_t key = config.kv_heads * config.head_dim, middle = config.intermediate_size;
  linears.push_back({layer + ".self_attn.q_proj", query, hidden});
  linears.push_back({layer + ".self_attn.k_proj", key, hidden});
  linears.push_back({layer + ".self_attn.v_proj", key, hidden});
  linears.push_back({layer + ".self_attn.o_proj", hidden, query});
  linears.push_back({layer + ".mlp.gate_proj", middle, hidden});
  linears.push_back({layer + ".mlp.up_proj", middle, hidden});
  linears.push_back({layer + ".mlp.down_proj", hidden, middle});
}

}  // namespace

std::vector<LinearShape> list_linears(const ModelConfig& config) {
  std::vector<LinearShape> linears;
  for (std::int64_t i = 0; i < config.vision.layers; ++i) {
    add_vision_layer(linears, "vision_tower.encoder.layers." + std::to_string(i), config.vision);
  }
  const std::int64_t hidden = config.text.hidden_size;
  const std::int64_t features =
      config.vision.hidden_size * static_cast<std::int64_t>(config.vision_feature_layers.size());
  linears.push_back({"projector.linear_1", hidden, features});
  linears.push_back({"projector.linear_2", hidden, hidden});
  for (std::int64_t i = 0; i < config.text.layers; ++i) {
    add_decoder_layer(linears, "decoder.layers." + std::to_string(i), config.text);
  }
  if (!config.tied_head) linears.push_back({"lm_head", config.text.vocab_size, hidden});
  return linears;
}

bool is_in_encoder(std::string_view linear) {
  return linear.starts_with("vision_tower.") || linear.starts_with("projector.");
}

bool is_in_decoder(std::string_view linear) {
  return linear.starts_with("decoder.");
}

}  // namespace qvlm
