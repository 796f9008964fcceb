// LLaVA's projector: two linears with an activation between, from vision features to decoder
// embeddings.
#pragma once

#include <vector>

#include "io/hf_config.h"
#include "model/weight_source.h"

namespace qvlm {

class Projector {
 public:
  Projector(const Weights& projector, const ModelConfig& config);
  at::Tensor forward(const at::Tensor& features) const;  // [tokens, features] -> [tokens, hidden]

  // Both linears in the order in which they compute; they may be replaced.
  std::vector<NamedLinear> linears();

 private:
  Activation activation_;
  Linear linear_1_, linear_2_;
};

}  // namespace qvlm
