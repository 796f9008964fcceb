// The weights of a float model as float32, linears included: what is made of them is differentiable
// in its input, which linears on 16-bit weights are not.
#pragma once

#include <string>
#include <utility>

#include "base/error.h"
#include "model/weight_source.h"

namespace qvlm {

class WideWeights : public WeightSource {
 public:
  // root: all weights of a float model.
  explicit WideWeights(Weights root) : root_(std::move(root)) {}

  at::Tensor load(const std::string& name, c10::IntArrayRef shape) const override {
    return root_.get(name, shape);
  }
  std::optional<LinearScheme> find_scheme(const std::string& /*linear*/) const override {
    return std::nullopt;
  }
  QuantizedWeight load_codes(const std::string& linear,
                             std::int64_t /*out*/,
                             std::int64_t /*in*/) const override {
    fail(ErrorKind::kInternal, linear, ": codes of a float model were asked for");
  }

 private:
  Weights root_;
};

}  // namespace qvlm
