// The writer and the reader of quantized checkpoints, on a small folder of every kind of tensor.
#include "io/quantized_checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "io/quantized_folder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

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

TEST_F(QuantizedCheckpointTest, ListsTheTensorsThatItReplaced) {
  const LinearSchemes linears = {{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}};
  const std::vector<std::byte> bytes(256, std::byte{0x3e});
  quantize(linears, {.replaced = {"decoder.norm.weight"},
                     .replacement = [&](const auto&, const auto&) { return bytes; }});
  EXPECT_THAT(Json::load(out_ / "qvlm.json").get("replaced").as_strings(),
              ElementsAre("decoder.norm.weight"));
  EXPECT_TRUE(
      std::ranges::equal(Checkpoint::open(out_).get_tensor("decoder.norm.weight").bytes, bytes));
  quantize(linears, {.overwrite = true});
  EXPECT_TRUE(Json::load(out_ / "qvlm.json").find("replaced").is_null());
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
  expect("\"group_size\": 32", "\"group_size\": 4294967328", ErrorKind::kCorrupt, "4294967328");
  expect("\"num_bits\": 4", "\"num_bits\": 4294967300", ErrorKind::kCorrupt, "4294967300");
  expect(
      "\"input_activations\": null",
      R"("input_activations": {"num_bits":8,"strategy":"token","dynamic":true,"symmetric":false})",
      ErrorKind::kUnsupported, "symmetric");
  expect("\"num_bits\": 4", "\"num_bits\": 8", ErrorKind::kCorrupt, "contradicts");
  expect("re:.*vision_tower.*", "re:(", ErrorKind::kCorrupt, "regular expression");
  expect("\"Linear\"", "\"Conv2d\"", ErrorKind::kCorrupt, "does not target");
  expect("\"ignore\": [", "\"ignore\": [], \"ignored\": [", ErrorKind::kCorrupt, "no weight_scale");
}

TEST_F(QuantizedCheckpointTest, RefusesAWeightThatContradictsItsAnnouncement) {
  const Scheme scheme = weight_scheme(4, Granularity::kGroup, 32);
  QuantizedCheckpointWriter writer(source(), out_, {{kUp, {scheme, std::nullopt}}}, Json::object());
  QuantizedWeight weight = random_weight(scheme, 5, 128);
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
  for (const fs::path& place : {source_folder_, source_folder_ / "in", folder_.path()}) {
    EXPECT_THROW(QuantizedCheckpointWriter(source(), place, linears, Json(), {.overwrite = true}),
                 Error);
  }
  EXPECT_THROW(QuantizedCheckpointWriter(source(), folder_.path() / "no/where", linears, Json()),
               Error);
  EXPECT_THROW(
      QuantizedCheckpointWriter(Checkpoint::open(out_), folder_.path() / "twice", linears, Json()),
      Error);
  EXPECT_THROW(
      QuantizedCheckpointWriter(source(), folder_.path() / "b", {{"decoder.nothing", {}}}, Json()),
      Error);
}

// Gives the sentence.
template <typename Call>
std::string expect_failure(const Call& call, ErrorKind kind) {
  try {
    call();
    ADD_FAILURE() << "no failure";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "";
}

// The quantizer's arithmetic has no shorter last group: such a file would give wrong numbers.
TEST_F(QuantizedCheckpointTest, RefusesGroupsThatDoNotDivideTheInputs) {
  const Scheme wide = weight_scheme(4, Granularity::kGroup, 128);
  EXPECT_THAT(
      expect_failure(
          [&] {
            QuantizedCheckpointWriter(source(), out_, {{kQuery, {wide, std::nullopt}}}, Json());
          },
          ErrorKind::kInvalidArgument),
      HasSubstr("192 inputs"));
  const fs::path folder = folder_.path() / "ragged";
  const std::string module = source().names().module_to_file(kUp);
  fs::create_directory(folder);
  write_text_file(folder / "config.json", R"({"model_type":"llava"})");
  SafetensorsWriter writer(
      folder / "model.safetensors",
      {{module + ".weight", DType::kI8, {2, 70}}, {module + ".weight_scale", DType::kF32, {2, 3}}},
      {});
  writer.write(module + ".weight", std::vector<std::byte>(2 * 70));
  writer.write(module + ".weight_scale", std::vector<std::byte>(2 * 3 * 4));
  writer.commit();
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_THAT(expect_failure(
                  [&] {
                    load_quantized_weight(checkpoint, kUp,
                                          weight_scheme(4, Granularity::kGroup, 32));
                  },
                  ErrorKind::kUnsupported),
              HasSubstr("no multiple of the group size 32"));
}

TEST_F(QuantizedCheckpointTest, RefusesSchemesThatDoNotExist) {
  Scheme grouped = weight_scheme(4, Granularity::kGroup, 48);
  Scheme uneven = token_scheme(8);
  uneven.symmetric = false;
  const Scheme good = weight_scheme(8, Granularity::kChannel);
  for (const LinearScheme& scheme : std::vector<LinearScheme>{{grouped, std::nullopt},
                                                              {token_scheme(8), std::nullopt},
                                                              {good, good},
                                                              {good, uneven}}) {
    expect_failure(
        [&] {
          QuantizedCheckpointWriter(source(), out_, {{kUp, scheme}}, Json());
        },
        ErrorKind::kInvalidArgument);
  }
}

TEST_F(QuantizedCheckpointTest, RefusesCopiedTensorsThatAreNotFinite) {
  const LinearSchemes linears = {{kUp, {weight_scheme(4, Granularity::kGroup, 32), std::nullopt}}};
  const std::string name = "language_model.model.norm.weight";
  const auto with_last = [](auto last) {
    std::vector<std::byte> bytes(3 * sizeof(last));
    std::memcpy(bytes.data() + 2 * sizeof(last), &last, sizeof(last));
    return bytes;
  };
  const auto copy = [&](DType dtype, const std::vector<std::byte>& bytes) {
    const Checkpoint checkpoint = source_with(name, dtype, bytes);
    QuantizedCheckpointWriter writer(checkpoint, out_, linears, Json::object());
    writer.write(kUp, random_weight(linears.at(kUp).weight, 5, 128));
    writer.commit();
    fs::remove_all(out_);
  };
  const std::vector<std::pair<DType, std::vector<std::byte>>> broken = {
      {DType::kBF16, with_last(std::uint16_t{0x7f80})},  // infinity
      {DType::kBF16, with_last(std::uint16_t{0xffc1})},  // NaN
      {DType::kF16, with_last(std::uint16_t{0xfc00})},
      {DType::kF32, with_last(std::numeric_limits<float>::quiet_NaN())},
      {DType::kF64, with_last(-std::numeric_limits<double>::infinity())},
  };
  for (const auto& [dtype, bytes] : broken) {
    const std::string sentence = expect_failure([&] { copy(dtype, bytes); }, ErrorKind::kCorrupt);
    EXPECT_THAT(sentence, HasSubstr("'" + name + "' holds NaN or infinity"));
  }
  copy(DType::kBF16, with_last(std::uint16_t{0x7f7f}));  // the largest number
  copy(DType::kF16, with_last(std::uint16_t{0x7bff}));
  copy(DType::kF32, with_last(std::numeric_limits<float>::max()));
  copy(DType::kF64, with_last(std::numeric_limits<double>::lowest()));
  copy(DType::kI64, with_last(std::int64_t{-1}));
}

TEST_F(QuantizedCheckpointTest, RefusesSchemesInItsOwnFileThatItWouldComputeWrongly) {
  quantize({{kUp, {weight_scheme(8, Granularity::kGroup, 32), token_scheme(8)}}});
  const std::string text = read_text_file(out_ / "qvlm.json");
  const auto expect = [&](const std::string& part, const std::string& key, const std::string& value,
                          ErrorKind kind, const std::string& word) {
    Json document = Json::parse(text, "qvlm.json");
    Json linears = document.get("linears"), linear = linears.get(kUp), scheme = linear.get(part);
    scheme.set(key, Json::parse(value, key));
    linear.set(part, scheme);
    linears.set(kUp, linear);
    document.set("linears", linears);
    write_text_file(out_ / "qvlm.json", document.dump());
    EXPECT_THAT(expect_failure([&] { QuantizationConfig::load(Checkpoint::open(out_)); }, kind),
                HasSubstr(word))
        << part << " " << key << " " << value;
  };
  const auto expect_unsupported = [&](const std::string& key, const std::string& value,
                                      const std::string& word) {
    expect("activation", key, value, ErrorKind::kUnsupported, word);
  };
  expect_unsupported("granularity", "\"channel\"", "per token");
  expect_unsupported("dynamic", "false", "per token");
  expect_unsupported("symmetric", "false", "symmetric");
  expect_unsupported("bits", "1", "bits");
  expect_unsupported("clip_ratio", "1.5", "clip_ratio");
  // 2^32 + 8 bits and groups of 2^32 + 32 must not wrap to the right numbers.
  expect("activation", "bits", "4294967304", ErrorKind::kCorrupt, "4294967304");
  expect("weight", "group_size", "4294967328", ErrorKind::kCorrupt, "4294967328");
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
}

}  // namespace
}  // namespace qvlm
