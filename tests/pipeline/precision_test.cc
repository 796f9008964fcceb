// Mixed precision end to end: the target is kept, what was chosen is in the checkpoint, and a run
// that was stopped gives the same bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <qvlm/plan.h>
#include <qvlm/quantize.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/quantized_checkpoint.h"
#include "model/linear_list.h"
#include "pipeline/search_json.h"
#include "pipeline/stored_size.h"
#include "support/same_files.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Kind = PrecisionTarget::Kind;

class PrecisionTest : public testing::Test {
 protected:
  PrecisionTest() {
    make_tiny_model(path("model"), "sharded_head_dim");
    make_tiny_calibration(path("data.jsonl"), 8);
  }

  static LinearScheme scheme(int bits) {
    return {{.bits = bits},
            Scheme{.bits = bits, .granularity = Granularity::kToken, .dynamic = true}};
  }
  static Recipe recipe(PrecisionTarget target) {
    Recipe recipe{.name = "mixed", .standard = scheme(4)};
    recipe.overrides = {{"vision_tower\\..*|projector\\..*|lm_head", std::nullopt}};
    recipe.precision = PrecisionOptions{{scheme(8)}, target, 4};
    recipe.calibration.samples = 6;
    recipe.plan.max_depth = 2;
    recipe.search = SearchOptions{.activation_clip = {1, 0.8}, .held_out = false};
    return recipe;
  }

  fs::path path(const std::string& name) const { return folder_.path() / name; }
  QuantizeReport run(const std::string& out, const Recipe& recipe) const {
    return quantize(path("model"), path(out), recipe, {.data = path("data.jsonl")});
  }
  std::string message_of(const Recipe& recipe) const {
    try {
      run("refused", recipe);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      EXPECT_FALSE(fs::exists(path("refused")));
      return error.what();
    }
    return "";
  }

  TemporaryFolder folder_;
};

TEST_F(PrecisionTest, KeepsTheTargetOfBits) {
  double last = std::numeric_limits<double>::infinity();
  for (const double bits : {5.5, 6.5, 8.0}) {
    const PrecisionReport report =
        *run("out" + std::to_string(bits), recipe({Kind::kBitsPerWeight, bits})).search->precision;
    EXPECT_LE(report.bits_per_weight, bits);
    EXPECT_GT(report.bits_per_weight, report.least_bits);
    EXPECT_LT(report.divergence, last);
    EXPECT_LT(report.divergence, report.least_divergence);
    last = report.divergence;
  }
}

TEST_F(PrecisionTest, KeepsTheTargetOfBytesOfAllTensors) {
  Recipe plain = recipe({Kind::kBytes, 1.0});
  plain.precision.reset();
  const std::int64_t least = plan_quantize(path("model"), plain, {}).result_bytes;
  const std::int64_t target = least + 6000;
  const Recipe mixed = recipe({Kind::kBytes, static_cast<double>(target)});
  const QuantizePlan plan = plan_quantize(path("model"), mixed, {});
  EXPECT_EQ(plan.result_bytes, target);
  EXPECT_THAT(plan.notes.front(), HasSubstr("mixed precision"));
  const PrecisionReport report = *run("out", mixed).search->precision;
  const std::int64_t bytes = tensor_bytes(Checkpoint::open(path("out")));
  EXPECT_LE(bytes, target);
  EXPECT_GT(bytes, least);
  EXPECT_GT(report.raised, 0);
}

// Of activations alone: the weights stay as they are, and so does the size.
TEST_F(PrecisionTest, KeepsTheTargetOfActivationBits) {
  Recipe mixed = recipe({Kind::kActivationBits, 5.5});
  mixed.precision->candidates = {{{.bits = 4}, scheme(8).activation}};
  Recipe plain = mixed;
  plain.precision.reset();
  const QuantizePlan plan = plan_quantize(path("model"), mixed, {});
  EXPECT_EQ(plan.result_bytes, plan_quantize(path("model"), plain, {}).result_bytes);
  const PrecisionReport report = *run("out", mixed).search->precision;
  EXPECT_EQ(tensor_bytes(Checkpoint::open(path("out"))), plan.result_bytes);
  EXPECT_EQ(report.bits_per_weight, report.least_bits);
  EXPECT_LT(report.divergence, report.least_divergence);
  const auto stored = QuantizationConfig::load(Checkpoint::open(path("out")))->linears();
  double bits = 0.0, weights = 0.0;
  for (const LinearShape& linear :
       list_linears(load_model_config(Checkpoint::open(path("model"))))) {
    const auto found = stored.find(linear.name);
    if (found == stored.end()) continue;
    const auto values = static_cast<double>(linear.out * linear.in);
    EXPECT_EQ(found->second.weight.bits, 4);
    bits += values * found->second.activation->bits;
    weights += values;
  }
  EXPECT_DOUBLE_EQ(*report.bits_per_activation, bits / weights);
  EXPECT_GT(bits / weights, 4.0);
  EXPECT_LE(bits / weights, 5.5);
  Recipe larger = mixed;
  larger.precision->candidates.push_back(scheme(8));
  EXPECT_THAT(message_of(larger), HasSubstr("counts no bytes"));
  mixed.precision->target.value = 3.0;
  EXPECT_THAT(message_of(mixed), HasSubstr("bits an activation"));
}

TEST_F(PrecisionTest, TakesTheFewestBitsForADivergence) {
  const PrecisionReport four = *run("a", recipe({Kind::kDivergence, 1e6})).search->precision;
  EXPECT_EQ(four.raised, 0);
  EXPECT_EQ(four.bits_per_weight, four.least_bits);
  const double wanted = four.divergence / 4;
  const PrecisionReport report = *run("b", recipe({Kind::kDivergence, wanted})).search->precision;
  EXPECT_LE(report.divergence, wanted);
  EXPECT_GT(report.raised, 0);
}

TEST_F(PrecisionTest, TheCheckpointHasWhatWasChosen) {
  const QuantizeReport report = run("out", recipe({Kind::kBitsPerWeight, 6.5}));
  const Checkpoint out = Checkpoint::open(path("out"));
  const auto stored = QuantizationConfig::load(out)->linears();
  std::set<std::string> seen;
  for (const UnitPrecision& unit : report.search->precision->units) {
    seen.insert(unit.scheme);
    for (const std::string& linear : unit.linears) {
      const LinearScheme& scheme =
          stored.at("decoder.layers." + std::to_string(unit.layer) + "." + linear);
      EXPECT_EQ(
          "w" + std::to_string(scheme.weight.bits) + " a" + std::to_string(scheme.activation->bits),
          unit.scheme.substr(0, 5));
      // Clips are searched for the recipe's own scheme.
      if (scheme.weight.bits > 4) {
        EXPECT_EQ(scheme.activation->clip_ratio, 1.0);
      }
    }
  }
  EXPECT_GT(seen.size(), 1U);
  ASSERT_TRUE(report.search->answer_divergence.has_value());
  EXPECT_GT(*report.search->answer_divergence, 0.0);
  const SearchReport read = search_from_json(Json::load(path("out") / "qvlm.json").get("search"));
  EXPECT_EQ(search_to_json(read).dump(), search_to_json(*report.search).dump());
}

TEST_F(PrecisionTest, AStoppedRunGivesTheSameBytes) {
  Recipe all = recipe({Kind::kBitsPerWeight, 6.5});
  all.rounding = {.method = RoundingMethod::kGptq, .by_gradient = true};
  all.transforms = {RotateOptions{}};
  all.precision->samples = 6;  // more than go down the decoder together
  run("whole", all);
  // While measuring, between samples, while tokens are weighed, while searching.
  for (const int stop_at : {1, 2, 3, 4, 5, 6}) {
    const std::string out = "parts" + std::to_string(stop_at);
    int asked = 0;
    QuantizeOptions options{.data = path("data.jsonl")};
    options.stop_requested = [&] { return ++asked == stop_at; };
    ASSERT_TRUE(quantize(path("model"), path(out), all, options).stopped);
    quantize(path("model"), path(out), all, {.data = path("data.jsonl"), .resume = true});
    expect_same_files(path("whole"), path(out));
  }
}

TEST_F(PrecisionTest, RunsWithoutASearch) {
  Recipe only = recipe({Kind::kBitsPerWeight, 6.5});
  only.search.reset();
  EXPECT_GT(run("out", only).search->precision->raised, 0);
}

TEST_F(PrecisionTest, RefusesTargetsThatNothingReaches) {
  EXPECT_THAT(message_of(recipe({Kind::kBitsPerWeight, 2.0})),
              HasSubstr("the smallest candidates"));
  EXPECT_THAT(message_of(recipe({Kind::kBytes, 1000})), HasSubstr("the smallest candidates"));
  EXPECT_THAT(message_of(recipe({Kind::kDivergence, 0.0})), HasSubstr("no combination"));
  EXPECT_THROW(plan_quantize(path("model"), recipe({Kind::kBytes, 1000}), {}), Error);
  Recipe asymmetric = recipe({Kind::kBitsPerWeight, 6.5});
  asymmetric.precision->candidates.front().activation->symmetric = false;
  EXPECT_THAT(message_of(asymmetric), HasSubstr("activations must be symmetric"));
  Recipe groups = recipe({Kind::kBitsPerWeight, 5.0});
  groups.precision->candidates.front().weight = {
      .bits = 4, .granularity = Granularity::kGroup, .group_size = 128};
  EXPECT_THAT(message_of(groups), HasSubstr("group_size 128 does not divide"));
}

}  // namespace
}  // namespace qvlm
