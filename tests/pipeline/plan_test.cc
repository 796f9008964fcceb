// plan_quantize(): what it promises is what quantize() does, its mistakes are the same, and nothing
// is written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <qvlm/error.h>
#include <qvlm/plan.h>
#include <qvlm/quantize.h>

#include <cmath>

#include "base/json.h"
#include "io/checkpoint.h"
#include "model/linear_list.h"
#include "pipeline/forecast.h"
#include "pipeline/recipe.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

const Scheme kPerToken{.bits = 8, .granularity = Granularity::kToken, .dynamic = true};

Scheme grouped(int bits, bool symmetric = true) {
  return {
      .bits = bits, .symmetric = symmetric, .granularity = Granularity::kGroup, .group_size = 32};
}

// The model's decoder has two layers.
Recipe searching(PlanOptions plan) {
  return {.name = "searching",
          .overrides = {{"decoder\\..*", LinearScheme{{.bits = 8}, kPerToken}}},
          .calibration = {.samples = 2},
          .plan = plan,
          .search = SearchOptions{.activation_clip = {1, 0.95, 0.9, 0.85, 0.8}}};
}

// Kind and text of what it throws.
template <typename Call>
std::string mistake_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::to_string(static_cast<int>(error.kind())) + " " + error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

class PlanTest : public testing::Test {
 protected:
  PlanTest() {
    make_tiny_model(model(), "runtime_gqa");
    make_tiny_data(folder_.path() / "data");
  }

  fs::path model() const { return folder_.path() / "model"; }
  fs::path out() const { return folder_.path() / "out"; }
  fs::path data(const std::string& lines) const {
    return write_file(folder_.path() / "data/data.jsonl", lines).parent_path();
  }
  // What both say of a recipe, where it has to be the same.
  std::string shared_mistake(const Recipe& recipe, const fs::path& given = {}) const {
    const std::string planned =
        mistake_of([&] { plan_quantize(model(), recipe, {.data = given, .out = out()}); });
    EXPECT_EQ(planned, mistake_of([&] { quantize(model(), out(), recipe, {.data = given}); }));
    return planned;
  }

  TemporaryFolder folder_;
};

constexpr const char* kThreeItems =
    R"({"image": "images/a.png", "question": "what colour?", "answer": "red"}
{"image": null, "question": "what is round?", "answer": "ball"}
{"image": "images/b.png", "question": "what colour?", "answer": "blue"}
)";

TEST_F(PlanTest, BytesAreThoseThatQuantizeWrites) {
  const std::vector<LinearScheme> schemes = {
      {{.bits = 8}, kPerToken},
      {{.bits = 8}, {}},
      {grouped(4), kPerToken},
      {grouped(4, /*symmetric=*/false), {}},
      {grouped(3), {}},
      {{.bits = 2, .symmetric = false, .granularity = Granularity::kTensor}, {}}};
  int number = 0;
  for (const LinearScheme& scheme : schemes) {
    // 32 does not divide the inputs of down_proj.
    const Recipe recipe{.name = "r", .overrides = {{"decoder\\..*[^n]_proj|lm_head", scheme}}};
    const fs::path result = folder_.path() / std::to_string(number++);
    const QuantizeReport report = quantize(model(), result, recipe);
    const QuantizePlan plan = plan_quantize(model(), recipe);
    std::int64_t written = 0;
    for (const TensorView& tensor : Checkpoint::open(result).tensors())
      written += static_cast<std::int64_t>(tensor.bytes.size());
    EXPECT_EQ(plan.result_bytes, written) << number;
    ASSERT_EQ(plan.linears.size(), report.linears.size());
    for (std::size_t i = 0; i < plan.linears.size(); ++i) {
      EXPECT_EQ(plan.linears[i].name, report.linears[i].name);
      EXPECT_EQ(plan.linears[i].scheme, report.linears[i].scheme);
    }
  }
}

TEST_F(PlanTest, FilesOfTheBundledModelAreAsLargeAsPredicted) {
  const fs::path bundled = fs::path(QVLM_SOURCE_DIR) / "models" / "reference-llava";
  const Recipe recipe = Recipe::load(fs::path(QVLM_SOURCE_DIR) / "configs/recipes/w4a8.yaml");
  const QuantizePlan plan = plan_quantize(bundled, recipe);
  const QuantizeReport report = quantize(bundled, out(), recipe);
  const auto share = [](std::int64_t planned, std::int64_t files) {
    return static_cast<double>(planned) / static_cast<double>(files);
  };
  // The difference is the header of the safetensors file.
  EXPECT_NEAR(share(plan.source_bytes, report.source_bytes), 1.0, 0.01);
  EXPECT_NEAR(share(plan.result_bytes, report.result_bytes), 1.0, 0.01);
  EXPECT_GT(plan.memory.quantizing, 0);
  EXPECT_GT(plan.memory.running(), plan.memory.weights);
  EXPECT_GT(plan.least_seconds, 0.0);
  EXPECT_EQ(plan.least_seconds, plan.most_seconds);
  EXPECT_GT(plan.flops_per_second, 0.0);
}

TEST_F(PlanTest, EveryLinearHasTheRuleThatDecided) {
  const std::string kept = "vision_tower\\..*", later = ".*\\.down_proj";
  const Recipe recipe{.name = "r",
                      .standard = LinearScheme{{.bits = 8}, {}},
                      .overrides = {{kept, std::nullopt},
                                    {"decoder\\..*", LinearScheme{grouped(4), kPerToken}},
                                    {later, std::nullopt}}};
  for (const PlannedLinear& linear : plan_quantize(model(), recipe).linears) {
    const bool tower = linear.name.starts_with("vision_tower.");
    const bool down = linear.name.ends_with(".down_proj");
    const bool decoder = linear.name.starts_with("decoder.");
    EXPECT_EQ(linear.rule, tower     ? kept
                           : down    ? later
                           : decoder ? "decoder\\..*"
                                     : "default")
        << linear.name;
    EXPECT_EQ(linear.scheme, tower || down ? "float" : decoder ? "w4 g32 a8" : "w8") << linear.name;
    EXPECT_EQ(linear.source_bytes == linear.result_bytes, tower || down) << linear.name;
  }
}

TEST_F(PlanTest, SharesAreThoseOfTheSearch) {
  const fs::path given = data(kThreeItems);
  const Recipe recipe = searching({.strategy = PlanStrategy::kNone});
  const QuantizePlan plan = plan_quantize(model(), recipe, {.data = given});
  const QuantizeReport report = quantize(model(), out(), recipe, {.data = given});
  ASSERT_TRUE(plan.data && plan.search && report.search);
  EXPECT_EQ(plan.data->items, 3);
  EXPECT_EQ(plan.data->calibration.samples, 2);
  EXPECT_EQ(plan.data->calibration, report.search->calibration);
  EXPECT_EQ(plan.search->tokens, plan.data->calibration.tokens());
  EXPECT_EQ(plan.search->planned_forwards, report.search->planned_forwards);
  EXPECT_EQ(plan.search->allowed_forwards, report.search->allowed_forwards);
  EXPECT_THAT(plan.notes, IsEmpty());
}

// Five candidates: a layer takes 5 forwards, two of them together 5 + 25.
TEST_F(PlanTest, ForwardsOfTheSearch) {
  const auto search = [&](PlanOptions options) {
    return plan_quantize(model(), searching(options)).search.value();
  };
  const PlannedSearch entropy = search({.max_depth = 2});
  EXPECT_EQ(entropy.least_forwards, 10.0);
  EXPECT_EQ(entropy.most_forwards, 30.0);
  EXPECT_EQ(entropy.allowed_forwards, 20.0);
  EXPECT_FALSE(entropy.planned_forwards);
  EXPECT_EQ(search({.strategy = PlanStrategy::kNone}).planned_forwards, 10.0);
  EXPECT_EQ(search({.strategy = PlanStrategy::kFixed, .max_depth = 2, .budget_share = 1.0})
                .planned_forwards,
            30.0);
  EXPECT_TRUE(std::isinf(search({.h0 = 0.1}).allowed_forwards));
}

TEST_F(PlanTest, EstimatesGrowWithTheWork) {
  Recipe recipe = searching({.max_depth = 2});
  const QuantizePlan few = plan_quantize(model(), recipe);
  EXPECT_LT(few.least_seconds, few.most_seconds);
  recipe.calibration.samples = 2000;
  const QuantizePlan many = plan_quantize(model(), recipe);
  EXPECT_EQ(many.search->tokens, 1000 * few.search->tokens);
  EXPECT_GT(many.memory.quantizing, 100 * few.memory.quantizing);
  // Speed is measured anew, so that only much more work is surely slower.
  EXPECT_GT(many.search->forward_seconds, few.search->forward_seconds);
}

TEST_F(PlanTest, EstimatesTheVisionEncoder) {
  Recipe recipe{.name = "r", .standard = LinearScheme{{.bits = 4}, kPerToken}};
  recipe.calibration.samples = 8;
  recipe.vision_encoder = VisionEncoderOptions{.epochs = 1, .held_out = false};
  const QuantizePlan once = plan_quantize(model(), recipe);
  EXPECT_GT(once.vision_encoder_seconds, 0.0);
  EXPECT_GE(once.least_seconds, once.vision_encoder_seconds);
  recipe.vision_encoder->epochs = 1000;
  EXPECT_GT(plan_quantize(model(), recipe).vision_encoder_seconds, once.vision_encoder_seconds);
  recipe.vision_encoder.reset();
  const QuantizePlan none = plan_quantize(model(), recipe);
  EXPECT_EQ(none.vision_encoder_seconds, 0.0);
  EXPECT_GT(once.memory.quantizing, none.memory.quantizing);
}

// Means of inputs take runs of the tower, second moments more.
TEST_F(PlanTest, EstimatesTheRoundingOfTheTower) {
  Recipe recipe{.name = "r",
                .standard = LinearScheme{{.bits = 4}, kPerToken},
                .overrides = {{"decoder\\..*|lm_head", std::nullopt}}};
  recipe.calibration.samples = 2000;
  const QuantizePlan nearest = plan_quantize(model(), recipe);
  recipe.rounding.bias_correction = true;
  const QuantizePlan corrected = plan_quantize(model(), recipe);
  recipe.rounding.method = RoundingMethod::kGptq;
  const QuantizePlan gptq = plan_quantize(model(), recipe);
  EXPECT_LT(nearest.least_seconds, corrected.least_seconds);
  EXPECT_LT(corrected.least_seconds, gptq.least_seconds);
  EXPECT_LT(nearest.memory.quantizing, corrected.memory.quantizing);
}

// Each of a layer's four inputs is seen behind the biases before it, and the layer runs once more.
TEST_F(PlanTest, CorrectedBiasesTakeFiveRunsOfTheTower) {
  const ModelConfig config = load_model_config(Checkpoint::open(model()));
  Recipe recipe{.name = "r",
                .standard = LinearScheme{{.bits = 4}, kPerToken},
                .overrides = {{"decoder\\..*|lm_head", std::nullopt}}};
  recipe.rounding.bias_correction = true;
  const auto schemes = apply_recipe(recipe, list_linears(config));
  const Workload work{config, recipe, schemes, /*samples=*/3, /*tokens=*/30, 300.0, /*images=*/2};
  const MachineSpeed one{.flops = 1.0, .rounded = 1.0};
  EXPECT_DOUBLE_EQ(forecast_encoder_rounding(work, one), 5.0 * vision_flops(work));
  recipe.rounding.method = RoundingMethod::kGptq;
  EXPECT_GT(forecast_encoder_rounding(work, one), 6.0 * vision_flops(work));
}

// The decoder is not walked for it.
TEST_F(PlanTest, GptqOfATowerAloneHasNoSearch) {
  Recipe recipe{.name = "r",
                .standard = LinearScheme{{.bits = 4}, kPerToken},
                .overrides = {{"decoder\\..*|lm_head", std::nullopt}}};
  recipe.rounding.method = RoundingMethod::kGptq;
  EXPECT_FALSE(plan_quantize(model(), recipe).search.has_value());
  recipe.overrides = {{"lm_head", std::nullopt}};
  EXPECT_TRUE(plan_quantize(model(), recipe).search.has_value());
}

// Whether there are massive channels is not known before.
TEST_F(PlanTest, EstimatesMassiveChannels) {
  const auto plan = [&](bool apart) {
    Recipe recipe{.name = "r",
                  .standard = LinearScheme{{.bits = 4}, kPerToken},
                  .overrides = {{"vision_tower.*|projector.*|lm_head", std::nullopt}}};
    recipe.transforms = {RotateOptions{.massive_apart = apart}};
    recipe.calibration.samples = 2000;
    return plan_quantize(model(), recipe);
  };
  const QuantizePlan turned = plan(false), apart = plan(true);
  EXPECT_EQ(turned.least_seconds, turned.most_seconds);
  EXPECT_GT(apart.most_seconds, 2.0 * apart.least_seconds);
  EXPECT_GT(apart.memory.quantizing, turned.memory.quantizing);
}

TEST_F(PlanTest, SaysWhatIsLeftOpen) {
  EXPECT_THAT(plan_quantize(model(), searching({})).notes.front(), HasSubstr("calibration data"));
  const fs::path given = data(kThreeItems);
  Recipe recipe = searching({});
  recipe.calibration.samples = 64;
  EXPECT_THAT(plan_quantize(model(), recipe, {.data = given}).notes.front(),
              AllOf(HasSubstr("64"), HasSubstr("3")));
  const Recipe no_data{.name = "r", .standard = LinearScheme{{.bits = 8}, {}}};
  EXPECT_THAT(plan_quantize(model(), no_data, {.data = given}).notes.front(),
              HasSubstr("looks at no data"));
}

TEST_F(PlanTest, MistakesAreThoseOfQuantize) {
  const LinearScheme w8{{.bits = 8}, kPerToken};
  EXPECT_THAT(shared_mistake({.name = "r", .standard = w8, .overrides = {{"x.*", {}}}}),
              HasSubstr("'x.*' matches no linear"));
  EXPECT_THAT(
      shared_mistake(
          {.name = "r",
           .standard =
               LinearScheme{{.bits = 4, .granularity = Granularity::kGroup, .group_size = 128},
                            {}}}),
      HasSubstr("does not divide"));
  EXPECT_THAT(shared_mistake({.name = "r"}), HasSubstr("quantizes no linear"));
  EXPECT_THAT(shared_mistake(searching({.budget = 3.0}), data(kThreeItems)), HasSubstr("budget"));
  EXPECT_THAT(shared_mistake(searching({}), data(R"({"image": null, "question": "?"})")),
              AllOf(HasSubstr("data.jsonl:1"), HasSubstr("answer")));
  Recipe tower{.name = "r", .standard = w8, .overrides = {{"decoder.*|lm_head", {}}}};
  tower.rounding.method = RoundingMethod::kGptq;
  EXPECT_THAT(
      shared_mistake(tower, data(R"({"image": null, "question": "round?", "answer": "ball"})")),
      HasSubstr("no calibration sample has an image"));
  write_file(out() / "precious.txt", "data");
  EXPECT_THAT(shared_mistake({.name = "r", .standard = w8}), HasSubstr("is not empty"));
  edit_weights(model() / "model.safetensors", [](auto& tensors) {
    find_tensor(tensors, "layers.1.mlp.up_proj.weight").info.dtype = DType::kI32;
  });
  EXPECT_THAT(shared_mistake({.name = "r", .standard = w8}), HasSubstr("floating point"));
  Json config = Json::load(model() / "config.json");
  config.set("quantization_config", Json::object());
  write_file(model() / "config.json", config.dump());
  shared_mistake({.name = "r", .standard = w8});
}

// What quantize() finds at the end of a search is found at its beginning.
TEST_F(PlanTest, ScalesThatNobodyMeasures) {
  const LinearScheme fixed{{.bits = 8}, Scheme{.bits = 8, .granularity = Granularity::kTensor}};
  Recipe recipe{.name = "r", .overrides = {{"decoder\\..*", fixed}}};
  const auto mistake = [&] { return mistake_of([&] { plan_quantize(model(), recipe); }); };
  EXPECT_THAT(mistake(), AllOf(HasSubstr("decoder."), HasSubstr("scales")));
  recipe.search = SearchOptions{.activation_clip = {1, 0.9}};
  EXPECT_NO_THROW(plan_quantize(model(), recipe));
  recipe.overrides.push_back({"lm_head", fixed});
  EXPECT_THAT(mistake(), AllOf(HasSubstr("'lm_head'"), HasSubstr("scales")));
}

TEST_F(PlanTest, NothingIsWritten) {
  const Recipe recipe{.name = "r", .standard = LinearScheme{{.bits = 8}, {}}};
  plan_quantize(model(), recipe, {.out = out()});
  EXPECT_FALSE(fs::exists(out()));
  EXPECT_THAT(mistake_of([&] { plan_quantize(model(), recipe, {.out = out() / "deep" / "er"}); }),
              HasSubstr("is no folder"));
  EXPECT_THAT(mistake_of([&] { plan_quantize(model(), recipe, {.out = model() / "in"}); }),
              HasSubstr("lies inside the source"));
  std::size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder_.path()))
    ++entries;
  EXPECT_EQ(entries, 2U);  // data and model
}

}  // namespace
}  // namespace qvlm
