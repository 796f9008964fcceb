#include "io/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A model folder with the given files and one or more one-byte tensors.
class HfConfigTest : public ::testing::Test {
 protected:
  Checkpoint open(const std::string& config) {
    write_text_file(folder_.path() / "config.json", config);
    std::vector<TensorInfo> infos;
    for (const auto& [name, value] : tensors_)
      infos.push_back({name, DType::kU8, {1}});
    SafetensorsWriter writer(folder_.path() / "model.safetensors", infos, {});
    for (const auto& [name, value] : tensors_)
      writer.write(name, std::span(&value, 1));
    writer.commit();
    return Checkpoint::open(folder_.path());
  }
  ModelConfig load(const std::string& config) { return load_model_config(open(config)); }
  void expect_failure(const std::string& config, ErrorKind kind, const std::string& word) {
    try {
      load(config);
      ADD_FAILURE() << config << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(word));
      EXPECT_THAT(error.what(), HasSubstr("config.json"));
    }
  }
  void write(const std::string& file, const std::string& text) {
    write_text_file(folder_.path() / file, text);
  }

  TemporaryFolder folder_;
  // Enough of them for the layers of the defaults.
  static std::map<std::string, std::byte> many_tensors() {
    std::map<std::string, std::byte> tensors;
    for (int i = 0; i < 32; ++i) {
      const std::string layer = "language_model.model.layers." + std::to_string(i);
      tensors[layer + ".input_layernorm.weight"] = std::byte{1};
    }
    return tensors;
  }
  std::map<std::string, std::byte> tensors_ = many_tensors();
};

TEST_F(HfConfigTest, EmptyConfigGivesTheClassDefaults) {
  // The default image token, 32000, is outside the default vocabulary: real files state one of
  // both.
  const ModelConfig model = load(R"({"model_type":"llava","text_config":{"vocab_size":32064}})");
  EXPECT_EQ(model.vision.hidden_size, 1024);  // LlavaConfig's own tower: CLIP ViT-L/14-336
  EXPECT_EQ(model.vision.layers, 24);
  EXPECT_EQ(model.image_tokens(), 576);
  EXPECT_EQ(model.text.hidden_size, 4096);
  EXPECT_EQ(model.text.head_dim, 128);
  EXPECT_EQ(model.text.max_positions, 2048);
  EXPECT_THAT(model.vision_feature_layers, ElementsAre(-2));
  EXPECT_EQ(model.image_token_id, 32000);
}

TEST_F(HfConfigTest, PartialPartsTakeTheirOwnDefaults) {
  const ModelConfig model = load(R"({"model_type":"llava","image_token_id":7,
      "vision_config":{"image_size":[64,64]},
      "text_config":{"hidden_size":64,"num_attention_heads":8,"vocab_size":320}})");
  EXPECT_EQ(model.vision.hidden_size, 768);  // CLIPVisionConfig, not LlavaConfig's tower
  EXPECT_EQ(model.vision.patches(), 4);
  EXPECT_EQ(model.text.kv_heads, 8);
  EXPECT_EQ(model.text.head_dim, 8);
  EXPECT_EQ(model.image_token_id, 7);
}

TEST_F(HfConfigTest, BothSpellingsOfRopeMeanTheSame) {
  const RopeConfig old = load(R"({"model_type":"llava","image_token_index":0,"text_config":{
      "rope_theta":5e5,"max_position_embeddings":4096,"rope_scaling":{"type":"llama3","factor":8,
      "low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":1024}}})")
                             .text.rope;
  const RopeConfig now = load(R"({"model_type":"llava","image_token_index":0,"text_config":{
      "rope_parameters":{"rope_theta":5e5,"rope_type":"llama3","factor":8,"low_freq_factor":1,
      "high_freq_factor":4,"original_max_position_embeddings":1024}}})")
                             .text.rope;
  for (const RopeConfig& rope : {old, now}) {
    EXPECT_EQ(rope.type, RopeType::kLlama3);
    EXPECT_EQ(rope.theta, 5e5);
    EXPECT_EQ(rope.factor, 8);
    EXPECT_EQ(rope.original_max_positions, 1024);
  }
  const RopeConfig linear = load(R"({"model_type":"llava","image_token_index":0,"text_config":{
      "rope_scaling":{"type":"linear","factor":2.5},"rope_parameters":null}})")
                                .text.rope;
  EXPECT_EQ(linear.type, RopeType::kLinear);
  EXPECT_EQ(linear.theta, 10000);
}

TEST_F(HfConfigTest, UnknownValuesAreUnsupported) {
  const auto unsupported = [&](const std::string& members, const std::string& word) {
    expect_failure(R"({"model_type":"llava","image_token_index":0,)" + members + "}",
                   ErrorKind::kUnsupported, word);
  };
  expect_failure(R"({"model_type":"qwen2_vl"})", ErrorKind::kUnsupported, "supported: llava");
  unsupported(R"("text_config":{"model_type":"mistral"})", "supported: llama");
  unsupported(R"("vision_config":{"model_type":"siglip_vision_model"})", "clip_vision_model");
  unsupported(R"("vision_config":{"hidden_act":"relu"})", "vision_config.hidden_act: 'relu'");
  unsupported(R"("text_config":{"rope_scaling":{"rope_type":"yarn","factor":2}})", "'yarn'");
  unsupported(R"("text_config":{"rope_parameters":{"full_attention":{"rope_theta":1}}})", "layer");
  unsupported(R"("vision_feature_select_strategy":"cls")", "default, full");
  unsupported(R"("vision_config":{"num_channels":4})", "num_channels");
}

TEST_F(HfConfigTest, IllegalValuesAreCorrupt) {
  const auto corrupt = [&](const std::string& members, const std::string& word) {
    expect_failure(R"({"model_type":"llava",)" + members + "}", ErrorKind::kCorrupt, word);
  };
  expect_failure("{}", ErrorKind::kNotFound, "model_type");
  corrupt(R"("text_config":{"hidden_size":0})", "hidden_size");
  corrupt(R"("text_config":{"hidden_size":"64"})", "text_config.hidden_size");
  corrupt(R"("text_config":{"hidden_size":100})", "not a multiple");
  corrupt(R"("text_config":{"num_key_value_heads":5})", "num_key_value_heads");
  corrupt(R"("vision_config":{"patch_size":15})", "patch_size");
  corrupt(R"("vision_config":{"image_size":[1e18,1e18]})", "image_size");
  corrupt(R"("vision_config":{"image_size":[0,0]})", "image_size");
  corrupt(R"("image_token_index":32064)", "outside the vocabulary");
  corrupt(R"("image_token_index":1,"image_token_id":2)", "differ");
  corrupt(R"("image_token_index":1,"vision_feature_layer":-26)", "-26");
  corrupt(R"("image_token_index":1,"vision_feature_layer":[1,25])", "25");
  corrupt(R"("image_token_index":1,"vision_feature_layer":[])", "at least one");
}

// Listing the linears of two billion layers would take all memory.
TEST_F(HfConfigTest, MoreLayersThanTensorsAreCorrupt) {
  for (const std::string part : {"text_config", "vision_config"}) {
    const auto config = [&](const std::string& layers) {
      return R"({"model_type":"llava","image_token_index":0,")" + part +
             R"(":{"num_hidden_layers":)" + layers + "}}";
    };
    expect_failure(config("2000000000"), ErrorKind::kCorrupt, part + ".num_hidden_layers");
    expect_failure(config("33"), ErrorKind::kCorrupt, "only 32 tensors");
    EXPECT_NO_THROW(load(config("32")));
  }
}

TEST_F(HfConfigTest, TiesAsTransformersDoes) {
  const std::string tied = R"({"model_type":"llava","image_token_index":0,
      "text_config":{"tie_word_embeddings":true}})";
  EXPECT_TRUE(load(tied).tied_head);
  EXPECT_TRUE(
      load(R"({"model_type":"llava","image_token_index":0,"tie_word_embeddings":true})").tied_head);
  EXPECT_FALSE(load(R"({"model_type":"llava","image_token_index":0})").tied_head);
  tensors_["language_model.model.embed_tokens.weight"] = std::byte{1};
  tensors_["language_model.lm_head.weight"] = std::byte{1};
  EXPECT_TRUE(load(tied).tied_head);
  tensors_["language_model.lm_head.weight"] = std::byte{2};  // a head of its own beats the config
  EXPECT_FALSE(load(tied).tied_head);
}

TEST_F(HfConfigTest, ProcessorSizesInEverySpelling) {
  const Checkpoint checkpoint = open(R"({"model_type":"llava"})");
  EXPECT_THROW(load_processor_config(checkpoint), Error);
  write("preprocessor_config.json", R"({"size":336,"crop_size":336,"resample":2})");
  const ProcessorConfig numbers = load_processor_config(checkpoint);
  EXPECT_EQ(numbers.shortest_edge, 336);
  EXPECT_EQ(numbers.crop_height, 336);
  EXPECT_EQ(numbers.resample, Resample::kBilinear);
  // The nested form wins over the file of its own.
  write("processor_config.json",
        R"({"image_processor":{"image_processor_type":"LlavaImageProcessorFast",
      "do_pad":true,"size":{"height":28,"width":56},"crop_size":{"height":20,"width":30},
      "do_rescale":false,"image_mean":0.5,"image_std":[1,2,3]}})");
  const ProcessorConfig nested = load_processor_config(checkpoint);
  EXPECT_EQ(nested.shortest_edge, 0);
  EXPECT_EQ(nested.resize_width, 56);
  EXPECT_EQ(nested.crop_width, 30);
  EXPECT_TRUE(nested.pad_to_square);
  EXPECT_EQ(nested.rescale_factor, 0);
  EXPECT_THAT(nested.mean, ElementsAre(0.5, 0.5, 0.5));
  EXPECT_THAT(nested.std, ElementsAre(1, 2, 3));
}

TEST_F(HfConfigTest, RefusesProcessorsItWouldGetWrong) {
  const Checkpoint checkpoint = open(R"({"model_type":"llava"})");
  for (const char* text :
       {R"({"image_processor_type":"SiglipImageProcessor"})", R"({"do_pad":true})",
        R"({"size":{"longest_edge":336}})", R"({"resample":5})"}) {
    write("preprocessor_config.json", text);
    try {
      load_processor_config(checkpoint);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported) << error.what();
    }
  }
}

TEST_F(HfConfigTest, TokenIdsComeFromTheFirstFileThatHasThem) {
  const Checkpoint checkpoint =
      open(R"({"model_type":"llava","pad_token_id":9,"text_config":{"eos_token_id":5}})");
  const GenerationConfig config = load_generation_config(checkpoint);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(5));
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_EQ(config.pad_token_id, 9);
  write("generation_config.json", R"({"eos_token_id":[2,3],"bos_token_id":4})");
  EXPECT_THAT(load_generation_config(checkpoint).eos_token_ids, ElementsAre(2, 3));
  EXPECT_EQ(load_generation_config(checkpoint).bos_token_id, 4);
}

}  // namespace
}  // namespace qvlm
