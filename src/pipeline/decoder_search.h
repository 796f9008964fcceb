// The search of the whole decoder: dependencies, plan, then block after block, each from the inputs
// that the searched blocks below it left, against the float model's own trajectory. One block of
// layers is in memory at a time.
#pragma once

#include "pipeline/decoder_inputs.h"
#include "pipeline/dependencies.h"
#include "pipeline/search_journal.h"
#include "search/trial_layer.h"

namespace qvlm {

struct DecoderSearchOutcome {
  LinearSchemes schemes;  // of the decoder's quantized linears, with clips and static scales
  RoundedLinears codes;   // of them, where the study's rounding is not to nearest
  SearchReport report;    // blocks, plan, forwards and seconds; what concerns the data stays empty
  bool stopped = false;   // by stop_requested, after a block
};

// REQUIRES: the journal has a plan. stop_requested is asked after every block that was searched;
// may be empty.
DecoderSearchOutcome search_decoder(const DecoderStudy& study,
                                    const DecoderInputs& inputs,
                                    SearchJournal& journal,
                                    const std::function<bool()>& stop_requested);

// What the search of a block costs under these options.
SearchCost search_cost(const SearchOptions& options);

// The numbers that a strategy plans by, out of what was measured: entropies, mean errors of
// neighbours, or joint gains.
PlanNumbers make_plan_numbers(PlanStrategy strategy,
                              const LayerDependencies& measured,
                              const std::vector<JointGain>& gains);

// Measures what the strategy needs and plans. entropy: D of neighbouring layers, as measured.
struct PlannedDecoder {
  BlockPlan plan;
  std::vector<double> entropy;
};
PlannedDecoder plan_decoder(const DecoderStudy& study,
                            const PlanOptions& options,
                            const DecoderInputs& inputs);

}  // namespace qvlm
