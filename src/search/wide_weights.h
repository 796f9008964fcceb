// The weights of a float model as float32, linears included: what is made of them is differentiable
// in its input, which linears on 16-bit weights are not.
#pragma once

#include "model/weight_source.h"

namespace qvlm {

class WideWeights : public WeightSource {
 public:
  // root: all weights of a float model.
  explicit WideWeights(Weights root) : root_(std::move(root)) {}

  at::Tensor load(const std::string& name, c10::IntArrayRef shape) const override {
    return root_.get(name, shape);
  }
  std::optional<LinearScheme> find_scheme(const std::string&) const override { return {}; }
  // Throws kInternal: no linear has a scheme.
  QuantizedWeight load_codes(const std::string& linear,
                             std::int64_t out,
                             std::int64_t in) const override;

 private:
  Weights root_;
};

}  // namespace qvlm
