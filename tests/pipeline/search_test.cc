// quantize() with a search: what is written is what was searched, the same inputs give the same
// bytes, and the invariants of joint search hold on a real decoder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <qvlm/error.h>
#include <qvlm/quantize.h>
#include <qvlm/verify.h>

#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/parallel.h"
#include "base/process_memory.h"
#include "io/quantized_checkpoint.h"
#include "pipeline/search_json.h"
#include "support/same_files.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

Recipe make_recipe(Granularity activation, PlanStrategy strategy, int max_depth) {
  Recipe recipe{.name = "search"};
  recipe.standard = LinearScheme{
      {.bits = 3},
      Scheme{.bits = 3, .granularity = activation, .dynamic = activation == Granularity::kToken},
      {}};
  recipe.overrides = {{"vision_tower\\..*|projector\\..*|lm_head", std::nullopt}};
  recipe.calibration.samples = 8;
  recipe.plan.strategy = strategy;
  recipe.plan.max_depth = max_depth;
  recipe.search = SearchOptions{.activation_clip = {1.0, 0.8, 0.6}, .weight_clip = {1.0, 0.7}};
  return recipe;
}

class SearchTest : public testing::TestWithParam<Granularity> {
 protected:
  SearchTest() {
    make_tiny_model(path("model"), "sharded_head_dim");
    make_tiny_calibration(path("data.jsonl"), 12);
  }

  fs::path path(const std::string& name) const { return folder_.path() / name; }
  QuantizeReport run(const std::string& out, const Recipe& recipe) const {
    return quantize(path("model"), path(out), recipe, {.data = path("data.jsonl")});
  }

  TemporaryFolder folder_;
};

TEST_P(SearchTest, JointIsNeverWorseThanGreedyAndClipsReachTheCheckpoint) {
  const Recipe recipe = make_recipe(GetParam(), PlanStrategy::kFixed, 2);
  const QuantizeReport report = run("out", recipe);
  ASSERT_TRUE(report.search.has_value());
  std::int64_t forwards = 0;
  for (const BlockReport& block : report.search->blocks) {
    EXPECT_LE(block.error, block.greedy_error);
    EXPECT_LE(block.greedy_error, block.start_error);  // clipped or not is among the candidates
    EXPECT_EQ(block.kept, block.held_out_error <= block.held_out_start);
    forwards += block.forwards;
  }
  EXPECT_EQ(report.search->forwards, forwards);
  EXPECT_EQ(static_cast<double>(forwards), report.search->planned_forwards);
  const auto quantization = QuantizationConfig::load(Checkpoint::open(path("out")));
  std::int64_t clipped = 0;
  for (const auto& [name, scheme] : quantization->linears()) {
    if (!name.starts_with("decoder.")) continue;
    clipped += scheme.weight.clip_ratio < 1.0 || scheme.activation->clip_ratio < 1.0 ? 1 : 0;
    EXPECT_EQ(scheme.input_scale.empty(), scheme.activation->dynamic);
  }
  EXPECT_GT(clipped, 0);  // at 3 bits clipping helps
}

TEST_P(SearchTest, TheCheckpointAloneTellsTheSearch) {
  const Recipe recipe = make_recipe(GetParam(), PlanStrategy::kEntropy, 2);
  const QuantizeReport report = run("out", recipe);
  const Json document = Json::load(path("out") / "qvlm.json");
  const SearchReport stored = search_from_json(document.get("search"));
  EXPECT_EQ(search_to_json(stored).dump(), search_to_json(*report.search).dump());
  EXPECT_EQ(stored.calibration.samples, 8);
  EXPECT_EQ(stored.entropy.size() + 1, stored.blocks.back().first + stored.blocks.back().depth);
  EXPECT_EQ(document.get("recipe_text").get("calibration").get_string("seed"), "0");
}

// Depth 1 is the layer-wise search, bit for bit, by whatever plan it comes about.
TEST_P(SearchTest, DepthOneIsTheLayerWiseSearch) {
  run("none", make_recipe(GetParam(), PlanStrategy::kNone, 2));
  run("fixed", make_recipe(GetParam(), PlanStrategy::kFixed, 1));
  const auto weights = [&](const std::string& out) {
    std::string bytes;
    for (const auto& entry : fs::directory_iterator(path(out))) {
      if (entry.path().extension() == ".safetensors") bytes += read_text_file(entry.path());
    }
    return bytes;
  };
  EXPECT_TRUE(weights("none") == weights("fixed"));
  const auto linears = [&](const std::string& out) {
    return Json::load(path(out) / "qvlm.json").get("linears").dump();
  };
  EXPECT_EQ(linears("none"), linears("fixed"));
}

// Errors are those of other tokens then.
TEST_P(SearchTest, TokensMayCountByGradient) {
  Recipe recipe = make_recipe(GetParam(), PlanStrategy::kEntropy, 2);
  const QuantizeReport kind = run("kind", recipe);
  recipe.search->by_gradient = true;
  const QuantizeReport gradient = run("gradient", recipe);
  for (const BlockReport& block : gradient.search->blocks)
    EXPECT_LE(block.error, block.greedy_error);
  EXPECT_NE(kind.search->blocks.front().start_error, gradient.search->blocks.front().start_error);
  const Json options = Json::load(path("gradient") / "qvlm.json").get("recipe_text").get("search");
  EXPECT_EQ(options.get_string("token_weights"), "gradient");
}

TEST_P(SearchTest, SameInputsSameBytesForAnyNumberOfThreads) {
  const Recipe recipe = make_recipe(GetParam(), PlanStrategy::kEntropy, 3);
  const int threads = thread_count();
  run("a", recipe);
  set_thread_count(1);
  run("b", recipe);
  set_thread_count(threads);
  expect_same_files(path("a"), path("b"));
  Recipe other = recipe;
  other.calibration.seed = 1;
  run("c", other);
  EXPECT_NE(read_text_file(path("a") / "qvlm.json"), read_text_file(path("c") / "qvlm.json"));
}

TEST_P(SearchTest, EveryStrategyAndMethodRuns) {
  for (const PlanStrategy strategy :
       {PlanStrategy::kNone, PlanStrategy::kFixed, PlanStrategy::kRandom, PlanStrategy::kError,
        PlanStrategy::kEntropy, PlanStrategy::kOracle}) {
    Recipe recipe = make_recipe(GetParam(), strategy, 2);
    recipe.search->method = SearchMethod::kDescent;
    recipe.search->per_linear = strategy == PlanStrategy::kNone;
    if (strategy == PlanStrategy::kOracle) recipe.search->method = SearchMethod::kBeam;
    recipe.search->by_gradient = strategy == PlanStrategy::kOracle;
    const QuantizeReport report = quantize(path("model"), path("out"), recipe,
                                           {.overwrite = true, .data = path("data.jsonl")});
    for (const BlockReport& block : report.search->blocks)
      EXPECT_LE(block.error, block.greedy_error);
  }
}

// With a clip of its own for every input, the report says which has which.
TEST_P(SearchTest, ChoicesNameEveryInput) {
  Recipe recipe = make_recipe(GetParam(), PlanStrategy::kNone, 1);
  recipe.search->method = SearchMethod::kDescent;
  recipe.search->per_linear = true;
  recipe.search->held_out = false;
  const QuantizeReport report = run("out", recipe);
  const Json linears = Json::load(path("out") / "qvlm.json").get("linears");
  int differ = 0;
  for (const BlockReport& block : report.search->blocks) {
    std::string clips;
    for (const char* linear :
         {"self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"}) {
      const Json scheme = linears.get(join("decoder.layers.", block.first, ".", linear));
      clips += join(clips.empty() ? "" : "/", scheme.get("weight").get_double("clip_ratio"));
    }
    const std::string choice = block.choices.at(0);
    const std::string weight = choice.substr(choice.find("weight ") + 7);
    const bool same = weight.find('/') == std::string::npos;
    differ += same ? 0 : 1;
    EXPECT_EQ(same ? join(weight, "/", weight, "/", weight, "/", weight) : weight, clips);
  }
  EXPECT_GT(differ, 0);
}

INSTANTIATE_TEST_SUITE_P(Activations,
                         SearchTest,
                         testing::Values(Granularity::kToken,
                                         Granularity::kTensor,
                                         Granularity::kChannel));

class VisionEncoderRunTest : public SearchTest {
 protected:
  // Into "parts": stopped where `stop` says so of how often it has been asked, and gone on with.
  QuantizeReport run_in_parts(const Recipe& recipe, const std::function<bool(int asked)>& stop) {
    int asked = 0, stops = 0;
    QuantizeOptions options{.overwrite = true, .data = path("data.jsonl")};
    options.stop_requested = [&] { return stop(++asked); };
    QuantizeReport report;
    do {
      report = quantize(path("model"), path("parts"), recipe, options);
      options.resume = true;
    } while (report.stopped && ++stops < 20);
    EXPECT_GE(stops, 1);
    EXPECT_FALSE(report.stopped);
    return report;
  }
};

Recipe with_tower(int bits) {
  Recipe recipe = make_recipe(Granularity::kToken, PlanStrategy::kEntropy, 2);
  recipe.standard->weight.bits = recipe.standard->activation->bits = bits;
  recipe.overrides = {{"projector\\..*|lm_head", std::nullopt}};
  return recipe;
}

// Stopped every second or third time it asks, until it has asked thirty times: within the epochs,
// behind the last one, before the blocks, between them, and while it is written.
TEST_F(VisionEncoderRunTest, GoesOnWhereItWasStopped) {
  Recipe recipe = with_tower(3);
  recipe.vision_encoder =
      VisionEncoderOptions{.epochs = 3, .batch = 3, .entropy_weight = 0.05, .norm_gains = true};
  const QuantizeReport whole = run("whole", recipe);
  for (const int patience : {2, 3}) {
    const QuantizeReport report =
        run_in_parts(recipe, [&](int asked) { return asked % patience == 0 && asked < 30; });
    EXPECT_EQ(search_to_json(*report.search).dump(), search_to_json(*whole.search).dump());
    EXPECT_EQ(report.search->vision->epochs.size(), 3U);
    EXPECT_TRUE(report.search->vision->held_out_end.has_value());
    expect_same_files(path("whole"), path("parts"));
    EXPECT_FALSE(fs::exists(path("parts.search.json")));
  }
  // The gains that were learned are in the folder's list, or they would pass for damage.
  const VerifyReport verified = verify(path("whole"), {.against = path("model"), .run = false});
  EXPECT_TRUE(verified.problems.empty());
  EXPECT_EQ(verified.replaced.empty(), !whole.search->vision->kept);
}

// What data said of the tower's codes and biases is found again, and written.
TEST_F(VisionEncoderRunTest, ATowerRoundedByDataGoesOnWhereItWasStopped) {
  Recipe recipe = with_tower(4);
  const QuantizeReport nearest = run("nearest", recipe);
  recipe.rounding = {.method = RoundingMethod::kGptq, .bias_correction = true};
  const QuantizeReport whole = run("whole", recipe);
  for (std::size_t i = 0; i < whole.linears.size(); ++i) {
    if (!whole.linears[i].name.starts_with("vision_tower.encoder.layers.0.")) continue;
    // GPTQ goes away from the weights themselves.
    EXPECT_GT(whole.linears[i].relative_error, nearest.linears[i].relative_error);
  }
  run_in_parts(recipe, [](int asked) { return asked % 4 == 0 && asked < 12; });
  expect_same_files(path("whole"), path("parts"));
  const VerifyReport verified = verify(path("whole"), {.against = path("model"), .run = false});
  EXPECT_TRUE(verified.problems.empty());
  EXPECT_THAT(verified.replaced, testing::Contains(HasSubstr("fc1.bias")));
}

TEST_F(VisionEncoderRunTest, ProgressEndsWhereItSaid) {
  Recipe recipe = with_tower(4);
  recipe.vision_encoder = VisionEncoderOptions{.epochs = 2, .batch = 3, .entropy_weight = 0.05};
  std::vector<Progress> steps;
  quantize(path("model"), path("out"), recipe, {.data = path("data.jsonl")},
           [&](const Progress& progress) {
             if (progress.what == "vision encoder") steps.push_back(progress);
           });
  ASSERT_FALSE(steps.empty());
  for (std::size_t i = 0; i < steps.size(); ++i)
    EXPECT_EQ(steps[i].done, static_cast<std::int64_t>(i) + 1);
  EXPECT_EQ(steps.back().done, steps.back().total);
}

// Entropies are those of what the decoder is given, or moving the tower's clips could not lower
// them.
TEST_F(VisionEncoderRunTest, ThePlanSeesTheRoundedTower) {
  EXPECT_NE(run("coarse", with_tower(2)).search->entropy,
            run("fine", with_tower(8)).search->entropy);
}

class SearchFailureTest : public SearchTest {};

TEST_F(SearchFailureTest, NeedsData) {
  const Recipe recipe = make_recipe(Granularity::kToken, PlanStrategy::kNone, 1);
  try {
    quantize(path("model"), path("out"), recipe);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("--data"));
  }
  EXPECT_FALSE(fs::exists(path("out.search.json")));
}

TEST_F(SearchFailureTest, StaticActivationsNeedASearch) {
  Recipe recipe = make_recipe(Granularity::kTensor, PlanStrategy::kNone, 1);
  recipe.search.reset();
  EXPECT_THROW(quantize(path("model"), path("out"), recipe), Error);
  EXPECT_FALSE(fs::exists(path("out")));
}

// What is no longer wanted is found before hours are spent.
TEST_F(SearchFailureTest, AFolderInTheWayIsFoundFirst) {
  write_file(path("out") / "precious.txt", "data");
  int forwards = 0;
  EXPECT_THROW(
      quantize(path("model"), path("out"), make_recipe(Granularity::kToken, PlanStrategy::kNone, 1),
               {.data = path("data.jsonl")}, [&](const Progress&) { ++forwards; }),
      Error);
  EXPECT_EQ(forwards, 0);
  EXPECT_FALSE(fs::exists(path("out.search.json")));
}

}  // namespace
}  // namespace qvlm
