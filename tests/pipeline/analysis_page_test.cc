// The page of an analysis: well-formed whatever the numbers are, and every number in its place.
#include "pipeline/analysis_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "pipeline/svg_plot.h"

namespace qvlm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

PlanAnalysis make_plan(const std::string& strategy, std::int64_t layers, int depth) {
  PlanAnalysis plan{strategy, std::nullopt, 61.0, 1.5, {}};
  for (std::int64_t first = 0; first < layers; first += depth) {
    const int left = static_cast<int>(std::min<std::int64_t>(depth, layers - first));
    plan.blocks.push_back({first, left, "reason of " + strategy});
  }
  return plan;
}

// `dependency` and `gain` of the pair (k, k + 1) grow with k; nothing is measured of the last
// layer.
Analysis make_analysis(std::int64_t layers, bool joint_gains) {
  Analysis analysis;
  analysis.model = "/models/tiny/";
  analysis.data = "data/manifest.json";
  analysis.recipe = "w4a8";
  analysis.calibration.samples = 64;
  analysis.calibration.image_tokens = 750;
  analysis.calibration.text_tokens = 200;
  analysis.calibration.answer_tokens = 50;
  analysis.budget = 1234.0;
  analysis.seconds = 185.2;
  for (std::int64_t k = 0; k < layers; ++k) {
    const auto x = static_cast<double>(k + 1);
    const double dependency = k + 1 < layers ? 1.0 + 0.1 * x : 0.0;
    analysis.decoder.push_back(
        {"decoder.layers." + std::to_string(k), 1.5, dependency, 0.25, 0.04, 0.001 * x});
    analysis.vision.push_back({"vision_tower.layers." + std::to_string(k), 1.5, 1.2, 0.25, 0.02});
    JointGainAnalysis gain{k, {0.5}, {0.5}};
    if (k + 1 < layers) {
      gain.greedy_error.push_back(1.0);
      gain.joint_error.push_back(1.0 - 1e-6 * x * x);
    }
    if (joint_gains) analysis.joint_gains.push_back(gain);
  }
  analysis.plans = {make_plan("none", layers, 1), make_plan("entropy", layers, 3)};
  analysis.plans.back().h0 = 1.3;
  if (joint_gains) analysis.plans.push_back(make_plan("oracle", layers, 2));
  return analysis;
}

std::size_t count_of(const std::string& page, const std::string& text) {
  std::size_t count = 0;
  for (std::size_t at = page.find(text); at != std::string::npos; at = page.find(text, at + 1))
    ++count;
  return count;
}

// The '>' that closes the tag which begins at `at`: not one in a quoted value.
std::size_t end_of_tag(const std::string& page, std::size_t at) {
  bool quoted = false;
  for (; at < page.size(); ++at) {
    if (page[at] == '"') quoted = !quoted;
    if (page[at] == '>' && !quoted) return at;
  }
  return std::string::npos;
}

// What is wrong with the nesting of tags and with entities; empty if nothing is.
std::string find_markup_error(const std::string& page) {
  std::vector<std::string> open;
  for (std::size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at)) {
    const std::size_t end = end_of_tag(page, at);
    if (end == std::string::npos) return "a tag has no end";
    const std::string tag = page.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(0, tag.find_first_of(" \n/", 1));
    at = end;
    if (tag.find('<') != std::string::npos) return "'<' in <" + tag + ">";
    if (name == "!DOCTYPE" || name == "meta" || tag.ends_with('/')) continue;
    if (!name.starts_with('/')) {
      open.push_back(name);
      continue;
    }
    if (open.empty() || "/" + open.back() != name) return "unexpected <" + name + ">";
    open.pop_back();
  }
  for (std::size_t at = page.find('&'); at != std::string::npos; at = page.find('&', at + 1)) {
    const std::size_t end = page.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789#", at + 1);
    if (end == std::string::npos || page[end] != ';' || end == at + 1) return "a bare '&'";
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

TEST(AnalysisPageTest, CheckerSeesMistakes) {
  EXPECT_EQ(find_markup_error("<!DOCTYPE html><p title=\"a > b\">&lt;<b/></p>"), "");
  EXPECT_NE(find_markup_error("<p><b></p></b>"), "");
  EXPECT_NE(find_markup_error("<p>"), "");
  EXPECT_NE(find_markup_error("<p>a & b</p>"), "");
}

TEST(AnalysisPageTest, IsWellFormedForEveryDepth) {
  for (const std::int64_t layers : {0, 1, 2, 12, 80}) {
    for (const bool gains : {false, true}) {
      const std::string page = make_analysis_page(make_analysis(layers, gains));
      EXPECT_EQ(find_markup_error(page), "") << layers << " layers, gains " << gains;
      EXPECT_TRUE(page.starts_with("<!DOCTYPE html>"));
      EXPECT_EQ(count_of(page, "<td>"), count_of(page, "</td>"));
    }
  }
}

TEST(AnalysisPageTest, StandsAlone) {
  const std::string page = make_analysis_page(make_analysis(12, true));
  EXPECT_THAT(page, AllOf(HasSubstr("charset=\"utf-8\""), HasSubstr("prefers-color-scheme: dark"),
                          Not(HasSubstr("http")), Not(HasSubstr("src=")), Not(HasSubstr("url(")),
                          Not(HasSubstr("<script")), Not(HasSubstr("<link"))));
  EXPECT_TRUE(
      std::ranges::all_of(page, [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
  EXPECT_EQ(count_of(page, "<svg"), 6u);  // 2 entropies, dependency, blocks, 2 gains
  EXPECT_EQ(count_of(page, "<svg role=\"img\" aria-label=\""), 6u);
}

TEST(AnalysisPageTest, EscapesEveryString) {
  const std::string evil = "a<&>\"'b", escaped = "a&lt;&amp;&gt;&quot;&#39;b";
  Analysis analysis = make_analysis(2, true);
  analysis.model = analysis.data = analysis.recipe = analysis.calibration.data_sha256 = evil;
  for (LayerAnalysis* layer : {&analysis.decoder[0], &analysis.vision[0]})
    layer->name = evil;
  analysis.plans[0].strategy = analysis.plans[0].blocks[0].reason = evil;
  const std::string page = make_analysis_page(analysis);
  EXPECT_EQ(find_markup_error(page), "");
  EXPECT_EQ(count_of(page, "a<&"), 0u);
  EXPECT_THAT(page, AllOf(HasSubstr("<h1>" + escaped + "</h1>"),
                          HasSubstr("<title>" + escaped + " - qvlm analyze</title>")));
  // 3 of the model, data, recipe, hash, 2 a layer, 4 of the strategy, 2 of the reason.
  EXPECT_EQ(count_of(page, escaped), 3u + 3u + 2u * 2u + 4u + 2u);
}

TEST(AnalysisPageTest, DrawsOneRectangleForEachBlock) {
  for (const std::int64_t layers : {1, 12, 80}) {
    const Analysis analysis = make_analysis(layers, true);
    std::size_t blocks = 0;
    for (const PlanAnalysis& plan : analysis.plans)
      blocks += plan.blocks.size();
    EXPECT_EQ(count_of(make_analysis_page(analysis), "<rect class=\"block\""), blocks);
  }
}

TEST(AnalysisPageTest, DrawsOneBarForEachPair) {
  const std::string page = make_analysis_page(make_analysis(12, false));
  // Blocks of 3 join 2 of 3 pairs; the rest are the 3 between blocks.
  EXPECT_EQ(count_of(page, "<rect class=\"bar accent\""), 8u);
  EXPECT_EQ(count_of(page, "<rect class=\"bar muted\""), 3u);
  EXPECT_EQ(count_of(page, "<line class=\"rule\""), 1u);
  EXPECT_THAT(page, HasSubstr("threshold h0 = 1.30"));
}

TEST(AnalysisPageTest, ShowsNoNumberThatIsNone) {
  std::vector<Analysis> analyses = {{}, make_analysis(1, true), make_analysis(0, true)};
  for (const double bad : {kInfinity, -kInfinity, kNan, 1e308, 5e-324}) {
    Analysis analysis = make_analysis(6, true);
    analysis.budget = analysis.tau = analysis.seconds = bad;
    for (LayerAnalysis& layer : analysis.decoder)
      layer.entropy = layer.dependency = layer.level_share = layer.forward_seconds = layer.error =
          bad;
    analysis.vision[2] = analysis.decoder[2];
    analysis.joint_gains[1].greedy_error[1] = bad;
    for (PlanAnalysis& plan : analysis.plans)
      plan.cost = plan.gain = bad;
    analysis.plans[1].h0 = bad;
    analyses.push_back(analysis);
  }
  for (const Analysis& analysis : analyses) {
    const std::string page = make_analysis_page(analysis);
    EXPECT_EQ(find_markup_error(page), "");
    EXPECT_THAT(page, AllOf(Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
  }
}

TEST(AnalysisPageTest, StatesTheFacts) {
  EXPECT_THAT(
      make_analysis_page(make_analysis(12, false)),
      AllOf(HasSubstr("<h1>tiny</h1>"), HasSubstr("image 75.0 %, text 20.0 %, answer 5.0 %"),
            HasSubstr("1 234 layer-forwards"), HasSubstr("3 min 5 s"),
            HasSubstr("runs from 1.10 to 2.10 nats"), HasSubstr("12 of 12 layers")));
}

TEST(AnalysisPageTest, ComparesWithGainsWhereTheyWereMeasured) {
  EXPECT_THAT(make_analysis_page(make_analysis(12, false)),
              AllOf(HasSubstr("--joint-gains"), Not(HasSubstr("Pearson"))));
  // Gains k^2 of dependencies that grow evenly in k = 1 .. 11: sums of squares around the means are
  // 110 and 16 698, of products 1 320.
  EXPECT_THAT(make_analysis_page(make_analysis(12, true)),
              AllOf(HasSubstr("Pearson 0.97, Spearman 1.00, 11 pairs"),
                    HasSubstr("joint search well (Spearman 1.00 over 11 pairs)"),
                    Not(HasSubstr("--joint-gains"))));
}

TEST(AnalysisPageTest, ComparesThePlanWithTheBestOne) {
  Analysis analysis = make_analysis(6, true);
  analysis.plans[1].blocks = {{0, 1, ""}, {1, 2, ""}, {3, 2, ""}, {5, 1, ""}};
  // Pairs 1 and 3 gain 4 + 16; those of the oracle, 0, 2 and 4, gain 1 + 9 + 25.
  EXPECT_THAT(make_analysis_page(analysis), HasSubstr("collects 57.1 % of the best plan"));
}

TEST(AnalysisPageTest, WarnsOfCollapsedCodes) {
  const std::string mark = "aria-label=\"warning\"";
  Analysis analysis = make_analysis(12, false);
  analysis.decoder[3].level_share = 0.9;
  EXPECT_EQ(count_of(make_analysis_page(analysis), mark), 0u);
  analysis.decoder[3].level_share = analysis.vision[1].level_share = 0.91;
  EXPECT_EQ(count_of(make_analysis_page(analysis), mark), 2u);
  for (LayerAnalysis& layer : analysis.decoder)
    layer.level_share = 0.95;
  EXPECT_THAT(make_analysis_page(analysis),
              HasSubstr("collapsed the codes of 12 of 12 decoder layers."));
}

TEST(SvgPlotTest, CorrelatesAsByHand) {
  // Deviations -1.5 -0.5 0.5 1.5 and -6.5 -3.5 1.5 8.5: 25 / sqrt(5 * 129).
  const Correlation squares = correlate({1, 2, 3, 4}, {1, 4, 9, 16});
  EXPECT_NEAR(squares.pearson, 25.0 / std::sqrt(645.0), 1e-12);
  EXPECT_NEAR(squares.spearman, 1.0, 1e-12);
  // Ranks 0 1.5 1.5 3 and 0 1 2 3, mean 1.5: 4.5 / sqrt(4.5 * 5); the NaN is left out.
  const Correlation ties = correlate({1, 2, kNan, 2, 3}, {1, 2, 9, 3, 4});
  EXPECT_NEAR(ties.spearman, 4.5 / std::sqrt(22.5), 1e-12);
  EXPECT_EQ(ties.count, 4);
  EXPECT_NEAR(correlate({1, 2}, {5, 3}).pearson, -1.0, 1e-12);
  EXPECT_TRUE(std::isnan(correlate({1, 1, 1}, {1, 2, 3}).pearson));
  EXPECT_TRUE(std::isnan(correlate({}, {}).spearman));
}

TEST(SvgPlotTest, AxesAreRoundAndCoverTheValues) {
  const Axis axis = make_value_axis("", {0.93, 2.07, kInfinity}, false);
  EXPECT_DOUBLE_EQ(axis.low, 0.5);
  EXPECT_DOUBLE_EQ(axis.high, 2.5);
  ASSERT_EQ(axis.ticks.size(), 5u);
  EXPECT_EQ(axis.ticks[1].label, "1.0");
  for (const std::vector<double>& values :
       {std::vector<double>{}, {0}, {3}, {-2}, {1e-7, 3e-7}, {-1e12, 4e12}, {1e9, 1e9 + 1e-6}}) {
    const Axis around = make_value_axis("", values, false);
    EXPECT_LT(around.low, around.high);
    EXPECT_GE(around.ticks.size(), 2u);
    EXPECT_LE(around.ticks.size(), 8u);
    for (const double value : values)
      EXPECT_TRUE(around.low <= value && value <= around.high) << value;
  }
  EXPECT_EQ(make_layer_axis("", 12).ticks.size(), 12u);
  EXPECT_EQ(make_layer_axis("", 80).ticks.back().label, "70");
}

TEST(SvgPlotTest, FormatsNumbers) {
  EXPECT_EQ(format_number(0.0), "0");
  EXPECT_EQ(format_number(-0.01234), "-0.0123");
  EXPECT_EQ(format_number(12.345), "12.3");
  EXPECT_EQ(format_number(9612800), "9 612 800");
  EXPECT_EQ(format_number(-123456), "-123 456");
  EXPECT_EQ(format_number(1.234e-6), "1.23e-06");
  EXPECT_EQ(format_number(kInfinity), "unlimited");
  EXPECT_EQ(format_number(kNan), "-");
  EXPECT_EQ(format_count(1, "block"), "1 block");
  EXPECT_EQ(format_percent(0.9837), "98.4 %");
  EXPECT_EQ(format_seconds(12.34), "12.3 s");
  EXPECT_EQ(format_seconds(119.7), "2 min 0 s");
  EXPECT_EQ(format_seconds(7640.0), "2 h 7 min");
}

}  // namespace
}  // namespace qvlm
