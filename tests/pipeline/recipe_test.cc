// Recipes: every shipped one loads and fits, every mistake is named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <qvlm/error.h>

#include <fstream>
#include <functional>
#include <limits>

#include "io/scheme.h"
#include "pipeline/recipe.h"
#include "pipeline/search_json.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

// Two decoder layers of 128 inputs and a head; what the shipped recipes must fit.
std::vector<LinearShape> some_linears() {
  ModelConfig config;
  config.vision.layers = 1;
  config.text.layers = 2;
  config.text.hidden_size = config.text.intermediate_size = 128;
  config.text.heads = config.text.kv_heads = 4;
  config.text.head_dim = 32;
  return list_linears(config);
}

std::string message_of(const std::string& yaml) {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "r.yaml";
  std::ofstream(file) << yaml;
  try {
    apply_recipe(Recipe::load(file), some_linears());
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(RecipeTest, EveryShippedRecipeLoadsAndFits) {
  int recipes = 0;
  for (const auto& entry :
       fs::directory_iterator(fs::path(QVLM_SOURCE_DIR) / "configs" / "recipes")) {
    const Recipe recipe = Recipe::load(entry.path());
    EXPECT_EQ(recipe.name, entry.path().stem().string());
    const auto schemes = apply_recipe(recipe, some_linears());
    const bool whole = recipe.name.ends_with("-all");
    const std::size_t tower = recipe.vision_encoder ? 6 : 0;
    EXPECT_EQ(schemes.size(), whole ? some_linears().size() : 14u + tower)
        << "all linears, or the decoder's and a searched tower's, in " << recipe.name;
    const bool searches = recipe.name.starts_with("qvlm-") || recipe.name.starts_with("awq-");
    EXPECT_EQ(recipe.search.has_value(), searches) << recipe.name;
    ++recipes;
  }
  EXPECT_GE(recipes, 6);
}

TEST(RecipeTest, LaterOverridesWin) {
  Recipe recipe{.name = "r", .standard = LinearScheme{{.bits = 8}, {}}};
  recipe.overrides.push_back({"decoder\\..*", LinearScheme{{.bits = 4}, {}}});
  recipe.overrides.push_back({".*\\.down_proj", std::nullopt});
  const auto schemes = apply_recipe(recipe, some_linears());
  EXPECT_EQ(schemes.at("lm_head").weight.bits, 8);
  EXPECT_EQ(schemes.at("decoder.layers.1.mlp.up_proj").weight.bits, 4);
  EXPECT_FALSE(schemes.contains("decoder.layers.1.mlp.down_proj"));
}

TEST(RecipeTest, MistakesAreNamed) {
  EXPECT_THAT(message_of("name: r\ndefault:\n  weight: {bits: 4}\n  activations: {bits: 8}\n"),
              AllOf(HasSubstr("r.yaml:4"), HasSubstr("'activations'")));
  EXPECT_THAT(message_of("name: r\ndefault:\n  weight: {bits: 9}\n"),
              HasSubstr("bits must be 2 to 8, got 9"));
  EXPECT_THAT(message_of("name: r\ndefault:\n  weight: {bits: four}\n"),
              HasSubstr("'bits' has the wrong type"));
  EXPECT_THAT(message_of("name: r\ndefault:\n  weight: {bits: 4, granularity: row}\n"),
              HasSubstr("'row'"));
  EXPECT_THAT(
      message_of("name: r\ndefault:\n  weight: {bits: 4, granularity: group, group_size: 48}\n"),
      HasSubstr("32, 64 or 128"));
  EXPECT_THAT(message_of("name: r\ndefault: {weight: {bits: 4}}\noverrides:\n  - {match: "
                         "'nothing', keep: float}\n"),
              HasSubstr("'nothing' matches no linear"));
  EXPECT_THAT(
      message_of(
          "name: r\ndefault: {weight: {bits: 4}}\noverrides:\n  - {match: '(', keep: float}\n"),
      HasSubstr("not a regular expression"));
  EXPECT_THAT(message_of("name: [r\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(message_of("default: {weight: {bits: 4}}\n"), HasSubstr("'name' is missing"));
}

TEST(RecipeTest, MistakesOfASearchAreNamed) {
  const std::string scheme = "name: r\ndefault: {weight: {bits: 4}, activation: {bits: 4}}\n";
  EXPECT_THAT(message_of(scheme + "search: {activation_clip: [1, 1.5]}\n"),
              AllOf(HasSubstr("r.yaml:3"), HasSubstr("activation_clip"), HasSubstr("1.5")));
  EXPECT_THAT(message_of(scheme + "search: {per_linear: true}\n"),
              AllOf(HasSubstr("r.yaml:3"), HasSubstr("descent")));
  EXPECT_THAT(message_of(scheme + "search: {}\nplan: {strategy: guess}\n"),
              AllOf(HasSubstr("r.yaml:4"), HasSubstr("'guess'"), HasSubstr("entropy")));
  EXPECT_THAT(message_of(scheme + "search: {}\nplan: {h0: 1, budget: 20}\n"),
              AllOf(HasSubstr("r.yaml:4"), HasSubstr("one of h0, budget")));
  EXPECT_THAT(message_of(scheme + "search: {}\nplan: {max_depth: 0}\n"), HasSubstr("max_depth"));
  EXPECT_THAT(message_of(scheme + "calibration: {samples: 8}\n"), HasSubstr("'search'"));
  EXPECT_THAT(message_of(scheme + "search: {speed: 3}\n"), HasSubstr("'speed'"));
  EXPECT_THAT(message_of(scheme + "search: {token_weights: {image: 0, text: 0, answer: 0}}\n"),
              AllOf(HasSubstr("r.yaml:3"), HasSubstr("token_weights")));
  EXPECT_EQ(message_of(scheme + "search: {token_weights: gradient}\n"), "no error");
  EXPECT_THAT(message_of(scheme + "search: {token_weights: gradually}\n"),
              AllOf(HasSubstr("r.yaml:3"), HasSubstr("token_weights")));
  EXPECT_THAT(message_of(scheme + "search: {token_weights: {picture: 1}}\n"),
              AllOf(HasSubstr("'picture'"), HasSubstr("image, text, answer")));
}

TEST(RecipeTest, StepsThatDoNothingOrUndoOthersAreMistakes) {
  const std::string apart =
      "name: r\ndefault: {weight: {bits: 4}, activation: {bits: 4}}\n"
      "transforms:\n  - rotate: {massive_channels: apart}\n";
  const std::string head = "overrides: [{match: lm_head, keep: float}]\n";
  EXPECT_EQ(message_of(apart + head), "no error");
  EXPECT_THAT(message_of(apart), AllOf(HasSubstr("massive_channels"), HasSubstr("lm_head")));
  EXPECT_THAT(message_of(apart + "  - rotate: {seed: 2}\n" + head),
              AllOf(HasSubstr("massive_channels"), HasSubstr("another rotation")));
  EXPECT_EQ(message_of(apart + "  - rotate: {residual_stream: false}\n" + head), "no error");
  EXPECT_THAT(message_of("name: r\ndefault: {weight: {bits: 4}}\ntransforms:\n"
                         "  - rotate: {residual_stream: false, massive_channels: apart}\n"),
              AllOf(HasSubstr("massive_channels"), HasSubstr("residual stream")));
  const std::string biases =
      "name: r\ndefault: {weight: {bits: 4}}\nrounding: {bias_correction: true}\n";
  EXPECT_EQ(message_of(biases), "no error");
  EXPECT_THAT(message_of(biases + "overrides: [{match: 'vision.*|proj.*', keep: float}]\n"),
              AllOf(HasSubstr("bias_correction"), HasSubstr("float")));
  EXPECT_THAT(message_of("name: r\noverrides: [{match: lm_head, weight: {bits: 4}}]\n"
                         "rounding: {method: gptq}\n"),
              AllOf(HasSubstr("gptq"), HasSubstr("float")));
}

TEST(RecipeTest, GptqCountsTokensAsTheSearchDoes) {
  Recipe recipe{.name = "r", .standard = LinearScheme{{.bits = 4}, {}}, .search = SearchOptions{}};
  recipe.rounding.method = RoundingMethod::kGptq;
  EXPECT_FALSE(weighs_by_gradient(complete_recipe(recipe, some_linears())));
  recipe.search->by_gradient = true;
  EXPECT_TRUE(complete_recipe(recipe, some_linears()).rounding.by_gradient);
}

// GPTQ walks the decoder where it rounds something there.
TEST(RecipeTest, GptqOfATowerAloneDoesNotWalkTheDecoder) {
  Recipe recipe{.name = "r", .standard = LinearScheme{{.bits = 4}, {}}};
  recipe.rounding.method = RoundingMethod::kGptq;
  EXPECT_TRUE(complete_recipe(recipe, some_linears()).search.has_value());
  recipe.overrides = {{"decoder.*", std::nullopt}};
  EXPECT_FALSE(complete_recipe(recipe, some_linears()).search.has_value());
}

TEST(RecipeTest, TransformsAndRoundingAreRead) {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "r.yaml";
  std::ofstream(file)
      << "name: r\ndefault: {weight: {bits: 4}, activation: {bits: 4}}\n"
         "overrides: [{match: lm_head, keep: float}]\n"
         "transforms:\n  - smooth: {alpha: 0.7}\n  - rotate: {values: false, massive_channels: "
         "apart, seed: 3}\n"
         "rounding: {method: gptq, damping: 0.1, act_order: false, token_weights: gradient, "
         "bias_correction: true}\n"
         "calibration: {samples: 5}\n";
  const Recipe recipe = Recipe::load(file);
  ASSERT_EQ(recipe.transforms.size(), 2U);
  EXPECT_EQ(*std::get<SmoothOptions>(recipe.transforms[0]).alpha, 0.7);
  const auto& rotate = std::get<RotateOptions>(recipe.transforms[1]);
  EXPECT_TRUE(!rotate.residual_stream && rotate.down_input && !rotate.values);
  EXPECT_TRUE(rotate.massive_apart);
  EXPECT_EQ(rotate.seed, 3U);
  EXPECT_EQ(recipe.rounding.method, RoundingMethod::kGptq);
  EXPECT_EQ(recipe.rounding.damping, 0.1);
  EXPECT_TRUE(recipe.rounding.by_gradient);
  EXPECT_TRUE(recipe.rounding.bias_correction);
  EXPECT_FALSE(recipe.rounding.act_order);
  EXPECT_TRUE(recipe.needs_data());
  // Only inputs of down projections are transformed while running.
  for (const auto& [name, scheme] : apply_recipe(recipe, some_linears())) {
    EXPECT_EQ(scheme.hadamard_input.has_value(),
              name.starts_with("decoder.") && name.ends_with("down_proj"))
        << name;
  }
}

TEST(RecipeTest, MistakesOfTransformsAreNamed) {
  const std::string scheme = "name: r\ndefault: {weight: {bits: 4}, activation: {bits: 4}}\n";
  EXPECT_THAT(message_of(scheme + "transforms: {rotate: {}}\n"), HasSubstr("must be a list"));
  EXPECT_THAT(message_of(scheme + "transforms:\n  - turn: {}\n"),
              AllOf(HasSubstr("r.yaml:4"), HasSubstr("unknown key 'turn'")));
  EXPECT_THAT(message_of(scheme + "transforms:\n  - rotate: {angle: 3}\n"),
              HasSubstr("unknown key 'angle'"));
  EXPECT_THAT(message_of(scheme + "transforms:\n  - smooth: {alpha: 2}\n"),
              HasSubstr("'alpha': expected 0 to 1, got 2"));
  EXPECT_THAT(message_of(scheme + "transforms:\n  - smooth: {alpha: best}\n"),
              HasSubstr("'alpha' has the wrong type"));
  EXPECT_THAT(message_of(scheme + "transforms:\n  - awq: {alpha: 1}\n"),
              HasSubstr("unknown key 'alpha'"));
  EXPECT_THAT(message_of(scheme + "rounding: {method: best}\n"), HasSubstr("nearest, gptq"));
}

TEST(RecipeTest, KvCacheIsRead) {
  const std::string scheme = "name: r\ndefault: {weight: {bits: 4}}\n";
  EXPECT_THAT(message_of(scheme + "kv_cache: int3\n"),
              AllOf(HasSubstr("r.yaml:3"), HasSubstr("float32, bf16, int8, int4")));
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "r.yaml";
  std::ofstream(file) << scheme;
  EXPECT_FALSE(Recipe::load(file).kv_cache.has_value());
  std::ofstream(file, std::ios::app) << "kv_cache: int4\n";
  EXPECT_EQ(Recipe::load(file).kv_cache, KvFormat::kInt4);
}

TEST(RecipeTest, MistakesOfPrecisionAreNamed) {
  const std::string scheme = "name: r\ndefault: {weight: {bits: 4}, activation: {bits: 4}}\n";
  const std::string candidates = "candidates: [{weight: {bits: 8}}]";
  EXPECT_THAT(message_of(scheme + "precision: {target_bpw: 5}\n"),
              AllOf(HasSubstr("r.yaml:3"), HasSubstr("'candidates'")));
  EXPECT_THAT(
      message_of(scheme + "precision: {" + candidates + "}\n"),
      AllOf(HasSubstr("r.yaml:3"),
            HasSubstr("one of target_bpw, target_bytes, target_activation_bits and max_kl")));
  EXPECT_THAT(message_of(scheme + "precision: {" + candidates + ", target_bpw: 5, max_kl: 1}\n"),
              HasSubstr("one of target_bpw"));
  EXPECT_THAT(message_of(scheme + "precision: {" + candidates + ", max_kl: -1}\n"),
              HasSubstr("'max_kl': expected 0"));
  EXPECT_THAT(message_of(scheme + "precision: {" + candidates + ", target_bpw: 1e18}\n"),
              HasSubstr("'target_bpw': expected 1 to 32"));
  EXPECT_THAT(message_of(scheme + "precision: {candidates: [{weight: {bits: 9}}], max_kl: 1}\n"),
              HasSubstr("bits"));
}

TEST(RecipeTest, TargetsGoWithSchemesThatLeaveRoom) {
  const PrecisionTarget target{PrecisionTarget::Kind::kDivergence, 0.001};
  for (const char* scheme : {"W4A16", "W4A8", "W4A4"}) {
    const Recipe recipe = Recipe::preset(scheme, Preset::kFast, target);
    ASSERT_EQ(recipe.precision->candidates.size(), 1U);
    const LinearScheme& candidate = recipe.precision->candidates.front();
    EXPECT_EQ(candidate.weight.bits, 8);
    EXPECT_EQ(candidate.activation.has_value(), std::string_view(scheme) != "W4A16");
    EXPECT_TRUE(recipe.needs_data());
  }
  const PrecisionTarget inputs{PrecisionTarget::Kind::kActivationBits, 5.0};
  for (const char* scheme : {"W6A6", "W4A4"}) {
    const Recipe recipe = Recipe::preset(scheme, Preset::kBalanced, inputs);
    EXPECT_EQ(recipe.precision->candidates.front().weight, recipe.standard->weight);
    EXPECT_EQ(recipe.precision->candidates.front().activation->bits, 8);
  }
  const PrecisionTarget alike{PrecisionTarget::Kind::kActivationBits, 4.0};
  EXPECT_FALSE(Recipe::preset("W4A4", Preset::kBest, alike).precision.has_value());
  EXPECT_FALSE(Recipe::preset("W4A4", Preset::kFast, alike).needs_data());
  EXPECT_THROW(Recipe::preset("W4A8", Preset::kFast, inputs), Error);
  EXPECT_THROW(Recipe::preset("W4A16", Preset::kFast, inputs), Error);
  EXPECT_THROW(Recipe::preset("W6A6", Preset::kFast, target), Error);
  EXPECT_THROW(Recipe::preset("W8A8", Preset::kFast, target), Error);
}

TEST(RecipeTest, PresetsFitAndAskForDataOnlyWhereTheySay) {
  for (const char* scheme : {"W8A8", "W4A16", "w4a8", "W6A6", "W4A4"}) {
    for (const Preset preset : {Preset::kFast, Preset::kBalanced, Preset::kBest}) {
      const Recipe recipe = Recipe::preset(scheme, preset);
      EXPECT_EQ(apply_recipe(recipe, some_linears()).size(), 14U) << recipe.name;
      EXPECT_EQ(recipe.needs_data(), preset != Preset::kFast) << recipe.name;
      EXPECT_EQ(recipe.search.has_value(), preset == Preset::kBest) << recipe.name;
      const bool mixed = std::string_view(scheme) == "W4A4" && preset != Preset::kFast;
      EXPECT_EQ(recipe.precision.has_value(), mixed) << recipe.name;
      EXPECT_THAT(recipe.name, HasSubstr(preset_name(preset)));
      // Nothing while running at 8 bits, so that other programs read the result.
      for (const auto& [linear, applied] : apply_recipe(recipe, some_linears())) {
        const bool low = applied.activation && applied.activation->bits < 8;
        EXPECT_TRUE(low || !applied.hadamard_input) << recipe.name << " " << linear;
      }
    }
  }
  EXPECT_THROW(Recipe::preset("W5A5"), Error);
}

// These say of themselves that they are a preset in full.
TEST(RecipeTest, FilesOfPresetsAreWhatPresetsDo) {
  const auto same = [](const char* file, const Recipe& preset) {
    const fs::path folder = fs::path(QVLM_SOURCE_DIR) / "configs" / "recipes";
    EXPECT_EQ(recipe_to_json(Recipe::load(folder / file)).dump(), recipe_to_json(preset).dump());
  };
  same("qvlm-rotated-w4a4.yaml", Recipe::preset("W4A4", Preset::kBest));
  same("mixed-w4a4.yaml", Recipe::preset("W4A4", Preset::kBalanced, PrecisionTarget{.value = 4.5}));
}

TEST(RecipeTest, ActivationsPerChannelAreStatic) {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "r.yaml";
  std::ofstream(file) << "name: r\ndefault:\n  weight: {bits: 4}\n  activation: {bits: 4, "
                         "granularity: channel}\n";
  EXPECT_FALSE(Recipe::load(file).standard->activation->dynamic);
}

TEST(RecipeTest, KeysAreGivenOnce) {
  EXPECT_THAT(message_of("name: r\ndefault:\n  weight: {bits: 4, bits: 8}\n"),
              HasSubstr("'bits' is given twice"));
  EXPECT_THAT(message_of("name: r\n[a, b]: c\n"), HasSubstr("'a key' has the wrong type"));
}

TEST(RecipeTest, RecipesMadeInCodeAreChecked) {
  const LinearScheme no_group{{.granularity = Granularity::kGroup}, {}};
  EXPECT_THROW(apply_recipe({.name = "r", .standard = no_group}, some_linears()), Error);
  const Override broken{"(", std::nullopt};
  EXPECT_THROW(apply_recipe({.name = "r", .standard = LinearScheme{}, .overrides = {broken}},
                            some_linears()),
               Error);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refuses = [](const std::function<void(Recipe&)>& change, const char* what) {
    Recipe recipe = Recipe::preset("W4A4", Preset::kBalanced, PrecisionTarget{.value = 5.0});
    EXPECT_NO_THROW(apply_recipe(recipe, some_linears()));
    change(recipe);
    EXPECT_THAT([&] { apply_recipe(recipe, some_linears()); },
                ThrowsMessage<Error>(HasSubstr(what)));
  };
  refuses([](Recipe& recipe) { recipe.transforms = {SmoothOptions{5.0}}; }, "alpha");
  refuses([&](Recipe& recipe) { recipe.transforms = {SmoothOptions{nan}}; }, "alpha");
  refuses([](Recipe& recipe) { recipe.rounding.damping = 0.0; }, "damping");
  refuses([&](Recipe& recipe) { recipe.precision->target.value = nan; }, "target");
  refuses([](Recipe& recipe) { recipe.precision->target.value = 1e18; }, "target");
  refuses([](Recipe& recipe) { recipe.precision->candidates.clear(); }, "candidates");
}

TEST(RecipeTest, GroupsMustDivide) {
  const Recipe recipe{
      .name = "r",
      .standard = LinearScheme{{.granularity = Granularity::kGroup, .group_size = 128}, {}}};
  try {
    apply_recipe(recipe, {{"lm_head", 8, 96}});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("128"), HasSubstr("lm_head"), HasSubstr("96")));
  }
}

TEST(SchemeTest, ShortNames) {
  const Scheme grouped{.bits = 4, .granularity = Granularity::kGroup, .group_size = 128};
  const Scheme token{.bits = 8, .granularity = Granularity::kToken, .dynamic = true};
  EXPECT_EQ(describe({grouped, token}), "w4 g128 a8");
  EXPECT_EQ(describe({grouped, Scheme{.bits = 8, .granularity = Granularity::kTensor}}),
            "w4 g128 a8 static per tensor");
  EXPECT_EQ(describe({{.bits = 8, .symmetric = false}, {}}), "w8 asym");
}

}  // namespace
}  // namespace qvlm
