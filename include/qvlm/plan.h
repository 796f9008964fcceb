// Looking ahead of quantize(): what it would do to which linear, and what that takes. Writes
// nothing and reads headers only, so it ends in seconds, after the mistakes that quantize() would
// meet: of recipe, model, data and output folder. One is left to quantize(), as finding it means
// reading all weights: values that are not finite.
//
//   qvlm::QuantizePlan plan =
//       qvlm::plan_quantize("llava-1.5-7b-hf", qvlm::Recipe::load("w4a8.yaml"));
#pragma once

#include <qvlm/quantize.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qvlm {

struct PlannedLinear {
  std::string name;
  std::int64_t out = 0, in = 0;
  std::string scheme;  // "w4 g128 a8", "float"
  std::string rule;    // what in the recipe decided: the pattern of an override, or "default"
  std::int64_t source_bytes = 0, result_bytes = 0;  // of its tensors, without a bias
};

// The calibration samples that the recipe draws from the data.
struct PlannedData {
  std::int64_t items = 0;  // the data has
  CalibrationReport calibration;
};

// What the search costs, in layer-forwards: one decoder layer run on the samples that are searched.
// Times are estimates.
struct PlannedSearch {
  std::int64_t samples = 0;
  std::int64_t tokens = 0;        // of all samples; without data a guess
  double least_forwards = 0.0;    // every layer for itself
  double most_forwards = 0.0;     // blocks of max_depth everywhere
  double allowed_forwards = 0.0;  // by the recipe; infinite: a threshold was given
  // Of strategies that plan without measuring: what their blocks take.
  std::optional<double> planned_forwards;
  double forward_seconds = 0.0;  // one layer-forward
  double other_seconds = 0.0;    // vision tower, dependencies, trials behind the search

  double seconds(double forwards) const { return other_seconds + forwards * forward_seconds; }
};

// Bytes, about. What LibTorch takes for itself and pages of the source that the system can take
// back are not counted.
struct PlannedMemory {
  std::int64_t quantizing = 0;  // at the peak
  // Running the result on one sequence of so many positions.
  std::int64_t positions = 0;
  std::int64_t weights = 0, kv_cache = 0, activations = 0;

  std::int64_t running() const { return weights + kv_cache + activations; }
};

struct QuantizePlan {
  std::vector<PlannedLinear> linears;  // in data order
  std::int64_t source_bytes = 0;       // of all tensors, those beside the linears included
  std::int64_t result_bytes = 0;
  std::optional<PlannedData> data;      // where data was given
  std::optional<PlannedSearch> search;  // where the recipe searches
  double vision_encoder_seconds = 0.0;  // estimated; 0 where the recipe has no such step
  PlannedMemory memory;
  // Of the whole run, estimated from products and rounding measured just now on this machine; they
  // differ where it depends on measurements how much is searched.
  double least_seconds = 0.0, most_seconds = 0.0;
  double flops_per_second = 0.0;   // float32 matrix products, all threads
  std::vector<std::string> notes;  // what the numbers leave open, a sentence each
};

struct QuantizePlanOptions {
  std::filesystem::path data = {};  // as QuantizeOptions::data; empty: token counts are guessed
  std::filesystem::path out = {};   // where the result would go; empty: not checked
  bool overwrite = false;           // as QuantizeOptions::overwrite
};

// Throws as quantize() does, but for missing data and for what is not finite; kIo also where `out`
// cannot hold the result.
QuantizePlan plan_quantize(const std::filesystem::path& model,
                           const Recipe& recipe,
                           const QuantizePlanOptions& options = {});

}  // namespace qvlm
