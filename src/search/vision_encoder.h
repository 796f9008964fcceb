// Visual-encoder optimization (Q-VLM, section 3.3): moves the clip ratios of the vision tower's
// quantizers, and by recipe the gains of its norms, by gradient on calibration data. The loss is
// search/vision_encoder_loss.h; choices beyond the paper: docs/method.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "search/adam.h"
#include "search/vision_encoder_loss.h"

namespace qvlm {

struct VisionEncoderOutcome {
  // What was kept: the tower's quantized linears with new clips and, if they were learned, new
  // gains, both by whole names.
  LinearSchemes schemes;
  std::map<std::string, at::Tensor> norm_gains;
  VisionReport report;
  bool stopped = false;  // by on_epoch; the rest is empty then
};

// What a run has come to behind an epoch: enough to go on from there to the same bits.
struct VisionEncoderState {
  std::vector<at::Tensor> logarithms;  // of the tower's parameters, float64; empty: the beginning
  AdamState adam;
  VisionReport report;  // epochs so far
};

// Called behind every epoch; false ends the run there.
using EpochCallback = std::function<bool(const VisionEncoderState&)>;

// How often on_step will be called by a run from this start.
std::int64_t count_steps(const VisionEncoderStudy& study, const VisionEncoderState& start = {});

// Runs the epochs that the options ask for, less those that `start` has behind it; the same numbers
// on any number of threads. What on_step throws goes through. Throws kInvalidArgument where nothing
// can be learned or no sample has an image, kUnsupported for static activations in tower or
// projector, kCorrupt where the loss is not finite. Not for callers in inference mode: gradients
// need tensors that were made outside it.
VisionEncoderOutcome optimize_vision_encoder(const VisionEncoderStudy& study,
                                             const VisionEncoderState& start = {},
                                             const EpochCallback& on_epoch = {});

}  // namespace qvlm
