#include "pipeline/search_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "calib/samples.h"
#include "pipeline/decoder_search.h"
#include "pipeline/vision_run.h"

namespace qvlm {
namespace {

using Clock = std::chrono::steady_clock;

// Layer-forwards of the whole run, as far as they are known.
std::int64_t expected_forwards(const Recipe& recipe,
                               const ModelConfig& config,
                               const SearchJournal& journal) {
  const std::int64_t layers = config.text.layers;
  if (!recipe.search) return 0;
  const double search =
      journal.plan() ? journal.plan()->cost : cost_of_fixed(search_cost(*recipe.search), layers, 1);
  return layers + static_cast<std::int64_t>(std::ceil(search));
}

// Counts forwards and says how many there will be.
std::function<void(const std::string&)> count_forwards(const Recipe& recipe,
                                                       const ModelConfig& config,
                                                       const SearchJournal& journal,
                                                       const ProgressCallback& progress) {
  return [&, done = std::int64_t{0}](const std::string& what) mutable {
    ++done;
    if (progress)
      progress({done, std::max(done, expected_forwards(recipe, config, journal)), what});
  };
}

void take(const LinearSchemes& from, LinearSchemes& to) {
  for (const auto& [name, scheme] : from)
    to[name] = scheme;
}

}  // namespace

SearchRun run_search(const std::shared_ptr<const WeightSource>& floats,
                     const ModelConfig& config,
                     const Recipe& recipe,
                     const LinearSchemes& schemes,
                     const CalibrationSamples& samples,
                     const std::function<bool()>& stop_requested,
                     SearchJournal& journal,
                     const ProgressCallback& progress) {
  const auto start = Clock::now();
  const Weights root(floats, Execution::kFloat);
  SearchRun run{schemes, {}, {}, {}, false};
  VisionRun vision;
  if (recipe.vision_encoder) {
    vision = run_vision_encoder(root, config, recipe, schemes, samples, journal, stop_requested,
                                progress);
    run.stopped = vision.stopped;
    take(vision.schemes, run.schemes);
    run.norm_gains = std::move(vision.norm_gains);
  }
  if (recipe.search && !run.stopped) {
    const DecoderInputs inputs =
        run_to_decoder(floats, config, run.schemes, run.norm_gains, samples);
    const DecoderStudy study{root,
                             config,
                             schemes,
                             *recipe.search,
                             recipe.rounding,
                             recipe.plan.tau,
                             count_forwards(recipe, config, journal, progress)};
    DecoderSearchOutcome outcome =
        search_decoder(study, recipe.plan, inputs, journal, stop_requested);
    take(outcome.schemes, run.schemes);
    run.codes = std::move(outcome.codes);
    run.report = std::move(outcome.report);
    run.stopped = outcome.stopped;
  }
  if (recipe.vision_encoder && !vision.stopped) run.report.vision = std::move(vision.report);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  run.report.other_seconds = seconds - run.report.search_seconds;
  return run;
}

}  // namespace qvlm
