// Weights out of a checkpoint's files. Pages of a file are let go as soon as what they hold has
// been copied, so that loading needs the memory of the weights and of one tensor.
#pragma once

#include <optional>

#include "io/quantized_checkpoint.h"
#include "model/weight_source.h"

namespace qvlm {

class CheckpointWeights : public WeightSource {
 public:
  // Throws what QuantizationConfig::load throws.
  explicit CheckpointWeights(Checkpoint checkpoint);

  at::Tensor load(const std::string& name, c10::IntArrayRef shape) const override;
  std::optional<LinearScheme> find_scheme(const std::string& linear) const override;
  // Also throws kCorrupt for another shape than asked for, kUnsupported like
  // load_quantized_weight().
  QuantizedWeight load_codes(const std::string& linear,
                             std::int64_t out,
                             std::int64_t in) const override;

 private:
  Checkpoint checkpoint_;
  std::optional<QuantizationConfig> quantization_;
};

}  // namespace qvlm
