// The writer and the reader of quantized checkpoints, on a small folder of every kind of tensor.
#include "io/quantized_checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/random.h"
#include "io/checksums.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kUp = "decoder.layers.0.mlp.up_proj";
constexpr const char* kDown = "decoder.layers.10.mlp.down_proj";
constexpr const char* kQuery = "vision_tower.encoder.layers.0.self_attn.q_proj";

Scheme weight_scheme(int bits, Granularity granularity, int group_size = 0, bool symmetric = true) {
  Scheme scheme;
  scheme.bits = bits;
  scheme.granularity = granularity;
  scheme.group_size = group_size;
  scheme.symmetric = symmetric;
  return scheme;
}

Scheme token_scheme(int bits, double clip_ratio = 1.0) {
  Scheme scheme = weight_scheme(bits, Granularity::kToken);
  scheme.dynamic = true;
  scheme.clip_ratio = clip_ratio;
  return scheme;
}

// Random codes and scales that bfloat16 holds exactly.
QuantizedWeight random_weight(const Scheme& scheme, std::int64_t out, std::int64_t in) {
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

class QuantizedCheckpointTest : public ::testing::Test {
 protected:
  QuantizedCheckpointTest()
      : source_folder_(folder_.path() / "source"), out_(folder_.path() / "out") {
    fs::create_directory(source_folder_);
    write_text_file(source_folder_ / "config.json",
                    R"({"model_type":"llava","tie_word_embeddings":true})");
    write_text_file(source_folder_ / "tokenizer.json", "{}");
    write_text_file(source_folder_ / "README.md", "about the float model");
    const std::vector<TensorInfo> tensors = {
        {"language_model.model.embed_tokens.weight", DType::kBF16, {8, 70}},
        {"language_model.model.layers.0.mlp.up_proj.weight", DType::kBF16, {5, 70}},
        {"language_model.model.layers.10.mlp.down_proj.weight", DType::kBF16, {4, 64}},
        {"language_model.model.norm.weight", DType::kBF16, {70}},
        {"multi_modal_projector.linear_1.weight", DType::kBF16, {3, 2}},
        {"vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.bias", DType::kBF16, {6}},
        {"vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
         DType::kBF16,
         {6, 33}},
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

  Json quantization_config() const {
    return Json::load(out_ / "config.json").get("quantization_config");
  }

  TemporaryFolder folder_;
  fs::path source_folder_;
  fs::path out_;
};

void expect_equal(const QuantizedWeight& got, const QuantizedWeight& want) {
  EXPECT_EQ(got.out, want.out);
  EXPECT_EQ(got.in, want.in);
  EXPECT_EQ(got.groups, want.groups);
  EXPECT_EQ(got.codes, want.codes);
  EXPECT_EQ(got.scales, want.scales);
  EXPECT_EQ(got.zero_points, want.zero_points);
}

TEST_F(QuantizedCheckpointTest, EverySchemeComesBackAsItWasWritten) {
  const std::vector<LinearScheme> schemes = {
      {weight_scheme(4, Granularity::kGroup, 32), std::nullopt},
      {weight_scheme(4, Granularity::kGroup, 32, false), token_scheme(8, 0.9)},
      {weight_scheme(4, Granularity::kChannel, 0, false), token_scheme(4)},
      {weight_scheme(8, Granularity::kChannel), token_scheme(8, 0.95)},
      {weight_scheme(8, Granularity::kTensor, 0, false), token_scheme(8)},
      {weight_scheme(8, Granularity::kChannel), std::nullopt},
      {weight_scheme(4, Granularity::kTensor, 0, false), std::nullopt},
      {weight_scheme(6, Granularity::kChannel), token_scheme(6)},
      {weight_scheme(3, Granularity::kGroup, 64, false), std::nullopt},
      {weight_scheme(2, Granularity::kGroup, 64), std::nullopt},
  };
  for (const LinearScheme& scheme : schemes) {
    const LinearSchemes linears = {{kUp, scheme}, {kDown, scheme}, {kQuery, scheme}};
    const auto weights = quantize(linears, {.overwrite = true});
    const Checkpoint checkpoint = Checkpoint::open(out_);
    const std::optional<QuantizationConfig> config = QuantizationConfig::load(checkpoint);
    ASSERT_TRUE(config);
    EXPECT_EQ(config->linears(), linears);
    for (const auto& [name, weight] : weights) {
      expect_equal(load_quantized_weight(checkpoint, name, scheme.weight), weight);
    }
    EXPECT_FALSE(config->find("projector.linear_1"));
    EXPECT_EQ(verify_checksums(out_).tensors,
              static_cast<std::int64_t>(checkpoint.tensors().size()));
  }
}

TEST_F(QuantizedCheckpointTest, KeepsEverythingElseOfTheSource) {
  quantize({{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}});
  const Checkpoint before = source();
  const Checkpoint after = Checkpoint::open(out_);
  for (const char* name :
       {"decoder.norm.weight", "decoder.embed_tokens.weight", "projector.linear_1.weight"}) {
    const TensorView want = before.get_tensor(name);
    const TensorView got = after.get_tensor(name);
    EXPECT_EQ(got.describe(), want.describe());
    EXPECT_TRUE(std::ranges::equal(got.bytes, want.bytes));
  }
  EXPECT_FALSE(after.find_tensor(std::string(kUp) + ".weight"));
  EXPECT_TRUE(fs::exists(out_ / "tokenizer.json"));
  EXPECT_FALSE(fs::exists(out_ / "README.md"));
  EXPECT_TRUE(after.config().get_bool("tie_word_embeddings"));
  EXPECT_EQ(Json::load(out_ / "qvlm.json").get_int("seed"), 42);
  EXPECT_FALSE(fs::exists(out_.string() + ".part"));
}

TEST_F(QuantizedCheckpointTest, DeclaresOneGroupTheWayTheFormatShows) {
  quantize({{kUp, {weight_scheme(4, Granularity::kGroup, 32), token_scheme(8)}},
            {kDown, {weight_scheme(4, Granularity::kGroup, 32), token_scheme(4)}}});
  const Json config = quantization_config();
  EXPECT_EQ(config.get_string("format"), "pack-quantized");
  ASSERT_EQ(config.get("config_groups").size(), 1u);
  const Json group = config.get("config_groups").get("group_0");
  EXPECT_THAT(group.get("targets").as_strings(), ElementsAre("Linear"));
  EXPECT_TRUE(group.get("input_activations").is_null());
  EXPECT_EQ(group.get("weights").get_int("group_size"), 32);
  const std::vector<std::string> ignore = config.get("ignore").as_strings();
  EXPECT_THAT(ignore, Contains("re:.*lm_head"));
  EXPECT_THAT(ignore, Contains("re:.*vision_tower.*"));
  EXPECT_THAT(ignore, Contains("multi_modal_projector.linear_1"));
  EXPECT_THAT(ignore, Not(Contains(HasSubstr("up_proj"))));
}

TEST_F(QuantizedCheckpointTest, DeclaresSeveralFormatsWithTheirTargets) {
  const LinearSchemes linears = {
      {kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}},
      {kDown, {weight_scheme(8, Granularity::kChannel), token_scheme(8)}}};
  quantize(linears);
  const Json config = quantization_config();
  EXPECT_EQ(config.get_string("format"), "mixed-precision");
  ASSERT_EQ(config.get("config_groups").size(), 2u);
  const Json second = config.get("config_groups").get("group_1");
  EXPECT_EQ(second.get_string("format"), "int-quantized");
  EXPECT_EQ(second.get("input_activations").get_string("strategy"), "token");
  EXPECT_EQ(QuantizationConfig::load(Checkpoint::open(out_))->linears(), linears);
}

TEST_F(QuantizedCheckpointTest, AForeignFolderNeedsNoQvlmJson) {
  const LinearScheme scheme = {weight_scheme(4, Granularity::kGroup, 32), token_scheme(8)};
  quantize({{kUp, scheme}, {kDown, scheme}});
  fs::remove(out_ / "qvlm.json");
  const auto config = QuantizationConfig::load(Checkpoint::open(out_));
  EXPECT_EQ(config->linears().size(), 2u);
  EXPECT_EQ(config->find(kUp)->weight, scheme.weight);
  EXPECT_FALSE(config->find(kUp)->activation);
  EXPECT_THROW(verify_checksums(out_), Error);
}

TEST_F(QuantizedCheckpointTest, RefusesContradictionsInTheConfig) {
  quantize({{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}});
  const std::string text = read_text_file(out_ / "config.json");
  const auto expect = [&](const std::string& from, const std::string& to, ErrorKind kind,
                          const std::string& word) {
    std::string changed = text;
    ASSERT_NE(changed.find(from), std::string::npos) << from;
    write_text_file(out_ / "config.json", changed.replace(changed.find(from), from.size(), to));
    try {
      QuantizationConfig::load(Checkpoint::open(out_));
      ADD_FAILURE() << to << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(word));
    }
  };
  expect("compressed-tensors", "gptq", ErrorKind::kUnsupported, "compressed-tensors");
  expect("\"format\": \"pack-quantized\"\n", "\"format\": \"marlin-24\"\n", ErrorKind::kUnsupported,
         "marlin-24");
  expect("\"int\"", "\"float\"", ErrorKind::kUnsupported, "supported: int");
  expect("\"actorder\": null", "\"actorder\": \"group\"", ErrorKind::kUnsupported, "actorder");
  expect("\"group_size\": 32", "\"group_size\": 48", ErrorKind::kUnsupported, "48");
  expect("\"num_bits\": 4", "\"num_bits\": 8", ErrorKind::kCorrupt, "contradicts");
  expect("re:.*vision_tower.*", "re:(", ErrorKind::kCorrupt, "regular expression");
  expect("\"Linear\"", "\"Conv2d\"", ErrorKind::kCorrupt, "does not target");
  expect("\"ignore\": [", "\"ignore\": [], \"ignored\": [", ErrorKind::kCorrupt, "no weight_scale");
}

TEST_F(QuantizedCheckpointTest, RefusesAWeightThatContradictsItsAnnouncement) {
  const Scheme scheme = weight_scheme(4, Granularity::kGroup, 32);
  QuantizedCheckpointWriter writer(source(), out_, {{kUp, {scheme, std::nullopt}}}, Json::object());
  QuantizedWeight weight = random_weight(scheme, 5, 70);
  EXPECT_THROW(writer.write(kDown, weight), Error);
  weight.codes[3] = 8;
  EXPECT_THROW(writer.write(kUp, weight), Error);
  weight.codes[3] = 7;
  weight.scales[1] = 1.0f / 3.0f;  // not a bfloat16 number: reading would give another scale
  EXPECT_THROW(writer.write(kUp, weight), Error);
  EXPECT_THROW(writer.commit(), Error);
  weight.scales[1] = 0.25f;
  writer.write(kUp, weight);
  EXPECT_THROW(writer.write(kUp, weight), Error);
  writer.commit();
  EXPECT_TRUE(fs::exists(out_ / "qvlm.json"));
}

TEST_F(QuantizedCheckpointTest, LeavesNothingWithoutACommit) {
  const Scheme scheme = weight_scheme(4, Granularity::kGroup, 32);
  {
    QuantizedCheckpointWriter writer(source(), out_, {{kUp, {scheme, std::nullopt}}},
                                     Json::object());
    EXPECT_TRUE(fs::exists(out_.string() + ".part"));
  }
  EXPECT_FALSE(fs::exists(out_));
  EXPECT_FALSE(fs::exists(out_.string() + ".part"));
}

TEST_F(QuantizedCheckpointTest, ReplacesAFolderOnlyWhenAsked) {
  const LinearSchemes linears = {{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}};
  fs::create_directory(out_);
  quantize(linears);  // empty: fine
  write_text_file(out_ / "mine.txt", "do not lose");
  EXPECT_THROW(quantize(linears), Error);
  EXPECT_TRUE(fs::exists(out_ / "mine.txt"));
  quantize(linears, {.overwrite = true});
  EXPECT_FALSE(fs::exists(out_ / "mine.txt"));
  EXPECT_THROW(
      QuantizedCheckpointWriter(source(), source_folder_, linears, Json(), {.overwrite = true}),
      Error);
  EXPECT_THROW(QuantizedCheckpointWriter(source(), folder_.path() / "no/where", linears, Json()),
               Error);
  EXPECT_THROW(
      QuantizedCheckpointWriter(Checkpoint::open(out_), folder_.path() / "twice", linears, Json()),
      Error);
  EXPECT_THROW(
      QuantizedCheckpointWriter(source(), folder_.path() / "b", {{"decoder.nothing", {}}}, Json()),
      Error);
}

TEST_F(QuantizedCheckpointTest, ShardsReadLikeOneFile) {
  const LinearScheme scheme = {weight_scheme(8, Granularity::kChannel), std::nullopt};
  const auto weights = quantize({{kUp, scheme}, {kDown, scheme}}, {.shard_bytes = 500});
  EXPECT_FALSE(fs::exists(out_ / "model.safetensors"));
  EXPECT_TRUE(fs::exists(out_ / "model.safetensors.index.json"));
  const Checkpoint checkpoint = Checkpoint::open(out_);
  for (const auto& [name, weight] : weights) {
    expect_equal(load_quantized_weight(checkpoint, name, scheme.weight), weight);
  }
  EXPECT_GT(verify_checksums(out_).files, 4);
}

TEST_F(QuantizedCheckpointTest, VerifyNamesWhatWasChanged) {
  quantize({{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}});
  const auto expect_damage = [&](const std::string& file, std::size_t position,
                                 const std::string& word) {
    const std::string good = read_text_file(out_ / file);
    std::string bad = good;
    bad[position < bad.size() ? position : bad.size() - 1] ^= 1;
    write_text_file(out_ / file, bad);
    try {
      verify_checksums(out_);
      ADD_FAILURE() << file << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
      EXPECT_THAT(error.what(), HasSubstr(word));
    }
    write_text_file(out_ / file, good);
    verify_checksums(out_);
  };
  // The last tensor in the run of the model is the norm.
  expect_damage("model.safetensors", std::string::npos, "'language_model.model.norm.weight'");
  expect_damage("tokenizer.json", 1, "tokenizer.json");
  expect_damage("qvlm.json", read_text_file(out_ / "qvlm.json").find("42"), "qvlm.json");
  fs::remove(out_ / "tokenizer.json");
  EXPECT_THROW(verify_checksums(out_), Error);
}

}  // namespace
}  // namespace qvlm
