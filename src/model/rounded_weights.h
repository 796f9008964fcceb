// Float weights as a recipe rounds them, to nearest or by codes that are known already: what the
// quantized model will load, before it is written.
#pragma once

#include "io/declare_quantization.h"
#include "model/weight_source.h"

namespace qvlm {

// Tensors that take the place of the float weights' own, by our names; of the same shape.
using ReplacedTensors = std::map<std::string, at::Tensor>;
// Codes of linears that are not rounded to nearest, by our names.
using RoundedLinears = std::map<std::string, QuantizedWeight, std::less<>>;

class RoundedWeights : public WeightSource {
 public:
  // schemes: of the linears that are rounded.
  RoundedWeights(std::shared_ptr<const WeightSource> floats,
                 LinearSchemes schemes,
                 ReplacedTensors replaced = {},
                 RoundedLinears codes = {});

  at::Tensor load(const std::string& name, c10::IntArrayRef shape) const override;
  std::optional<LinearScheme> find_scheme(const std::string& linear) const override;
  QuantizedWeight load_codes(const std::string& linear,
                             std::int64_t out,
                             std::int64_t in) const override;

 private:
  std::shared_ptr<const WeightSource> floats_;
  LinearSchemes schemes_;
  ReplacedTensors replaced_;
  RoundedLinears codes_;
};

}  // namespace qvlm
