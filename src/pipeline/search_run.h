// The part of quantize() that looks at data: samples, vision encoder, decoder search. It turns the
// recipe's schemes into schemes with clips and measured scales; writing them is quantize.cc's.
#pragma once

#include <qvlm/quantize.h>

#include "calib/samples.h"
#include "io/declare_quantization.h"
#include "io/hf_config.h"
#include "model/rounded_weights.h"
#include "pipeline/precision_units.h"
#include "pipeline/search_journal.h"
#include "search/trial_layer.h"

namespace qvlm {

struct SearchRun {
  LinearSchemes schemes;     // of all quantized linears
  RoundedLinears codes;      // of those that were not rounded to nearest
  ReplacedTensors replaced;  // of the tower's norm gains and biases, where they changed
  SearchReport report;
  bool stopped = false;
};

// What it works on; nothing but the first is owned.
struct SearchTask {
  std::shared_ptr<const WeightSource> floats;  // the float model
  const ModelConfig& config;
  const Recipe& recipe;                             // complete (pipeline/recipe.h)
  const LinearSchemes& schemes;                     // as the recipe gives them
  const std::optional<PrecisionChoice>& precision;  // where the recipe chooses
  const CalibrationSamples& samples;
};

// stop_requested: see QuantizeOptions.
SearchRun run_search(const SearchTask& task,
                     const std::function<bool()>& stop_requested,
                     SearchJournal& journal,
                     const ProgressCallback& progress);

}  // namespace qvlm
