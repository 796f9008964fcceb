#include <qvlm/analyze.h>

#include <chrono>

#include "base/error.h"
#include "pipeline/decoder_search.h"
#include "pipeline/recipe.h"
#include "pipeline/source_check.h"
#include "pipeline/transform_run.h"
#include "search/encoder_rounding.h"
#include "search/neighbour_entropy.h"
#include "tensor/public_call.h"

namespace qvlm {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The vision tower's layers, in float: entropies only.
std::vector<LayerAnalysis> analyze_vision(const Weights& root,
                                          const ModelConfig& config,
                                          std::vector<StreamedSample> samples,
                                          double tau) {
  std::erase_if(samples, [](const StreamedSample& sample) { return !sample.pixels.defined(); });
  std::vector<LayerAnalysis> layers;
  if (samples.empty()) return layers;
  NeighbourEntropy entropy(tau);
  for (const Unit& unit : list_units(config)) {
    if (unit.kind == UnitKind::kProjector) break;
    const auto start = std::chrono::steady_clock::now();
    run_unit(unit, root, config, samples);
    if (unit.kind != UnitKind::kVisionLayer) continue;
    layers.push_back({.name = unit.name, .forward_seconds = seconds_since(start)});
    States states;
    for (const StreamedSample& sample : samples)
      states.push_back(sample.hidden);
    entropy.add(states);
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    layers[i].entropy = entropy.entropy()[i];
    layers[i].level_share = entropy.level_share()[i];
    if (i + 1 < layers.size()) layers[i].dependency = entropy.dependency()[i];
  }
  return layers;
}

std::vector<LayerAnalysis> describe_decoder(const DecoderStudy& study,
                                            const LayerDependencies& measured) {
  std::vector<LayerAnalysis> layers;
  const std::vector<Unit> units = decoder_units(study.config);
  for (std::size_t i = 0; i < units.size(); ++i) {
    layers.push_back({units[i].name, measured.entropy[i],
                      i + 1 < units.size() ? measured.dependency[i] : 0.0, measured.level_share[i],
                      measured.forward_seconds[i], measured.error[i]});
  }
  return layers;
}

PlanAnalysis describe_plan(const BlockPlan& plan) {
  PlanAnalysis result{std::string(strategy_name(plan.strategy)), plan.h0, plan.cost, plan.gain, {}};
  for (const Block& block : plan.blocks)
    result.blocks.push_back({block.first, block.depth, block.reason});
  return result;
}

// Every strategy whose numbers are there.
std::vector<PlanAnalysis> make_plans(const PlanOptions& recipe_options,
                                     const LayerDependencies& measured,
                                     const std::vector<JointGain>& gains,
                                     const SearchCost& cost) {
  std::vector<PlanAnalysis> plans;
  for (const PlanStrategy strategy :
       {PlanStrategy::kNone, PlanStrategy::kFixed, PlanStrategy::kRandom, PlanStrategy::kError,
        PlanStrategy::kEntropy, PlanStrategy::kOracle}) {
    if (strategy == PlanStrategy::kOracle && gains.empty()) continue;
    PlanOptions options = recipe_options;
    options.strategy = strategy;
    if (strategy != PlanStrategy::kEntropy) options.h0.reset();  // a threshold on entropies
    plans.push_back(
        describe_plan(make_plan(options, make_plan_numbers(strategy, measured, gains), cost)));
  }
  return plans;
}

Analysis run_analysis(const std::filesystem::path& model,
                      const std::filesystem::path& data,
                      const Recipe& recipe,
                      const AnalyzeOptions& options,
                      const ProgressCallback& progress) {
  const auto start = std::chrono::steady_clock::now();
  require(recipe.search.has_value(), ErrorKind::kInvalidArgument, "recipe '", recipe.name,
          "' has no 'search', whose candidates an analysis needs");
  const Checkpoint checkpoint = Checkpoint::open(model);
  const ModelConfig config = load_model_config(checkpoint);
  check_source(checkpoint, list_linears(config));
  const auto applied = apply_recipe(recipe, list_linears(config));
  const LinearSchemes schemes(applied.begin(), applied.end());
  const Manifest manifest = Manifest::load(data);
  const CalibrationSamples samples =
      load_samples(model, manifest.sample(recipe.calibration.samples, recipe.calibration.seed));

  if (rounds_encoder(schemes, recipe.rounding)) check_images(samples.samples);
  Analysis result{.model = model.string(), .data = data.string(), .recipe = recipe.name};
  result.calibration = describe_samples(samples, manifest);
  const auto floats = transform_weights(checkpoint, recipe, schemes, samples, progress).weights;
  const Weights root(floats, Execution::kFloat);
  const SearchCost cost = search_cost(*recipe.search);
  result.tau = recipe.plan.tau;
  result.max_depth = recipe.plan.max_depth;
  result.budget = allowed_forwards(recipe.plan, cost, config.text.layers);
  const bool importance = options.joint_gains && recipe.search->by_gradient;
  const double forwards = 2.0 + (importance ? kImportanceForwards : 0.0) +
                          (options.joint_gains ? cost.of_block(recipe.plan.max_depth) : 0.0);
  const auto total = static_cast<std::int64_t>(forwards * double(config.text.layers));
  std::int64_t done = 0;
  DecoderStudy study{root,
                     config,
                     schemes,
                     *recipe.search,
                     recipe.rounding,
                     recipe.plan.tau,
                     [&](const std::string& what) {
                       ++done;
                       if (progress) progress({done, std::max(done, total), what});
                     }};
  result.vision = analyze_vision(root, config, samples.samples, recipe.plan.tau);
  EncoderRounding tower;
  if (rounds_encoder(schemes, recipe.rounding))
    tower = round_encoder({floats, config, schemes, {}, recipe.rounding}, samples.samples);
  const DecoderInputs inputs =
      run_to_decoder(floats, config, schemes, tower.replaced, tower.codes, samples);
  const LayerDependencies measured = measure_dependencies(
      study, inputs.rounded, {.errors = true, .statistics = !options.statistics.empty()});
  if (!options.statistics.empty()) InputStatistics::save(options.statistics, measured.statistics);
  result.decoder = describe_decoder(study, measured);
  std::vector<JointGain> gains;
  if (options.joint_gains) {
    if (importance) study.importance = measure_token_importance(study, inputs);
    gains = measure_joint_gains(study, inputs, recipe.plan.max_depth);
  }
  for (std::size_t i = 0; i < gains.size(); ++i) {
    result.joint_gains.push_back(
        {static_cast<std::int64_t>(i), gains[i].greedy_error, gains[i].joint_error});
  }
  result.plans = make_plans(recipe.plan, measured, gains, cost);
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace

Analysis analyze(const std::filesystem::path& model,
                 const std::filesystem::path& data,
                 const Recipe& recipe,
                 const AnalyzeOptions& options,
                 const ProgressCallback& progress) {
  return public_call([&] { return run_analysis(model, data, recipe, options, progress); });
}

}  // namespace qvlm
