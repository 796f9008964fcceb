#include "pipeline/analysis_verdict.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace qvlm {
namespace {

constexpr double kCollapsed = 0.9;  // level shares above: outliers have collapsed the codes

}  // namespace

bool is_collapsed(const LayerAnalysis& layer) {
  return layer.level_share > kCollapsed;
}

double measured_gain(const Analysis& analysis, std::int64_t first, int depth) {
  const auto d = static_cast<std::size_t>(depth - 1);
  if (depth == 1) return 0.0;
  for (const JointGainAnalysis& gain : analysis.joint_gains) {
    if (gain.first != first || d >= gain.greedy_error.size() || d >= gain.joint_error.size())
      continue;
    return gain.greedy_error[d] - gain.joint_error[d];
  }
  return std::numeric_limits<double>::quiet_NaN();
}

double measured_gain(const Analysis& analysis, const PlanAnalysis& plan) {
  double sum = 0.0;
  for (const PlannedBlock& block : plan.blocks)
    sum += measured_gain(analysis, block.first, block.depth);
  return sum;
}

std::vector<Pair> measured_pairs(const Analysis& analysis) {
  std::vector<Pair> pairs;
  for (std::size_t k = 0; k + 1 < analysis.decoder.size(); ++k) {
    const LayerAnalysis &layer = analysis.decoder[k], &next = analysis.decoder[k + 1];
    const auto first = static_cast<std::int64_t>(k);
    const Pair pair{first, layer.dependency, 0.5 * (layer.error + next.error),
                    measured_gain(analysis, first, 2), is_collapsed(layer) || is_collapsed(next)};
    if (std::isfinite(pair.gain)) pairs.push_back(pair);
  }
  return pairs;
}

Correlation correlate_pairs(const std::vector<Pair>& pairs, double Pair::*number) {
  std::vector<double> numbers, gains;
  for (const Pair& pair : pairs) {
    numbers.push_back(pair.*number);
    gains.push_back(pair.gain);
  }
  return correlate(numbers, gains);
}

const PlanAnalysis* find_plan(const Analysis& analysis, std::string_view strategy) {
  const auto plan = std::ranges::find(analysis.plans, strategy, &PlanAnalysis::strategy);
  return plan == analysis.plans.end() ? nullptr : &*plan;
}

std::int64_t count_joined(const PlanAnalysis& plan) {
  std::int64_t layers = 0;
  for (const PlannedBlock& block : plan.blocks)
    layers += block.depth > 1 ? block.depth : 0;
  return layers;
}

namespace {

// Chance: what 1 of 20 lists of numbers that say nothing would reach.
std::string quality_text(const Correlation& correlation) {
  const double chance = 1.96 / std::sqrt(static_cast<double>(correlation.count) - 1.0);
  if (std::abs(correlation.spearman) <= chance) return "no better than chance";
  if (correlation.spearman < 0.0) return "the wrong way round";
  return correlation.spearman >= 0.7 ? "well" : "to some degree";
}

std::string gains_verdict(const Analysis& analysis, const std::vector<Pair>& pairs) {
  const Correlation correlation = correlate_pairs(pairs, &Pair::dependency);
  const std::string count = format_count(correlation.count, "pair");
  if (correlation.count < 5 || std::isnan(correlation.spearman))
    return "Joint search was measured, but " + count +
           " of layers cannot tell whether entropy predicts its gain.";
  const std::string text = "Entropy predicts the gain of joint search " +
                           quality_text(correlation) + " (Spearman " +
                           format_fixed(correlation.spearman, 2) + " over " + count + ")";
  const PlanAnalysis *entropy = find_plan(analysis, "entropy"),
                     *oracle = find_plan(analysis, "oracle");
  if (entropy == nullptr || oracle == nullptr) return text + ".";
  const double share = measured_gain(analysis, *entropy) / measured_gain(analysis, *oracle);
  if (!std::isfinite(share)) return text + ".";
  return text + ", and its plan collects " + format_percent(share) + " of the best plan's gain.";
}

}  // namespace

std::string make_verdict(const Analysis& analysis) {
  const std::int64_t layers = std::ssize(analysis.decoder);
  const auto collapsed = std::ranges::count_if(analysis.decoder, is_collapsed);
  if (layers == 0) return "No decoder layer was measured.";
  if (layers == 1)
    return "There is one decoder layer, so there are no neighbours to search jointly.";
  if (2 * collapsed > layers)
    return join("Entropy says little about this model: outliers have collapsed the codes of ",
                collapsed, " of ", layers, " decoder layers.");
  const std::vector<Pair> pairs = measured_pairs(analysis);
  if (!pairs.empty()) return gains_verdict(analysis, pairs);
  std::vector<double> dependencies;
  for (std::int64_t k = 0; k + 1 < layers; ++k)
    dependencies.push_back(analysis.decoder[static_cast<std::size_t>(k)].dependency);
  const auto [low, high] = std::ranges::minmax(dependencies);
  const std::string range = "The dependency of neighbouring layers runs from " +
                            format_fixed(low, 2) + " to " + format_fixed(high, 2) + " nats";
  const PlanAnalysis* entropy = find_plan(analysis, "entropy");
  if (entropy == nullptr) return range + ".";
  return range + ", and planning by entropy searches " +
         join(count_joined(*entropy), " of ", layers) + " layers jointly with neighbours.";
}

}  // namespace qvlm
