// The vision encoder's part of a search run: optimizes it, from where the journal says that it was
// left, or repeats what it says.
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
  bool stopped = false;  // by stop_requested, which is asked behind every epoch
};

VisionRun run_vision_encoder(const Weights& root,
                             const ModelConfig& config,
                             const Recipe& recipe,
                             const LinearSchemes& schemes,
                             const CalibrationSamples& samples,
                             SearchJournal& journal,
                             const std::function<bool()>& stop_requested,
                             const ProgressCallback& progress);

}  // namespace qvlm
