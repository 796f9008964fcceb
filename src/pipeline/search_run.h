// The part of quantize() that looks at data: samples, vision encoder, decoder search. It turns the
// recipe's schemes into schemes with clips and measured scales; writing them is quantize.cc's.
#pragma once

#include <qvlm/quantize.h>

#include "calib/manifest.h"
#include "io/declare_quantization.h"
#include "io/hf_config.h"
#include "model/rounded_weights.h"
#include "pipeline/search_journal.h"

namespace qvlm {

struct SearchRun {
  LinearSchemes schemes;       // of all quantized linears
  ReplacedTensors norm_gains;  // of the tower, where they were learned
  SearchReport report;
  bool stopped = false;
};

// schemes: as the recipe gives them. stop_requested: see QuantizeOptions.
SearchRun run_search(const Checkpoint& checkpoint,
                     const Recipe& recipe,
                     const LinearSchemes& schemes,
                     const Manifest& manifest,
                     const std::function<bool()>& stop_requested,
                     SearchJournal& journal,
                     const ProgressCallback& progress);

}  // namespace qvlm
