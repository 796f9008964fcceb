#include "pipeline/search_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "calib/samples.h"
#include "pipeline/decoder_search.h"

namespace qvlm {
namespace {

using Clock = std::chrono::steady_clock;

// Layer-forwards of the whole run, as far as they are known.
std::int64_t expected_forwards(const Recipe& recipe, const ModelConfig& config,
                               const SearchJournal& journal) {
  const std::int64_t layers = config.text.layers;
  const double search = journal.plan() ? journal.plan()->cost
                                       : cost_of_fixed(search_cost(*recipe.search), layers, 1);
  return layers + static_cast<std::int64_t>(std::ceil(search));
}

// Counts forwards and says how many there will be.
std::function<void(const std::string&)> count_forwards(const Recipe& recipe,
                                                       const ModelConfig& config,
                                                       const SearchJournal& journal,
                                                       const ProgressCallback& progress) {
  return [&, done = std::int64_t{0}](const std::string& what) mutable {
    ++done;
    if (progress) progress({done, std::max(done, expected_forwards(recipe, config, journal)), what});
  };
}

void describe_data(const CalibrationSamples& samples, const Manifest& manifest,
                   SearchReport& report) {
  const TokenShares shares = samples.shares();
  report.samples = static_cast<std::int64_t>(samples.samples.size());
  report.image_tokens = shares.image;
  report.text_tokens = shares.text;
  report.answer_tokens = shares.answer;
  report.data_sha256 = manifest.sha256;
}

}  // namespace

SearchRun run_search(const Checkpoint& checkpoint,
                     const Recipe& recipe,
                     const LinearSchemes& schemes,
                     const QuantizeOptions& options,
                     SearchJournal& journal,
                     const ProgressCallback& progress) {
  const auto start = Clock::now();
  const ModelConfig config = load_model_config(checkpoint);
  const Manifest manifest = Manifest::load(options.data);
  const CalibrationSamples samples = load_samples(
      checkpoint.folder(), manifest.sample(recipe.calibration.samples, recipe.calibration.seed));
  const DecoderInputs inputs = run_to_decoder(checkpoint, config, schemes, samples.samples);
  const Weights root(checkpoint, Execution::kFloat);
  const DecoderStudy study{root, config, schemes, *recipe.search, recipe.plan.tau,
                           count_forwards(recipe, config, journal, progress)};
  DecoderSearchOutcome outcome =
      search_decoder(study, recipe.plan, inputs, journal, options.stop_requested);
  SearchRun run{schemes, std::move(outcome.report), outcome.stopped};
  for (const auto& [name, scheme] : outcome.schemes)
    run.schemes[name] = scheme;
  describe_data(samples, manifest, run.report);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  run.report.other_seconds = seconds - run.report.search_seconds;
  return run;
}

}  // namespace qvlm
