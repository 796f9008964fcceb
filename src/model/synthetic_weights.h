// Made-up weights of any shape: the same for the same seed, finite, of sizes that keep activations
// within range, and cheap. Nothing can be learned from what they answer, only from how long it
// takes. Matrices are stored in bfloat16, as published models are.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/weight_source.h"

namespace qvlm {

class SyntheticWeights : public WeightSource {
 public:
  // schemes: of the linears that are quantized, by our names. Their codes and scales are made
  // directly, without a float weight to round.
  SyntheticWeights(std::map<std::string, LinearScheme> schemes, std::uint64_t seed);

  at::Tensor load(const std::string& name, c10::IntArrayRef shape) const override;
  std::optional<LinearScheme> find_scheme(const std::string& linear) const override;
  QuantizedWeight load_codes(const std::string& linear,
                             std::int64_t out,
                             std::int64_t in) const override;

 private:
  std::map<std::string, LinearScheme> schemes_;
  std::vector<float> values_;       // in [-1, 1); all weights repeat these
  std::vector<std::int8_t> bytes_;  // likewise all codes, before they are cut to their bits
};

}  // namespace qvlm
