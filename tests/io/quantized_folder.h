// A source folder, made-up codes for its linears and the quantized folder that the writer makes of
// them: what tests of quantized checkpoints and of their checksums share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/random.h"
#include "io/quantized_checkpoint_writer.h"
#include "support/temporary_folder.h"

namespace qvlm {

inline constexpr const char* kUp = "decoder.layers.0.mlp.up_proj";
inline constexpr const char* kDown = "decoder.layers.10.mlp.down_proj";
inline constexpr const char* kQuery = "vision_tower.encoder.layers.0.self_attn.q_proj";

inline Scheme weight_scheme(int bits,
                            Granularity granularity,
                            int group_size = 0,
                            bool symmetric = true) {
  Scheme scheme;
  scheme.bits = bits;
  scheme.granularity = granularity;
  scheme.group_size = group_size;
  scheme.symmetric = symmetric;
  return scheme;
}

inline Scheme token_scheme(int bits, double clip_ratio = 1.0) {
  Scheme scheme = weight_scheme(bits, Granularity::kToken);
  scheme.dynamic = true;
  scheme.clip_ratio = clip_ratio;
  return scheme;
}

// Random codes and scales that bfloat16 holds exactly.
inline QuantizedWeight random_weight(const Scheme& scheme, std::int64_t out, std::int64_t in) {
  Random random(7);
  QuantizedWeight weight{scheme, out, in, group_count(scheme, in), {}, {}, {}};
  const int half = 1 << (scheme.bits - 1);
  const auto code = [&] {
    return static_cast<std::int8_t>(
        static_cast<int>(random.below(static_cast<std::uint64_t>(2 * half))) - half);
  };
  for (std::int64_t i = 0; i < out * in; ++i)
    weight.codes.push_back(code());
  const bool single = scheme.granularity == Granularity::kTensor;
  for (std::int64_t i = 0; i < out * weight.groups; ++i) {
    weight.scales.push_back(single ? 0.5f : static_cast<float>(1 + random.below(100)) / 128.0f);
    if (!scheme.symmetric) weight.zero_points.push_back(single ? std::int8_t{1} : code());
  }
  return weight;
}

// A small folder of every kind of tensor, and what the writer makes of it.
class QuantizedCheckpointTest : public ::testing::Test {
 protected:
  QuantizedCheckpointTest()
      : source_folder_(folder_.path() / "source"), out_(folder_.path() / "out") {
    std::filesystem::create_directory(source_folder_);
    write_text_file(source_folder_ / "config.json",
                    R"({"model_type":"llava","tie_word_embeddings":true})");
    write_text_file(source_folder_ / "tokenizer.json", "{}");
    write_text_file(source_folder_ / "README.md", "about the float model");
    const std::vector<TensorInfo> tensors = {
        {"language_model.model.embed_tokens.weight", DType::kBF16, {8, 128}},
        {"language_model.model.layers.0.mlp.up_proj.weight", DType::kBF16, {5, 128}},
        {"language_model.model.layers.10.mlp.down_proj.weight", DType::kBF16, {4, 64}},
        {"language_model.model.norm.weight", DType::kBF16, {128}},
        {"multi_modal_projector.linear_1.weight", DType::kBF16, {3, 2}},
        {"vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.bias", DType::kBF16, {6}},
        {"vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
         DType::kBF16,
         {6, 192}},
    };
    SafetensorsWriter writer(source_folder_ / "model.safetensors", tensors, {});
    for (const TensorInfo& tensor : tensors) {
      const TensorView view{"", tensor.dtype, tensor.shape, {}};
      const std::vector<std::byte> bytes(static_cast<std::size_t>(view.elements() * 2),
                                         std::byte{0x3f});
      writer.write(tensor.name, bytes);
    }
    writer.commit();
  }

  Checkpoint source() const { return Checkpoint::open(source_folder_); }

  // Quantizes the announced linears with random codes and gives them back.
  std::map<std::string, QuantizedWeight> quantize(const LinearSchemes& linears,
                                                  QuantizedCheckpointWriter::Options options = {}) {
    Json extra = Json::object();
    extra.set("seed", 42);
    const Checkpoint checkpoint = source();
    QuantizedCheckpointWriter writer(checkpoint, out_, linears, extra, options);
    std::map<std::string, QuantizedWeight> weights;
    // Backwards, because the writer must take any order.
    for (auto linear = linears.rbegin(); linear != linears.rend(); ++linear) {
      const auto& [name, scheme] = *linear;
      const TensorView weight = checkpoint.get_tensor(name + ".weight");
      weights[name] = random_weight(scheme.weight, weight.shape[0], weight.shape[1]);
      writer.write(name, weights[name]);
    }
    writer.commit();
    return weights;
  }

  // A folder like source(), with one tensor's elements replaced.
  Checkpoint source_with(const std::string& name,
                         DType dtype,
                         const std::vector<std::byte>& bytes) {
    const std::filesystem::path folder = folder_.path() / "changed";
    std::filesystem::create_directories(folder);
    write_text_file(folder / "config.json", R"({"model_type":"llava"})");
    std::vector<TensorInfo> tensors;
    for (const TensorView& view : source().tensors())
      tensors.push_back({view.name, view.dtype, view.shape});
    const auto changed = std::ranges::find(tensors, name, &TensorInfo::name);
    changed->dtype = dtype;
    changed->shape = {static_cast<std::int64_t>(bytes.size() / dtype_size(dtype))};
    SafetensorsWriter writer(folder / "model.safetensors", tensors, {});
    const Checkpoint original = source();
    for (const TensorView& view : original.tensors())
      writer.write(view.name, view.name == name ? std::span(bytes) : view.bytes);
    writer.commit();
    return Checkpoint::open(folder);
  }

  Json quantization_config() const {
    return Json::load(out_ / "config.json").get("quantization_config");
  }

  TemporaryFolder folder_;
  std::filesystem::path source_folder_;
  std::filesystem::path out_;
};

}  // namespace qvlm
