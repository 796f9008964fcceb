#include "pipeline/search_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "calib/samples.h"
#include "model/vit.h"
#include "pipeline/decoder_search.h"
#include "pipeline/precision_run.h"
#include "pipeline/recipe.h"
#include "pipeline/vision_run.h"
#include "search/encoder_rounding.h"
#include "search/token_importance.h"

namespace qvlm {
namespace {

using Clock = std::chrono::steady_clock;

// Layer-forwards of the whole run, as far as they are known.
std::int64_t expected_forwards(const SearchTask& task, const SearchJournal& journal) {
  if (!task.recipe.search) return 0;
  const std::int64_t layers = task.config.text.layers;
  std::int64_t forwards = layers;  // of the dependencies
  if (task.precision) forwards += precision_forwards(*task.precision, layers);
  if (weighs_by_gradient(task.recipe)) forwards += kImportanceForwards * layers;
  const double search = journal.plan() ? journal.plan()->cost
                                       : cost_of_fixed(search_cost(*task.recipe.search), layers, 1);
  return forwards + static_cast<std::int64_t>(std::ceil(search));
}

// Counts forwards and says how many there will be.
std::function<void(const std::string&)> count_forwards(const SearchTask& task,
                                                       const SearchJournal& journal,
                                                       const ProgressCallback& progress) {
  return [&, done = std::int64_t{0}](const std::string& what) mutable {
    ++done;
    if (progress) progress({done, std::max(done, expected_forwards(task, journal)), what});
  };
}

void take(const LinearSchemes& from, LinearSchemes& to) {
  for (const auto& [name, scheme] : from)
    to[name] = scheme;
}

// Vision tower and projector. Repeated by a resumed run, as the rounding of the decoder is.
void round_vision(const SearchTask& task,
                  const std::function<bool()>& stop_requested,
                  const ProgressCallback& progress,
                  SearchRun& run) {
  // Layers, embedding and projector.
  const auto count = [&, total = needed_vision_layers(task.config) + 2,
                      done = std::int64_t{0}]() mutable {
    if (progress) progress({++done, total, "vision tower"});
  };
  EncoderRounding rounded =
      round_encoder({task.floats, task.config, run.schemes, run.replaced, task.recipe.rounding},
                    task.samples.samples, count, stop_requested);
  run.stopped = rounded.stopped;
  run.codes = std::move(rounded.codes);
  run.replaced = std::move(rounded.replaced);
}

// Token weights, plan, precision and search of the decoder.
void search_all(const SearchTask& task,
                const DecoderInputs& inputs,
                DecoderStudy& study,
                SearchJournal& journal,
                const std::function<bool()>& stop_requested,
                SearchRun& run) {
  if (weighs_by_gradient(task.recipe)) {
    study.importance = measure_token_importance(study, inputs, stop_requested);
    run.stopped = study.importance.inputs.empty();
    if (run.stopped) return;
  }
  if (!journal.plan()) {
    const PlannedDecoder planned = plan_decoder(study, task.recipe.plan, inputs);
    journal.set_plan(planned.plan, planned.entropy);
  }
  std::optional<PrecisionReport> chosen;
  if (task.precision) {
    PrecisionRun precision = choose_precision(
        study, *task.precision, inputs, task.recipe.precision->samples, journal, stop_requested);
    run.stopped = precision.stopped;
    if (run.stopped) return;
    take(precision.schemes, run.schemes);
    study.unclipped = std::move(precision.raised);
    chosen = std::move(precision.report);
  }
  DecoderSearchOutcome outcome = search_decoder(study, inputs, journal, stop_requested);
  take(outcome.schemes, run.schemes);
  run.codes.merge(outcome.codes);
  run.report = std::move(outcome.report);
  run.report.precision = std::move(chosen);
  run.stopped = outcome.stopped;
}

}  // namespace

SearchRun run_search(const SearchTask& task,
                     const std::function<bool()>& stop_requested,
                     SearchJournal& journal,
                     const ProgressCallback& progress) {
  const auto start = Clock::now();
  const Recipe& recipe = task.recipe;
  const Weights root(task.floats, Execution::kFloat);
  SearchRun run{task.schemes, {}, {}, {}, false};
  VisionRun vision;
  if (recipe.vision_encoder) {
    vision = run_vision_encoder(root, task.config, recipe, task.schemes, task.samples, journal,
                                stop_requested, progress);
    run.stopped = vision.stopped;
    take(vision.schemes, run.schemes);
    run.replaced = std::move(vision.norm_gains);
  }
  if (!run.stopped && rounds_encoder(run.schemes, recipe.rounding))
    round_vision(task, stop_requested, progress, run);
  if (recipe.search && !run.stopped) {
    const DecoderInputs inputs = run_to_decoder(task.floats, task.config, run.schemes, run.replaced,
                                                run.codes, task.samples);
    DecoderStudy study{root,
                       task.config,
                       run.schemes,
                       *recipe.search,
                       recipe.rounding,
                       recipe.plan.tau,
                       count_forwards(task, journal, progress)};
    search_all(task, inputs, study, journal, stop_requested, run);
  }
  if (recipe.vision_encoder && !vision.stopped) run.report.vision = std::move(vision.report);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  run.report.other_seconds = seconds - run.report.search_seconds;
  return run;
}

}  // namespace qvlm
