#include "io/hf_config.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace qvlm {
namespace {

constexpr std::int64_t kSizeLimit = std::int64_t{1} << 31;  // products of two sizes fit

// The value that `name` stands for in a table of choices; kUnsupported with the list of them
// otherwise.
template <typename T, std::size_t N>
T choose(const std::array<std::pair<std::string_view, T>, N>& choices,
         const std::string& name,
         const std::string& where) {
  std::string known;
  for (const auto& [key, value] : choices) {
    if (key == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(key);
  }
  fail(ErrorKind::kUnsupported, where, ": '", name, "' is not supported; supported: ", known);
}

constexpr std::array kActivations = {
    std::pair{std::string_view("gelu"), Activation::kGelu},
    std::pair{std::string_view("gelu_pytorch_tanh"), Activation::kGeluTanh},
    std::pair{std::string_view("gelu_new"), Activation::kGeluTanh},
    std::pair{std::string_view("quick_gelu"), Activation::kQuickGelu},
    std::pair{std::string_view("silu"), Activation::kSilu},
    std::pair{std::string_view("swish"), Activation::kSilu},
};

constexpr std::array kRopeTypes = {
    std::pair{std::string_view("default"), RopeType::kDefault},
    std::pair{std::string_view("linear"), RopeType::kLinear},
    std::pair{std::string_view("llama3"), RopeType::kLlama3},
};

constexpr std::array kFeatureSelections = {
    std::pair{std::string_view("default"), FeatureSelection::kDefault},
    std::pair{std::string_view("full"), FeatureSelection::kFull},
};

// A size that must be at least 1.
std::int64_t get_size(const Json& node, std::string_view key, std::int64_t otherwise) {
  const std::int64_t value = node.get_int(key, otherwise);
  require(value >= 1 && value < kSizeLimit, ErrorKind::kCorrupt, node.where(), ".", key,
          ": expected a positive size, got ", value);
  return value;
}

// A square size: a number, or a list of two equal numbers.
std::int64_t get_square(const Json& node, std::string_view key, std::int64_t otherwise) {
  const Json value = node.find(key);
  if (!value.is_array()) return get_size(node, key, otherwise);
  const std::vector<std::int64_t> sides = value.as_ints();
  require(sides.size() == 2 && sides[0] == sides[1], ErrorKind::kUnsupported, value.where(),
          ": only square images and patches are supported");
  require(sides[0] >= 1 && sides[0] < kSizeLimit, ErrorKind::kCorrupt, value.where(),
          ": expected positive sizes, got ", sides[0]);
  return sides[0];
}

double get_positive(const Json& node, std::string_view key, double otherwise) {
  const double value = node.get_double(key, otherwise);
  require(value > 0, ErrorKind::kCorrupt, node.where(), ".", key,
          ": expected a positive number, got ", value);
  return value;
}

Activation get_activation(const Json& node, std::string_view key, std::string_view otherwise) {
  return choose(kActivations, node.get_string(key, otherwise),
                node.where() + "." + std::string(key));
}

// `part` must divide `whole`.
void check_divides(const Json& node,
                   const char* whole_name,
                   std::int64_t whole,
                   const char* part_name,
                   std::int64_t part) {
  require(whole % part == 0, ErrorKind::kCorrupt, node.where(), ": ", whole_name, " (", whole,
          ") is not a multiple of ", part_name, " (", part, ")");
}

void check_model_type(const Json& node, std::string_view expected) {
  const std::string type = node.get_string("model_type", expected);
  require(type == expected, ErrorKind::kUnsupported, node.where(), ": model_type '", type,
          "' is not supported; supported: ", expected);
}

// CLIPVisionConfig; without any vision_config LlavaConfig takes CLIP ViT-L/14-336.
VisionConfig parse_vision(const Json& config) {
  VisionConfig vision;
  const Json node = config.find("vision_config");
  if (node.is_null()) {
    vision.hidden_size = 1024;
    vision.intermediate_size = 4096;
    vision.layers = 24;
    vision.heads = 16;
    vision.image_size = 336;
    vision.patch_size = 14;
    return vision;
  }
  check_model_type(node, "clip_vision_model");
  vision.hidden_size = get_size(node, "hidden_size", vision.hidden_size);
  vision.intermediate_size = get_size(node, "intermediate_size", vision.intermediate_size);
  vision.layers = get_size(node, "num_hidden_layers", vision.layers);
  vision.heads = get_size(node, "num_attention_heads", vision.heads);
  vision.image_size = get_square(node, "image_size", vision.image_size);
  vision.patch_size = get_square(node, "patch_size", vision.patch_size);
  vision.layer_norm_eps = get_positive(node, "layer_norm_eps", vision.layer_norm_eps);
  vision.activation = get_activation(node, "hidden_act", "quick_gelu");
  const std::int64_t channels = node.get_int("num_channels", 3);
  require(channels == 3, ErrorKind::kUnsupported, node.where(), ".num_channels: ", channels,
          " channels are not supported; supported: 3");
  check_divides(node, "hidden_size", vision.hidden_size, "num_attention_heads", vision.heads);
  check_divides(node, "image_size", vision.image_size, "patch_size", vision.patch_size);
  return vision;
}

// The numbers of llama3; the class has no defaults for them.
void parse_llama3(const Json& node, const Json& parameters, RopeConfig& rope) {
  rope.low_freq_factor = parameters.get("low_freq_factor").as_double();
  rope.high_freq_factor = parameters.get("high_freq_factor").as_double();
  require(rope.low_freq_factor > 0 && rope.high_freq_factor > rope.low_freq_factor,
          ErrorKind::kCorrupt, parameters.where(),
          ": expected 0 < low_freq_factor < high_freq_factor, got ", rope.low_freq_factor, " and ",
          rope.high_freq_factor);
  // A key beside the other text keys wins over the one inside, as it does in transformers.
  const char* key = "original_max_position_embeddings";
  const std::int64_t otherwise = get_size(node, "max_position_embeddings", 2048);
  rope.original_max_positions =
      node.contains(key) ? get_size(node, key, otherwise) : get_size(parameters, key, otherwise);
}

// rope_scaling (v4) wins over rope_parameters (v5) where a file has both, as it does in
// transformers.
RopeConfig parse_rope(const Json& node) {
  const Json scaling = node.find("rope_scaling");
  Json parameters = scaling.size() > 0 ? scaling : node.find("rope_parameters");
  require(parameters.is_null() || parameters.is_object(), ErrorKind::kCorrupt, parameters.where(),
          ": expected an object");
  RopeConfig rope;
  rope.theta = parameters.find("rope_theta").is_null()
                   ? get_positive(node, "rope_theta", rope.theta)
                   : get_positive(parameters, "rope_theta", 0);
  if (parameters.is_null()) return rope;
  parameters.for_each([](const std::string&, const Json& value) {
    require(!value.is_object(), ErrorKind::kUnsupported, value.where(),
            ": RoPE parameters per layer type are not supported");
  });
  const std::string type =
      parameters.get_string("rope_type", parameters.get_string("type", "default"));
  rope.type = choose(kRopeTypes, type, parameters.where() + ".rope_type");
  if (rope.type == RopeType::kDefault) return rope;
  const double rotated =
      parameters.get_double("partial_rotary_factor", node.get_double("partial_rotary_factor", 1.0));
  require(rotated == 1.0, ErrorKind::kUnsupported, parameters.where(),
          ".partial_rotary_factor: only 1 is supported, got ", rotated);
  parameters.get("factor");
  rope.factor = get_positive(parameters, "factor", 0);
  if (rope.type == RopeType::kLlama3) parse_llama3(node, parameters, rope);
  return rope;
}

// LlamaConfig.
TextConfig parse_text(const Json& config) {
  TextConfig text;
  const Json given = config.find("text_config");
  const Json node = given.is_null() ? Json::object() : given;
  check_model_type(node, "llama");
  text.vocab_size = get_size(node, "vocab_size", text.vocab_size);
  text.hidden_size = get_size(node, "hidden_size", text.hidden_size);
  text.intermediate_size = get_size(node, "intermediate_size", text.intermediate_size);
  text.layers = get_size(node, "num_hidden_layers", text.layers);
  text.heads = get_size(node, "num_attention_heads", text.heads);
  text.kv_heads = get_size(node, "num_key_value_heads", text.heads);
  check_divides(node, "hidden_size", text.hidden_size, "num_attention_heads", text.heads);
  check_divides(node, "num_attention_heads", text.heads, "num_key_value_heads", text.kv_heads);
  text.head_dim = get_size(node, "head_dim", text.hidden_size / text.heads);
  check_divides(node, "head_dim", text.head_dim, "the size of a rotation", 2);
  text.max_positions = get_size(node, "max_position_embeddings", text.max_positions);
  text.rms_norm_eps = get_positive(node, "rms_norm_eps", text.rms_norm_eps);
  text.activation = get_activation(node, "hidden_act", "silu");
  text.rope = parse_rope(node);
  text.attention_bias = node.get_bool("attention_bias", false);
  text.mlp_bias = node.get_bool("mlp_bias", false);
  return text;
}

std::vector<std::int64_t> parse_feature_layers(const Json& config, std::int64_t layers) {
  const Json node = config.find("vision_feature_layer");
  std::vector<std::int64_t> indices = {-2};
  if (!node.is_null()) {
    indices = node.is_array() ? node.as_ints() : std::vector<std::int64_t>{node.as_int()};
  }
  require(!indices.empty(), ErrorKind::kCorrupt, node.where(), ": expected at least one layer");
  // Hidden states are the embeddings and the output of every layer.
  for (const std::int64_t index : indices) {
    require(index >= -(layers + 1) && index <= layers, ErrorKind::kCorrupt, node.where(),
            ": hidden state ", index, " does not exist: the vision tower has ", layers, " layers");
  }
  return indices;
}

std::int64_t parse_image_token(const Json& config, std::int64_t vocab_size) {
  const Json index = config.find("image_token_index");
  const Json id = config.find("image_token_id");
  const std::int64_t token =
      config.get_int("image_token_index", config.get_int("image_token_id", 32000));
  require(index.is_null() || id.is_null() || id.as_int() == token, ErrorKind::kCorrupt,
          config.where(), ": image_token_index and image_token_id differ");
  require(token >= 0 && token < vocab_size, ErrorKind::kCorrupt, config.where(),
          ": the image token ", token, " is outside the vocabulary of ", vocab_size);
  return token;
}

// What transformers 5 does: a declared tie is ignored when the files hold a head of its own.
bool find_tied_head(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  const bool declared = config.get_bool("tie_word_embeddings", false) ||
                        config.find("text_config").get_bool("tie_word_embeddings", false);
  if (!declared || checkpoint.find_tensor("lm_head.weight_packed")) return false;
  const std::optional<TensorView> head = checkpoint.find_tensor("lm_head.weight");
  const std::optional<TensorView> table = checkpoint.find_tensor("decoder.embed_tokens.weight");
  if (!head || !table) return true;
  return head->dtype == table->dtype && std::ranges::equal(head->bytes, table->bytes);
}

// Every layer has tensors, so a larger count is a broken file: nobody should list its layers.
void check_layers(const Checkpoint& checkpoint, const char* part, std::int64_t layers) {
  const std::size_t tensors = checkpoint.tensors().size();
  require(std::cmp_less_equal(layers, tensors), ErrorKind::kCorrupt, checkpoint.config().where(),
          ": ", part, ".num_hidden_layers: ", layers, " layers, but the weight files have only ",
          tensors, " tensors");
}

}  // namespace

std::int64_t ModelConfig::image_tokens() const {
  return vision.patches() + (feature_selection == FeatureSelection::kFull ? 1 : 0);
}

ModelConfig load_model_config(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  config.get("model_type");
  check_model_type(config, "llava");
  ModelConfig model;
  model.vision = parse_vision(config);
  model.text = parse_text(config);
  check_layers(checkpoint, "vision_config", model.vision.layers);
  check_layers(checkpoint, "text_config", model.text.layers);
  model.vision_feature_layers = parse_feature_layers(config, model.vision.layers);
  model.feature_selection =
      choose(kFeatureSelections, config.get_string("vision_feature_select_strategy", "default"),
             config.where() + ".vision_feature_select_strategy");
  model.projector_activation = get_activation(config, "projector_hidden_act", "gelu");
  model.projector_bias = config.get_bool("multimodal_projector_bias", true);
  model.image_token_id = parse_image_token(config, model.text.vocab_size);
  model.tied_head = find_tied_head(checkpoint);
  return model;
}

}  // namespace qvlm
