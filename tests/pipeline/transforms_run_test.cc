// quantize() with transforms and GPTQ: the written model still does what the float model does, on
// the packed kernels too, and is the same on every run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <qvlm/quantize.h>
#include <qvlm/verify.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/parallel.h"
#include "io/quantized_checkpoint.h"
#include "model/vlm.h"
#include "pipeline/search_json.h"
#include "support/golden.h"
#include "support/same_files.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr const char* kTiny = "sharded_head_dim";

class TransformsRunTest : public testing::Test {
 protected:
  TransformsRunTest() {
    make_tiny_model(path("model"), kTiny);
    make_tiny_calibration(path("data.jsonl"), 8);
  }

  static Recipe recipe(int bits, std::vector<Transform> transforms) {
    Recipe recipe{.name = "test"};
    recipe.standard = LinearScheme{
        {.bits = bits}, Scheme{.bits = bits, .granularity = Granularity::kToken, .dynamic = true}};
    recipe.overrides = {{"vision_tower\\..*|projector\\..*|lm_head", std::nullopt}};
    recipe.calibration.samples = 8;
    recipe.transforms = std::move(transforms);
    return recipe;
  }
  fs::path path(const std::string& name) const { return folder_.path() / name; }
  QuantizeReport run(const std::string& out, const Recipe& recipe) const {
    return quantize(path("model"), path(out), recipe, {.data = path("data.jsonl")});
  }
  at::Tensor logits(const std::string& model, Execution execution) const {
    const Golden golden(fs::path(QVLM_TESTS_DIR) / "data/llava" / kTiny / "golden.safetensors");
    const Vlm vlm = Vlm::load(Checkpoint::open(path(model)), execution);
    const std::vector<std::int32_t> ids = golden.ids("prompt0.input_ids");
    KvCache cache(vlm.config().text, static_cast<std::int64_t>(ids.size()));
    return vlm.forward(vlm.embed(ids, {vlm.encode_image(golden.get("prompt0.pixel_values"))}),
                       cache, LogitsOf::kAll);
  }

  TemporaryFolder folder_;
};

TEST_F(TransformsRunTest, EveryExecutionTurnsTheInputsThatWereTurned) {
  run("out", recipe(8, {SmoothOptions{}, RotateOptions{}}));
  const at::Tensor want = logits("model", Execution::kFloat);
  const auto quantization = QuantizationConfig::load(Checkpoint::open(path("out")));
  EXPECT_TRUE(quantization->find("decoder.layers.0.mlp.down_proj")->hadamard_input.has_value());
  EXPECT_FALSE(quantization->find("decoder.layers.0.mlp.up_proj")->hadamard_input.has_value());
  for (const Execution execution :
       {Execution::kPacked, Execution::kSimulated, Execution::kFloat, Execution::kBf16}) {
    EXPECT_LT(relative_difference(logits("out", execution), want), 0.05)
        << static_cast<int>(execution);
  }
  EXPECT_LT(
      relative_difference(logits("out", Execution::kPacked), logits("out", Execution::kSimulated)),
      0.02);
}

TEST_F(TransformsRunTest, ATransformedFolderVerifies) {
  run("out", recipe(4, {RotateOptions{}}));
  const VerifyReport report = verify(path("out"), {.against = path("model")});
  EXPECT_TRUE(report.problems.empty()) << report.problems.front().problem;
  EXPECT_THAT(report.replaced, testing::Contains(HasSubstr("embed_tokens.weight")));
  EXPECT_THAT(report.replaced, testing::Contains(HasSubstr("layers.1.mlp.gate_proj.weight")));
}

TEST_F(TransformsRunTest, GptqChangesCodesAndNotScales) {
  Recipe plain = recipe(3, {});
  Recipe gptq = plain;
  gptq.rounding.method = RoundingMethod::kGptq;
  run("nearest", plain);
  run("gptq", gptq);
  const Checkpoint nearest = Checkpoint::open(path("nearest")),
                   rounded = Checkpoint::open(path("gptq"));
  const std::string linear = "decoder.layers.1.mlp.down_proj";
  const Scheme scheme = plain.standard->weight;
  const QuantizedWeight a = load_quantized_weight(nearest, linear, scheme),
                        b = load_quantized_weight(rounded, linear, scheme);
  EXPECT_EQ(a.scales, b.scales);
  EXPECT_NE(a.codes, b.codes);
  EXPECT_EQ(Json::load(path("gptq") / "qvlm.json").get_string("rounding"), "gptq");
}

TEST_F(TransformsRunTest, GptqWeighsTokensByGradientWhereAsked) {
  Recipe kind = recipe(3, {}), gradient = kind;
  kind.rounding.method = RoundingMethod::kGptq;
  gradient.rounding = {.method = RoundingMethod::kGptq, .by_gradient = true};
  run("kind", kind);
  run("gradient", gradient);
  const auto codes = [&](const char* out) {
    return load_quantized_weight(Checkpoint::open(path(out)), "decoder.layers.1.mlp.down_proj",
                                 kind.standard->weight)
        .codes;
  };
  EXPECT_NE(codes("kind"), codes("gradient"));
}

TEST_F(TransformsRunTest, TheSameInputsGiveTheSameBytesAlsoAfterAStop) {
  Recipe all = recipe(4, {SmoothOptions{}, RotateOptions{.massive_apart = true}});
  all.rounding.method = RoundingMethod::kGptq;
  all.search = SearchOptions{.activation_clip = {1.0, 0.8}};
  all.plan.strategy = PlanStrategy::kNone;
  run("a", all);
  run("b", all);
  expect_same_files(path("a"), path("b"));
  int asked = 0;
  QuantizeOptions options{.data = path("data.jsonl")};
  // In the second layer that is smoothed; massive channels are looked for in both before.
  options.stop_requested = [&asked] { return ++asked == 4; };
  EXPECT_TRUE(quantize(path("model"), path("c"), all, options).stopped);
  quantize(path("model"), path("c"), all, {.data = path("data.jsonl"), .resume = true});
  expect_same_files(path("a"), path("c"));
}

TEST_F(TransformsRunTest, SearchedScalesDoNotDependOnThreads) {
  const Recipe scales = recipe(4, {AwqOptions{}, SmoothOptions{std::nullopt}});
  const int threads = thread_count();
  set_thread_count(2);
  run("two", scales);
  set_thread_count(1);
  run("one", scales);
  set_thread_count(threads);
  expect_same_files(path("two"), path("one"));
  run("fixed", recipe(4, {SmoothOptions{}}));
  EXPECT_NE(read_text_file(path("one") / "model.safetensors"),
            read_text_file(path("fixed") / "model.safetensors"));
}

TEST_F(TransformsRunTest, SmoothingGoesOnWhereItWasStopped) {
  const Recipe scales = recipe(4, {SmoothOptions{std::nullopt}, AwqOptions{}, SmoothOptions{},
                                   RotateOptions{.massive_apart = true}});
  const QuantizeReport whole = run("whole", scales);
  EXPECT_EQ(whole.search->alphas.size(), 4U);  // two layers, two steps that search
  const Json kept = Json::load(path("whole") / "qvlm.json").get("search");
  EXPECT_EQ(search_from_json(kept).alphas, whole.search->alphas);
  const fs::path journal = path("out.search.json");
  std::string before;
  for (const int layers : {1, 2, 4}) {
    int asked = 0;
    QuantizeOptions options{.data = path("data.jsonl"), .resume = layers > 1};
    // It asks at each of the two layers before, where massive channels are looked for.
    options.stop_requested = [&] { return ++asked > 2 + layers; };
    EXPECT_TRUE(quantize(path("model"), path("out"), scales, options).stopped);
    EXPECT_FALSE(fs::exists(path("out")));
    EXPECT_NE(read_text_file(journal), before);
    before = read_text_file(journal);
  }
  quantize(path("model"), path("out"), scales, {.data = path("data.jsonl"), .resume = true});
  expect_same_files(path("whole"), path("out"));
  EXPECT_FALSE(fs::exists(journal));
}

// Multiplies a channel of the embedding table, and what reads it by the inverse.
void amplify_channel(const fs::path& model, std::size_t channel, std::size_t hidden, float factor) {
  for (const auto& entry : fs::directory_iterator(model)) {
    if (entry.path().extension() != ".safetensors") continue;
    edit_weights(entry.path(), [&](std::vector<EditedTensor>& tensors) {
      for (EditedTensor& tensor : tensors) {
        const std::string& name = tensor.info.name;
        const bool table = name.ends_with("embed_tokens.weight");
        const bool reader = std::ranges::any_of(
            std::array{"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}, [&](const char* one) {
              return name.starts_with("language_model.") &&
                     name.ends_with(one + std::string(".weight"));
            });
        if (!table && !reader) continue;
        std::vector<float> values(tensor.bytes.size() / sizeof(float));
        std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
        for (std::size_t i = channel; i < values.size(); i += hidden)
          values[i] *= table ? factor : 1.0f / factor;
        std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
      }
    });
  }
}

TEST_F(TransformsRunTest, MassiveChannelsAreFoundAndReported) {
  const Recipe apart =
      recipe(8, {SmoothOptions{std::nullopt}, RotateOptions{.massive_apart = true}});
  EXPECT_TRUE(run("plain", apart).search->massive_channels.empty());
  const auto hidden = load_model_config(Checkpoint::open(path("model"))).text.hidden_size;
  amplify_channel(path("model"), 5, static_cast<std::size_t>(hidden), 30.0f);
  const QuantizeReport report = run("out", apart);
  EXPECT_THAT(report.search->massive_channels, testing::ElementsAre(5));
  EXPECT_EQ(report.search->alphas.size(), 4U);  // two layers, for smoothing and for the channel
  EXPECT_EQ(search_from_json(search_to_json(*report.search)).massive_channels,
            report.search->massive_channels);
  EXPECT_LT(
      relative_difference(logits("out", Execution::kPacked), logits("model", Execution::kFloat)),
      0.05);
}

// By itself the rotation makes the channel smaller, and goes on where it was stopped.
TEST_F(TransformsRunTest, MassiveChannelsAreMadeSmaller) {
  const auto hidden = load_model_config(Checkpoint::open(path("model"))).text.hidden_size;
  amplify_channel(path("model"), 5, static_cast<std::size_t>(hidden), 30.0f);
  const Recipe apart = recipe(4, {RotateOptions{.massive_apart = true}});
  const QuantizeReport whole = run("whole", apart);
  ASSERT_EQ(whole.search->alphas.size(), 2U);
  for (const Alphas& alphas : whole.search->alphas) {
    EXPECT_GT(alphas[0].value_or(0.0), 0.2);
    EXPECT_FALSE(alphas[1].has_value());
  }
  for (const int patience : {1, 2, 3, 4}) {
    int asked = 0;
    QuantizeOptions options{.overwrite = true, .data = path("data.jsonl")};
    options.stop_requested = [&] { return ++asked > patience; };
    EXPECT_TRUE(quantize(path("model"), path("out"), apart, options).stopped);
    quantize(path("model"), path("out"), apart,
             {.overwrite = true, .data = path("data.jsonl"), .resume = true});
    expect_same_files(path("whole"), path("out"));
  }
}

TEST_F(TransformsRunTest, MassiveChannelsDoNotDependOnThreads) {
  const auto hidden = load_model_config(Checkpoint::open(path("model"))).text.hidden_size;
  amplify_channel(path("model"), 5, static_cast<std::size_t>(hidden), 30.0f);
  const Recipe apart = recipe(4, {AwqOptions{}, RotateOptions{.massive_apart = true}});
  const int threads = thread_count();
  set_thread_count(2);
  run("two", apart);
  set_thread_count(1);
  const QuantizeReport report = run("one", apart);
  set_thread_count(threads);
  EXPECT_THAT(report.search->massive_channels, testing::ElementsAre(5));
  expect_same_files(path("two"), path("one"));
}

// Nothing of a stream that the head forbids to turn is looked at.
TEST_F(TransformsRunTest, ATiedModelHasNoChannelsApart) {
  fs::remove_all(path("model"));
  make_tiny_model(path("model"), "newest_tied");
  Recipe apart = recipe(8, {RotateOptions{.massive_apart = true}});
  apart.overrides = {{"vision_tower\\..*|projector\\..*", std::nullopt}};
  int looks = 0;
  const QuantizeReport report = quantize(
      path("model"), path("out"), apart, {.data = path("data.jsonl")},
      [&](const Progress& progress) { looks += progress.what.starts_with("massive") ? 1 : 0; });
  EXPECT_TRUE(report.search->massive_channels.empty());
  EXPECT_EQ(looks, 0);
}

TEST_F(TransformsRunTest, RotationAloneNeedsNoData) {
  EXPECT_NO_THROW(quantize(path("model"), path("out"), recipe(4, {RotateOptions{}})));
  EXPECT_THROW(quantize(path("model"), path("none"), recipe(4, {SmoothOptions{}})), Error);
  const Recipe apart = recipe(4, {RotateOptions{.massive_apart = true}});
  EXPECT_THROW(quantize(path("model"), path("none"), apart), Error);
}

}  // namespace
}  // namespace qvlm
