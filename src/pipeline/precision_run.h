// Mixed precision: measures what every unit of the decoder costs the answers under each candidate,
// then chooses. Behind the plan, whose blocks say which units are judged together, and before the
// search, which works on what is chosen here.
#pragma once

#include <qvlm/quantize.h>

#include <functional>
#include <set>
#include <string>

#include "pipeline/decoder_inputs.h"
#include "pipeline/dependencies.h"
#include "pipeline/precision_units.h"
#include "pipeline/search_journal.h"

namespace qvlm {

struct PrecisionRun {
  LinearSchemes schemes;                      // of the decoder's quantized linears
  std::set<std::string, std::less<>> raised;  // linears without the recipe's own scheme
  PrecisionReport report;
  bool stopped = false;  // by stop_requested, between layers; the journal keeps whole samples
};

// samples: how many of the inputs are looked at. REQUIRES: the journal has a plan. Throws
// kInvalidArgument for a target that no choice reaches, or samples without answers.
PrecisionRun choose_precision(const DecoderStudy& study,
                              const PrecisionChoice& choice,
                              const DecoderInputs& inputs,
                              std::int64_t samples,
                              SearchJournal& journal,
                              const std::function<bool()>& stop_requested);

}  // namespace qvlm
