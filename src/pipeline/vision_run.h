// The vision encoder's part of a search run: optimizes it, or repeats what the journal says.
#pragma once

#include "calib/samples.h"
#include "io/declare_quantization.h"
#include "model/rounded_weights.h"
#include "pipeline/search_journal.h"

namespace qvlm {

struct VisionRun {
  LinearSchemes schemes;       // of the tower's quantized linears, with new clips
  ReplacedTensors norm_gains;  // by whole names; empty unless they are learned
  VisionReport report;
};

VisionRun run_vision_encoder(const Weights& root,
                             const ModelConfig& config,
                             const Recipe& recipe,
                             const LinearSchemes& schemes,
                             const CalibrationSamples& samples,
                             SearchJournal& journal,
                             const ProgressCallback& progress);

}  // namespace qvlm
