// What a run of quantize() will take: layer-forwards, memory and time, from shapes and one quick
// measurement of this machine. Memory of running the result is model/memory_plan.h.
#pragma once

#include <qvlm/plan.h>

#include <map>
#include <string>

#include "io/hf_config.h"
#include "pipeline/precision_units.h"

namespace qvlm {

// What a run works on.
struct Workload {
  const ModelConfig& config;
  const Recipe& recipe;
  const std::map<std::string, LinearScheme>& schemes;  // of the linears that are quantized
  // The calibration samples: how many, the positions of all of them, the sum of the squares of
  // each one's positions, and how many have an image.
  std::int64_t samples = 0, tokens = 0;
  double square_tokens = 0.0;
  std::int64_t images = 0;
  std::int64_t stored_bytes = 2;  // of a weight's value in the files
};

// Positions of a sample on average, at least 1.
std::int64_t mean_tokens(const Workload& work);

// What this machine does in a second.
struct MachineSpeed {
  double flops = 0.0;    // of float32 matrix products, all threads
  double rounded = 0.0;  // weights rounded and encoded, one thread
  // Of threads that have one of so many samples each.
  double busy_flops(std::int64_t samples) const;
};

// Measures for about 0.3 s, on matrices of the model's shapes that are cut to a usual size.
MachineSpeed measure_speed(const Workload& work);

// REQUIRES: the recipe has a search. Throws kInvalidArgument for what the search or its plan would
// refuse.
PlannedSearch forecast_search(const Workload& work, const MachineSpeed& speed);

// Seconds of the optimization of the vision encoder. REQUIRES: the recipe has one.
double forecast_vision_encoder(const Workload& work, const MachineSpeed& speed);

// Float operations of one decoder layer, and of tower and projector, on all samples.
double decoder_flops(const Workload& work);
double vision_flops(const Workload& work);

// Seconds that measuring for mixed precision takes. REQUIRES: the recipe has it.
double forecast_precision(const Workload& work,
                          const PrecisionChoice& choice,
                          const MachineSpeed& speed);

// Seconds that GPTQ in the decoder, what tokens count by gradients, rounding of tower and projector
// by data, and measuring for smoothing add; 0 where the recipe has none.
double forecast_gptq(const Workload& work, const MachineSpeed& speed);
double forecast_token_weights(const Workload& work, const MachineSpeed& speed);
double forecast_encoder_rounding(const Workload& work, const MachineSpeed& speed);
double forecast_smoothing(const Workload& work, const MachineSpeed& speed);
// Seconds more where massive channels are found, which are made smaller then.
double forecast_massive(const Workload& work, const MachineSpeed& speed);

// Of all samples: the pixels, the outputs of the tower's layers; and the embedding table, wide.
std::int64_t pixel_bytes(const Workload& work);
std::int64_t tower_bytes(const Workload& work);
std::int64_t table_bytes(const Workload& work);

// Bytes that GPTQ in the decoder, and codes of tower and projector that are known, add to those of
// the search; that rounding tower and projector and smoothing take before it; and that transforms
// add to all that loads a tensor.
std::int64_t gptq_bytes(const Workload& work);
std::int64_t encoder_code_bytes(const Workload& work);
std::int64_t encoder_rounding_bytes(const Workload& work);
std::int64_t smoothing_bytes(const Workload& work);
std::int64_t transform_bytes(const Workload& work);

// Seconds that rounding and writing all linears take.
double forecast_writing(const Workload& work, const MachineSpeed& speed);

// Bytes at the peak of quantizing.
std::int64_t forecast_memory(const Workload& work);

}  // namespace qvlm
