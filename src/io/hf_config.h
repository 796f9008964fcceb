// Hugging Face configuration files as plain structs. Missing keys take the defaults of the
// transformers classes (LlavaConfig, CLIPVisionConfig, LlamaConfig), v4 and v5 spellings are both
// read, and a value that we would compute wrongly (an unknown activation, RoPE type or model type)
// is kUnsupported, never ignored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace qvlm {

enum class Activation { kGelu, kGeluTanh, kQuickGelu, kSilu };

// CLIPVisionConfig.
struct VisionConfig {
  std::int64_t hidden_size = 768;
  std::int64_t intermediate_size = 3072;
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t image_size = 224;
  std::int64_t patch_size = 32;
  double layer_norm_eps = 1e-5;
  Activation activation = Activation::kQuickGelu;

  std::int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};

enum class RopeType { kDefault, kLinear, kLlama3 };

// Rotary position embedding: rope_theta + rope_scaling (v4) or rope_parameters (v5).
struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                         // linear, llama3
  double low_freq_factor = 1.0;                // llama3
  double high_freq_factor = 4.0;               // llama3
  std::int64_t original_max_positions = 8192;  // llama3
};

// LlamaConfig.
struct TextConfig {
  std::int64_t vocab_size = 32000;
  std::int64_t hidden_size = 4096;
  std::int64_t intermediate_size = 11008;
  std::int64_t layers = 32;
  std::int64_t heads = 32;
  std::int64_t kv_heads = 32;
  std::int64_t head_dim = 128;
  std::int64_t max_positions = 2048;
  double rms_norm_eps = 1e-6;
  Activation activation = Activation::kSilu;
  RopeConfig rope;
  bool attention_bias = false;
  bool mlp_bias = false;
};

enum class FeatureSelection { kDefault, kFull };  // "default" drops the class token

// LlavaConfig.
struct ModelConfig {
  VisionConfig vision;
  TextConfig text;
  std::vector<std::int64_t> vision_feature_layers = {-2};  // several are joined along channels
  FeatureSelection feature_selection = FeatureSelection::kDefault;
  Activation projector_activation = Activation::kGelu;
  bool projector_bias = true;
  std::int64_t image_token_id = 32000;
  bool tied_head = false;  // lm_head shares the embedding table

  std::int64_t image_tokens() const;  // positions one image takes in the prompt
};

enum class Resample {
  kNearest = 0,
  kLanczos = 1,
  kBilinear = 2,
  kBicubic = 3
};  // Pillow's numbers

// CLIPImageProcessor / LlavaImageProcessor.
struct ProcessorConfig {
  bool resize = true;
  std::int64_t shortest_edge = 224;  // size.shortest_edge; 0 when height and width are given
  std::int64_t resize_height = 0, resize_width = 0;  // size.{height,width}
  Resample resample = Resample::kBicubic;
  bool pad_to_square = false;  // do_pad: with the mean colour, before resizing
  bool center_crop = true;
  std::int64_t crop_height = 224, crop_width = 224;
  double rescale_factor = 1.0 / 255.0;  // 0 when do_rescale is false
  bool normalize = true;
  std::vector<double> mean = {0.48145466, 0.4578275, 0.40821073};
  std::vector<double> std = {0.26862954, 0.26130258, 0.27577711};
};

// generation_config.json, else the ids in config.json.
struct GenerationConfig {
  std::vector<std::int64_t> eos_token_ids;
  std::optional<std::int64_t> bos_token_id;
  std::optional<std::int64_t> pad_token_id;
};

// Each throws kCorrupt (wrong type), kNotFound (a key without a default) or kUnsupported, naming
// file and key.
ModelConfig load_model_config(const Checkpoint& checkpoint);
ProcessorConfig load_processor_config(
    const Checkpoint& checkpoint);  // nested processor_config.json or preprocessor_config.json
GenerationConfig load_generation_config(const Checkpoint& checkpoint);

}  // namespace qvlm
